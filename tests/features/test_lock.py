"""Lock files: one writer at a time, shared locks, and locks of processes that were killed."""

import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from corpora import Corpus
from features import FeatureSet, LockedError, Shard, extract_shard
from features.lock import locked
from files import OutputError

RunExtract = Callable[..., tuple[FeatureSet, int]]

ROOT = Path(__file__).parents[2]


def test_second_run_is_refused_until_the_first_has_ended(
    corpus: Corpus, tmp_path: Path, holder: Callable[[str], "subprocess.Popen[str]"], run_extract: RunExtract
) -> None:
    path = tmp_path / "x.pt"
    owner = holder(f"locked(Path({str(path)!r} + '.lock'))")
    with pytest.raises(LockedError, match=f"x.pt: process {owner.pid} on {socket.gethostname()} is writing there"):
        run_extract(corpus, path)
    assert not path.exists()
    owner.kill()
    owner.wait()
    assert (tmp_path / "x.pt.lock").exists()
    assert run_extract(corpus, path)[1] == 40
    assert [file.name for file in tmp_path.iterdir()] == ["x.pt"]


def test_second_thread_is_refused(corpus: Corpus, tmp_path: Path, run_extract: RunExtract) -> None:
    with locked(tmp_path / "x.pt.lock"), pytest.raises(LockedError, match="another thread of this process is writing"):
        run_extract(corpus, tmp_path / "x.pt")
    assert run_extract(corpus, tmp_path / "x.pt")[1] == 40


def test_complete_file_needs_no_lock_and_no_write_permission(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_extract: RunExtract, counting_encoder: Any
) -> None:
    run_extract(corpus, tmp_path / "x.pt")

    def refuse(*_: object, **__: object) -> None:
        raise OutputError("nothing may be written")

    monkeypatch.setattr("features.extraction.check_writable", refuse)
    monkeypatch.setattr("features.extraction.locked", refuse)
    assert run_extract(corpus, tmp_path / "x.pt")[1] == 0
    shard = extract_shard(corpus, counting_encoder(), tmp_path / "x.pt", shard=Shard(0, 2))
    assert isinstance(shard, FeatureSet)
    assert [file.name for file in tmp_path.iterdir()] == ["x.pt"]
    with pytest.raises(OutputError, match="nothing may be written"):
        run_extract(Corpus(corpus.utterances[:3], corpus.root, corpus.name), tmp_path / "x.pt")


def test_lock_names_its_owner_and_is_removed_at_the_end(tmp_path: Path) -> None:
    with locked(tmp_path / "a.lock", shared=True), locked(tmp_path / "b.lock"):
        assert "process" in (tmp_path / "a.lock").read_text()
    assert not list(tmp_path.iterdir())


def test_shared_locks_do_not_exclude_each_other(tmp_path: Path) -> None:
    code = (
        f"import sys, time; sys.path.insert(0, {str(ROOT)!r})\n"
        "from pathlib import Path\nfrom features.lock import locked\n"
        "end = time.monotonic() + 1.5\n"
        f"while time.monotonic() < end:\n    with locked(Path({str(tmp_path / 'x.lock')!r}), shared=True): pass"
    )
    both = [subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True) for _ in range(2)]
    for process in both:
        _, printed = process.communicate()
        assert process.returncode == 0, printed
