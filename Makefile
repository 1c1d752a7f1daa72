# Targets for a fresh machine with Python 3.11 or 3.12; `make` alone lists them.

PYTHON ?= $(shell for p in python3.12 python3.11 python3 python; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin

.PHONY: help demo test check docs clean

help:  ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 16

demo: .venv/installed  ## run the main job on the synthetic sample, with the encoder that needs no weights
	$(BIN)/python speaker_recognition_librispeech.py --data_dir sample/LibriSpeech --encoder spectral --output_dir outputs/demo
	$(BIN)/python speaker_recognition_inference.py --audio_path sample/held_out \
		--classifier outputs/demo/speaker_classifier_librispeech.pt --output outputs/demo/predictions.csv
	@echo "The results are in outputs/demo: report.html, metrics.json, metrics.csv, predictions.csv and the saved classifier."

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

.venv/bin/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or 3.12 is needed and was not found; make PYTHON=/path/to/python3.11 names one."; exit 1; }
	$(PYTHON) -m venv .venv

.venv/installed: requirements.txt | .venv/bin/python
	@echo "Installing the requirements into .venv: a few minutes, and up to 6 GB with CUDA's libraries ..."
	$(BIN)/python -m pip install --quiet -r requirements.txt
	touch $@

.venv/installed-dev: requirements-dev.txt .venv/installed
	$(BIN)/python -m pip install --quiet -r requirements-dev.txt
	touch $@
