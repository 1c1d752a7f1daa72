"""`make_report.py`: the report is made again from the results in a folder."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def test_report_made_again_is_the_same(trained: Path, call_script: Run, tmp_path: Path) -> None:
    again = tmp_path / "again"
    shutil.copytree(trained, again)
    (again / "report.html").unlink()
    done = call_script("make_report.py", "--output_dir", again)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"Saved {again / 'report.html'}\n"
    assert (again / "report.html").read_bytes() == (trained / "report.html").read_bytes()


def test_folder_without_results_is_refused(
    call_script: Run, assert_refused: Callable[..., None], tmp_path: Path
) -> None:
    assert_refused(call_script("make_report.py", "--output_dir", tmp_path), "metrics.json", "no results can be read")
