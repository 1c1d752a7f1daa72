"""The targets of the Makefile: what they would run, without installing anything."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


def make(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run make in a folder that has the Makefile and the lists of requirements, and nothing else."""
    for path in [ROOT / "Makefile", *ROOT.glob("requirements*.txt")]:
        shutil.copy2(path, folder)  # with its time, so that it stays older than what a test makes
    # A make that runs the tests passes its variables on.
    names = {"MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "CPU", "PYTHON"}
    environment = {name: value for name, value in os.environ.items() if name not in names}
    return subprocess.run(
        ["make", *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=60
    )


def pip_lines(printed: str) -> list[str]:
    return [line.partition(" -m pip install ")[2] for line in printed.splitlines() if " -m pip install " in line]


def test_cpu_takes_pytorch_from_its_own_index_and_the_rest_from_the_usual_one(tmp_path: Path) -> None:
    pytorch, others = pip_lines(make(tmp_path, "-n", "demo", "CPU=1", f"PYTHON={sys.executable}").stdout)
    assert "--index-url https://download.pytorch.org/whl/cpu" in pytorch
    assert "^torch(audio)?==" in pytorch
    assert "index" not in others
    assert others.endswith("-r requirements.txt")
    usual = make(tmp_path, "-n", "demo", f"PYTHON={sys.executable}").stdout
    assert "pytorch.org" not in usual
    assert len(pip_lines(usual)) == 2


def test_tests_install_the_reference_without_its_dependencies(tmp_path: Path) -> None:
    lines = pip_lines(make(tmp_path, "-n", "test", f"PYTHON={sys.executable}").stdout)
    assert lines[-1].endswith("--no-deps -r requirements-parts.txt")
    assert lines[-2].endswith("-r requirements-dev.txt")


def test_tests_install_the_packages_of_training(tmp_path: Path) -> None:
    listed = (ROOT / "requirements-dev.txt").read_text(encoding="utf-8").splitlines()
    assert {"-r requirements-extra.txt", "-r requirements-training.txt"} <= set(listed)
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    for step in ("made", "installed", "installed-dev"):
        (tmp_path / ".venv" / step).touch()
    assert pip_lines(make(tmp_path, "-n", "test").stdout) == []
    # When one of the lists is new, they are installed again.
    for name in ("extra", "training", "parts"):
        assert len(pip_lines(make(tmp_path, "-n", "-W", f"requirements-{name}.txt", "test").stdout)) == 2


def test_page_installs_gradio_and_enrols_speakers_once(tmp_path: Path) -> None:
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    for step in ("made", "installed"):
        (tmp_path / ".venv" / step).touch()
    printed = make(tmp_path, "-n", "page").stdout
    [gradio] = pip_lines(printed)
    assert "'^gradio==[^ ]+' requirements-extra.txt" in gradio
    assert "test -e outputs/demo/speakers.db || {" in printed
    assert printed.splitlines()[-1].endswith("app.py --store outputs/demo/speakers.db --results_dir outputs/demo")
    (tmp_path / ".venv" / "installed-page").touch()
    assert pip_lines(make(tmp_path, "-n", "page").stdout) == []


def test_interrupted_installation_starts_with_the_step_that_was_not_complete(tmp_path: Path) -> None:
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    printed = make(tmp_path, "-n", "demo").stdout
    assert "-m venv .venv" in printed
    (tmp_path / ".venv" / "made").touch()
    printed = make(tmp_path, "-n", "demo").stdout
    assert "-m venv .venv" not in printed
    assert len(pip_lines(printed)) == 2
    (tmp_path / ".venv" / "installed").touch()
    assert pip_lines(make(tmp_path, "-n", "demo").stdout) == []


def test_environment_without_cuda_stays_without_it(tmp_path: Path) -> None:
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "cpu").touch()
    lines = pip_lines(make(tmp_path, "-n", "test", f"PYTHON={sys.executable}").stdout)
    assert ["pytorch.org" in line for line in lines] == [True, False, True, False, False]
    assert "^torchvision==" in lines[2]


@pytest.mark.parametrize("is_complete", [True, False])
def test_environment_of_another_python_is_refused(is_complete: bool, tmp_path: Path) -> None:
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\necho Python 3.9.0\n")
    python.chmod(0o755)
    if is_complete:
        (tmp_path / ".venv" / "made").touch()
        (tmp_path / ".venv" / "installed").touch()
    done = make(tmp_path, "demo", f"PYTHON={sys.executable}")
    assert done.returncode != 0
    assert ".venv was made with Python 3.9.0, but" in done.stdout
    assert "Remove the folder .venv first." in done.stdout
    assert make(tmp_path, "clean", f"PYTHON={sys.executable}").returncode == 0


@pytest.mark.parametrize("python", ["", "no-such-python", "OLD"])
def test_absent_or_unsupported_python_is_reported(python: str, tmp_path: Path) -> None:
    if python == "OLD":
        old = tmp_path / "python3.9"
        old.write_text("#!/bin/sh\nexit 1\n")  # what the check of the version answers
        old.chmod(0o755)
        python = str(old)
    done = make(tmp_path, "demo", f"PYTHON={python}")
    assert done.returncode != 0
    assert f"Python 3.11 to 3.14 is needed; found: {python or 'none'}." in done.stdout
    assert not (tmp_path / ".venv").exists()
