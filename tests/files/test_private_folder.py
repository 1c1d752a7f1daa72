"""Temporary folders that end with their process, also if it is killed."""

import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from files import private_folder

ROOT = Path(__file__).parents[2]
HOLDER = """
import sys
sys.path.insert(0, sys.argv[1])
from files import private_folder
with private_folder("held_") as folder:
    (folder / "a.wav").write_text("audio")
    print(folder, flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder that this process and its children use for temporary files."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path


@pytest.fixture
def hold(temporary: Path) -> Iterator[Callable[[], tuple["subprocess.Popen[str]", Path]]]:
    """Return a function that starts a process which has a folder."""
    processes = []

    def start() -> tuple["subprocess.Popen[str]", Path]:
        command = [sys.executable, "-c", HOLDER, str(ROOT)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        processes.append(process)
        assert process.stdout is not None
        return process, Path(process.stdout.readline().strip())

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def test_only_the_user_can_read_the_folder_and_it_is_deleted_at_the_end(temporary: Path) -> None:
    with private_folder("held_") as folder:
        assert folder.parent == temporary.resolve()
        assert folder.stat().st_mode & 0o077 == 0
        (folder / "a.wav").touch()
    assert list(temporary.iterdir()) == []


def test_folder_is_deleted_after_an_error(temporary: Path) -> None:
    with pytest.raises(KeyboardInterrupt), private_folder("held_"):
        raise KeyboardInterrupt
    assert list(temporary.iterdir()) == []


def test_folder_of_a_killed_process_is_deleted_and_that_of_a_running_one_is_not(
    temporary: Path, hold: Callable[[], tuple["subprocess.Popen[str]", Path]]
) -> None:
    killed, left = hold()
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert (left / "a.wav").exists()
    _, held = hold()
    with private_folder("held_") as own:
        assert set(temporary.iterdir()) == {held, own}
        assert (held / "a.wav").exists()


def test_folders_of_others_with_the_same_prefix_stay(temporary: Path) -> None:
    (temporary / "held_by_hand").mkdir()
    (temporary / "held_by_hand" / "a.wav").touch()
    (temporary / "held_link").symlink_to(temporary / "held_by_hand")
    with private_folder("held_"):
        assert (temporary / "held_by_hand" / "a.wav").exists()
