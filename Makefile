# Targets for a fresh machine with Python 3.11 to 3.14; `make` alone lists them.

PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3.14 python3 python; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
# On Linux, PyTorch's own index has wheels without CUDA's libraries; elsewhere the default ones have none.
CPU_INDEX := https://download.pytorch.org/whl/cpu
TORCH := grep -hoE '^torch(audio)?==[^ ]+'
TORCHVISION := grep -hoE '^torchvision==[^ ]+'
GRADIO := grep -hoE '^gradio==[^ ]+'

DOWNLOAD_WEIGHTS := $(BIN)/python extract_features.py --encoder campplus --download_weights

# Three speakers are enrolled, and recordings of these and of a fourth are identified.
VERIFY := $(BIN)/python speaker_verification.py
STORE := --store outputs/demo/speakers.db
ENROL_THREE = for speaker in 9001 9002 9004; do \
	$(VERIFY) enroll $(STORE) --verifier ready --existing add --name $$speaker sample/LibriSpeech/synthetic/$$speaker; done
DEMO_ENROLMENT = rm -rf outputs/demo/speakers.db outputs/demo/asked; mkdir outputs/demo/asked; $(ENROL_THREE); \
	cp sample/held_out/9001_1.flac sample/held_out/9002_1.flac sample/held_out/9004_1.flac sample/held_out/9006_1.flac \
		outputs/demo/asked; \
	$(VERIFY) identify outputs/demo/asked $(STORE)

# An environment that was made with CPU=1 stays without CUDA.
CPU ?= $(if $(wildcard .venv/cpu),1)
IS_SUPPORTED := 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))'
REFUSE_PYTHON = { echo "Python 3.11 to 3.14 is needed; found: $(or $(PYTHON),none). Name one: make PYTHON=/path/to/python3.13"; exit 1; }
REFUSE_VENV = { echo ".venv was made with $$($(BIN)/python -V), but $(PYTHON) is $$("$(PYTHON)" -V). Remove the folder .venv first."; exit 1; }
HAS_SAME_PYTHON = test "$$("$(PYTHON)" -V)" = "$$($(BIN)/python -V)"

.PHONY: help demo page weights test check docs clean check-python

help:  ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 16
	@echo "  CPU=1         install PyTorch without CUDA on Linux: make demo CPU=1"
	@echo "  PYTHON=P      use this Python: make demo PYTHON=python3.13"

# Without its weights, the demo uses an encoder that needs none.
demo: .venv/installed  ## run the main jobs on the synthetic sample
	@set -e; encoder=campplus; $(DOWNLOAD_WEIGHTS) || { encoder=spectral; \
		echo "The weights of campplus are not available, so this demo uses the encoder spectral, which needs none."; }; \
	set -x; \
	$(BIN)/python speaker_recognition_librispeech.py sample/LibriSpeech --encoder $$encoder \
		--heads linear mlp centroid --output_dir outputs/demo; \
	$(BIN)/python speaker_recognition_inference.py sample/held_out \
		--classifier outputs/demo/speaker_classifier_librispeech.pt --output outputs/demo/predictions.csv; \
	if test $$encoder = campplus; then $(DEMO_ENROLMENT); fi
	@echo "The results are in outputs/demo: report.html, metrics.json, metrics.csv, predictions.csv and the saved classifier."
	@echo "Activate the environment for other commands: source .venv/bin/activate"

# A store that exists, perhaps with other speakers, stays as it is.
page: .venv/installed-page  ## start the page on the sample
	@set -e; mkdir -p outputs/demo; test -e outputs/demo/speakers.db || { $(DOWNLOAD_WEIGHTS); $(ENROL_THREE); }
	$(BIN)/python app.py $(STORE) --results_dir outputs/demo

weights: .venv/installed  ## download the weights of the encoder campplus (81 MB)
	$(DOWNLOAD_WEIGHTS)

test: .venv/installed-dev  ## run the tests
	$(BIN)/python -m pytest

check: .venv/installed-dev  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy .

docs: .venv/installed-dev  ## write the generated parts of the docs
	$(BIN)/python docs/write_flags.py

clean:  ## remove .venv and outputs
	rm -rf .venv outputs

# Each mark is made when its step is complete, so the same command continues an interrupted installation.
.venv/made:
	@"$(PYTHON)" -c $(IS_SUPPORTED) 2>/dev/null || $(REFUSE_PYTHON)
	@test ! -e $(BIN)/python || $(HAS_SAME_PYTHON) || $(REFUSE_VENV)
	$(PYTHON) -m venv .venv
	@touch $@

check-python: | .venv/made
ifeq ($(origin PYTHON), command line)
	@"$(PYTHON)" -c $(IS_SUPPORTED) 2>/dev/null || $(REFUSE_PYTHON)
	@$(HAS_SAME_PYTHON) || $(REFUSE_VENV)
endif

.venv/installed: requirements.txt | .venv/made check-python
	@echo "Installing PyTorch $(if $(CPU),without CUDA (about 0.8 GB on disk),(on Linux with CUDA: 4.7 GB on disk)) ..."
	@$(PIP) $(if $(CPU),--index-url $(CPU_INDEX)) $$($(TORCH) $<)
	@$(if $(CPU),touch .venv/cpu)
	@echo "Installing the other packages (0.6 GB on disk) ..."
	@$(PIP) -r $<
	@touch $@

.venv/installed-page: requirements-extra.txt .venv/installed
	@echo "Installing Gradio (0.2 GB on disk) ..."
	@$(PIP) $$($(GRADIO) $<)
	@touch $@

.venv/installed-dev: requirements-dev.txt requirements-extra.txt requirements-training.txt requirements-parts.txt .venv/installed
	@echo "Installing the packages of the tests (0.3 GB on disk) ..."
	@$(if $(CPU),$(PIP) --index-url $(CPU_INDEX) $$($(TORCHVISION) requirements-extra.txt))
	@$(PIP) -r requirements-dev.txt
	@$(PIP) --no-deps -r requirements-parts.txt
	@touch $@
