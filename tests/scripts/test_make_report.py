"""`make_report.py`: the report is made again from the results in a folder."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from features import FeatureSet

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def test_report_made_again_is_the_same(trained: Path, call_script: Run, tmp_path: Path) -> None:
    again = tmp_path / "again"
    shutil.copytree(trained, again)
    (again / "report.html").unlink()
    done = call_script("make_report.py", "--output_dir", again)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"Saved {again / 'report.html'}\n"
    assert (again / "report.html").read_bytes() == (trained / "report.html").read_bytes()


def test_tables_and_pictures_for_a_paper_are_made_from_saved_results(
    trained: Path, call_script: Run, tmp_path: Path
) -> None:
    folder = tmp_path / "paper"
    shutil.copytree(trained, folder)
    options = ["--table_format", "latex", "--picture_formats", "pdf", "svg"]
    done = call_script("make_report.py", folder, *options)
    assert done.returncode == 0, done.stderr
    table = (folder / "table.tex").read_text(encoding="utf-8")
    assert done.stdout == f"{table}Saved {folder / 'table.tex'}\nSaved {folder / 'report.html'}\n"
    assert r"\begin{tabular}" in table
    for name in ("head_accuracies", "confusion", "embedding_map"):
        assert (folder / f"{name}.pdf").read_bytes().startswith(b"%PDF")
        assert "<svg" in (folder / f"{name}.svg").read_text(encoding="utf-8")
    assert 'href="table.tex"' in (folder / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(("form", "name"), [("latex", "table.tex"), ("markdown", "table.md")])
def test_tables_made_again_are_the_same(form: str, name: str, call_script: Run, tmp_path: Path) -> None:
    labels = np.arange(4).repeat(10)
    vectors = np.random.default_rng(0).standard_normal((40, 2, 5))
    vectors[:, 1] += 4 * np.eye(4, 5)[labels]
    path = FeatureSet.from_arrays(vectors, labels).save(tmp_path / "layered.pt")
    options = ("--output_dir", tmp_path, "--table_format", form)
    done = call_script("speaker_recognition_librispeech.py", "--features_path", path, "--heads", "lda", *options)
    assert done.returncode == 0, done.stderr
    first = (tmp_path / name).read_bytes()
    assert b"layer (" in first
    (tmp_path / name).unlink()
    done = call_script("make_report.py", *options)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / name).read_bytes() == first
    assert done.stdout.encode().startswith(first)


def test_folder_without_results_is_refused(
    call_script: Run, assert_refused: Callable[..., None], tmp_path: Path
) -> None:
    for options in ([], ["--table_format", "latex"]):
        done = call_script("make_report.py", "--output_dir", tmp_path, *options)
        assert_refused(done, "metrics.json", "no results can be read")
