"""Versions that output files record."""

import importlib
import platform
import re
import shutil
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import torch
import yaml

from files import VERSION, commit, timestamp, versions

ROOT = Path(__file__).parents[2]
# `files.versions` is also the name of the function that `files` exports.
MODULE = importlib.import_module("files.versions")
needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return an empty folder that takes the place of the clone."""
    commit.cache_clear()
    folder = tmp_path / "clone"
    folder.mkdir()
    monkeypatch.setattr(MODULE, "ROOT", folder)
    yield folder
    commit.cache_clear()


def make_clone(folder: Path) -> None:
    """Make a git clone with one commit of one file."""
    (folder / "file").write_text("one")
    name = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
    for words in (["init", "--quiet"], ["add", "file"], [*name, "commit", "--quiet", "--message", "one"]):
        subprocess.run(["git", "-C", str(folder), *words], check=True, capture_output=True)


def test_version_is_that_of_the_file() -> None:
    assert (ROOT / "VERSION").read_text().strip() == VERSION
    assert re.fullmatch(r"\d+\.\d+\.\d+", VERSION)


def test_citation_file_is_complete_and_names_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["cff-version"] == "1.2.0"
    assert {"authors", "message", "title", "type", "license"} <= citation.keys()
    assert citation["version"] == VERSION
    # A version that is not released has no date, in the file as in the changelog.
    heading = re.search(rf"^## {re.escape(VERSION)} \((.*)\)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert heading is not None
    assert str(citation.get("date-released", "unreleased")) == heading[1]


def test_timestamp_is_the_time_in_utc() -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    assert before <= datetime.fromisoformat(timestamp()) <= datetime.now(UTC)


def test_versions_name_project_commit_and_packages() -> None:
    found = versions()
    assert found["voxprobe"] == VERSION
    assert found["commit"] == commit()
    assert found["python"] == platform.python_version()
    assert found["torch"].partition("+")[0] == torch.__version__.partition("+")[0]
    assert all(found[name] for name in ("numpy", "scikit-learn", "transformers", "soundfile", "soxr"))


def test_package_that_is_not_installed_has_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MODULE, "PACKAGES", ("torch", "no-such-package"))
    assert versions()["no-such-package"] == ""
    assert versions()["torch"]


@needs_git
def test_commit_is_empty_outside_of_a_clone(root: Path) -> None:
    # A repository around the project is not the project's own.
    make_clone(root.parent)
    assert commit() == ""


@needs_git
def test_commit_of_a_clone_has_12_digits_and_is_marked_dirty(root: Path) -> None:
    make_clone(root)
    first = commit()
    assert re.fullmatch(r"[0-9a-f]{12}", first)
    (root / "file").write_text("two")
    assert commit() == first  # read once per process
    commit.cache_clear()
    assert commit() == f"{first}-dirty"


def test_commit_is_empty_without_git(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / ".git").mkdir()
    monkeypatch.setenv("PATH", str(root))
    assert commit() == ""


def test_commit_is_empty_for_a_damaged_clone(root: Path) -> None:
    (root / ".git").mkdir()
    assert commit() == ""
