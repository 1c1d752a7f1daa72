"""What goes wrong while features are extracted: kills, full disks, dead workers, files that change or refuse."""

import builtins
import errno
import multiprocessing
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from audio import read_audio
from corpora import Corpus, Utterance, load_corpus
from encoders import load_encoder
from features import (
    AudioProvenance,
    FeatureSet,
    LockedError,
    OutputError,
    Shard,
    decoding,
    extract,
    extract_shard,
    worker,
)
from features.lock import locked
from features.parts import Block, PartFile, block_of, read_part

ROOT = Path(__file__).parents[2]
# Extracts slowly, saving often, with worker processes; the encoder counts in a file what it was given.
SLOW = """
import sys, time
sys.path.insert(0, {root!r})
import features.computing, features.decoding, features.extraction, features.pipeline
from corpora import load_corpus
from encoders import load_encoder

features.computing.SAVE_EVERY = 0.02
features.decoding.MANY = features.pipeline.MANY = 4
encoder = load_encoder("spectral", device="cpu")
encode = encoder.encode

def slow(waveforms, batch_size=None):
    time.sleep({seconds} * len(waveforms))
    with open({log!r}, "a") as file:
        file.write("x" * len(waveforms))
    return encode(waveforms, batch_size)

object.__setattr__(encoder, "encode", slow)
type(encoder).clips_per_call = property(lambda self: 2)
corpus = load_corpus({corpus!r})
print("begins", flush=True)
features.extraction.extract(corpus, encoder, {path!r}, progress=False, num_workers=2)
"""


class Counting:
    """`spectral`, counting the waveforms that it is given."""

    def __init__(self) -> None:
        self.n_encoded = 0
        self.inner = load_encoder("spectral", device="cpu")
        self.spec, self.sample_rate, self.clips_per_call = self.inner.spec, 16_000, 4

    def encode(self, waveforms: Sequence[Tensor], batch_size: int | None = None) -> Tensor:
        self.n_encoded += len(waveforms)
        return self.inner.encode(waveforms, batch_size)


def run(corpus: Corpus, path: Path, **options: int) -> tuple[FeatureSet, int]:
    counting = Counting()
    return extract(corpus, counting, path, progress=False, **options), counting.n_encoded  # type: ignore[arg-type]


@pytest.fixture
def many_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Decode in processes, however few the files are."""
    monkeypatch.setattr("features.decoding.MANY", 1)
    monkeypatch.setattr("features.pipeline.MANY", 1)


def test_a_run_that_is_killed_again_and_again_ends_as_if_it_was_not(
    corpus_root: Path, corpus: Corpus, features: FeatureSet, tmp_path: Path
) -> None:
    path, log = tmp_path / "out" / "x.pt", tmp_path / "log"
    code = SLOW.format(root=str(ROOT), corpus=str(corpus_root), path=str(path), log=str(log), seconds=0.04)
    chance = random.Random(0)
    n_kills = 0
    while not path.exists():
        writer = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        assert writer.stdout is not None
        assert writer.stdout.readline() == "begins\n"
        try:
            writer.wait(chance.uniform(0.1, 0.7) if n_kills < 5 else 60)
        except subprocess.TimeoutExpired:
            writer.kill()
            n_kills += 1
        assert writer.wait() in (0, -signal.SIGKILL)
        writer.stdout.close()
    assert n_kills > 1
    # A kill costs what the encoder had at that moment, and what was not saved yet.
    assert len(log.read_text()) <= len(corpus) + 8 * n_kills
    again, n_encoded = run(corpus, path)
    assert n_encoded == 0
    assert torch.equal(again.features, features.features)
    assert again.ids == features.ids
    assert torch.equal(again.labels, features.labels)
    assert [file.name for file in path.parent.iterdir()] == ["x.pt"]


def test_workers_do_not_outlive_a_killed_run(corpus_root: Path, tmp_path: Path) -> None:
    code = SLOW.format(
        root=str(ROOT), corpus=str(corpus_root), path=str(tmp_path / "x.pt"), log=str(tmp_path / "log"), seconds=1
    )
    writer = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    assert writer.stdout.readline() == "begins\n"
    children: list[int] = []
    while not children:
        listing = Path(f"/proc/{writer.pid}/task/{writer.pid}/children")
        if not listing.exists():
            pytest.skip("needs Linux's list of children")
        children = [int(number) for number in listing.read_text().split()]
    writer.kill()
    writer.wait()
    writer.stdout.close()
    until = time.monotonic() + 20
    while any(_is_alive(child) for child in children):
        assert time.monotonic() < until, "workers wait for a process that is dead"
        time.sleep(0.1)


def _is_alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_processes_and_threads_decode_the_same(
    corpus: Corpus, features: FeatureSet, tmp_path: Path, many_workers: None
) -> None:
    for workers in (0, 1, 3):
        found, _ = run(corpus, tmp_path / f"{workers}.pt", num_workers=workers)
        assert torch.equal(found.features, features.features)


def test_waveforms_without_a_shared_place_come_too(
    corpus: Corpus, features: FeatureSet, tmp_path: Path, many_workers: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "LONGEST_SHARED", 0.65)
    found, _ = run(corpus, tmp_path / "x.pt", num_workers=2)
    assert torch.equal(found.features, features.features)


@pytest.mark.parametrize("always", [False, True])
def test_a_worker_that_is_killed_costs_at_most_its_file(
    always: bool,
    corpus: Corpus,
    features: FeatureSet,
    tmp_path: Path,
    many_workers: None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    read, deadly = read_audio, corpus.utterances[21].path

    def read_or_die(path: Path, *arguments: object) -> Tensor:
        if path == deadly and (always or not (tmp_path / "died").exists()):
            (tmp_path / "died").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return read(path, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(worker, "read_audio", read_or_die)
    found, n_encoded = run(corpus, tmp_path / "x.pt", num_workers=2)
    assert "was killed" in caplog.text
    kept = [row for row in range(40) if not (always and row == 21)]
    assert n_encoded == len(kept)
    assert torch.equal(found.features, features.features[kept])
    assert [failed for failed, _ in found.failures] == [corpus.ids[21]] * always
    if always:
        assert "the process that decodes it is killed each time" in found.failures[0][1]
        monkeypatch.undo()
        mended, n_encoded = run(corpus, tmp_path / "x.pt")
        assert n_encoded == 1
        assert torch.equal(mended.features, features.features)


def test_a_worker_that_is_killed_while_the_encoder_works_is_replaced(
    corpus: Corpus, features: FeatureSet, tmp_path: Path, many_workers: None, caplog: pytest.LogCaptureFixture
) -> None:
    class Deadly(Counting):
        def encode(self, waveforms: Sequence[Tensor], batch_size: int | None = None) -> Tensor:
            if self.n_encoded in (4, 20):
                for child in multiprocessing.active_children():
                    os.kill(child.pid or 0, signal.SIGKILL)
                time.sleep(0.3)  # until the pool knows it
            return super().encode(waveforms, batch_size)

    found = extract(corpus, Deadly(), tmp_path / "x.pt", progress=False, num_workers=2)  # type: ignore[arg-type]
    assert "was killed" in caplog.text
    assert not found.failures
    assert torch.equal(found.features, features.features)


def test_waveforms_that_are_held_are_not_written_over(
    corpus: Corpus, features: FeatureSet, tmp_path: Path, many_workers: None
) -> None:
    """A slow encoder is given many waveforms at a time, while the workers go on as far as they may."""

    class Slow(Counting):
        def encode(self, waveforms: Sequence[Tensor], batch_size: int | None = None) -> Tensor:
            before = [waveform.clone() for waveform in waveforms]
            time.sleep(0.1)
            assert all(map(torch.equal, before, waveforms))
            return super().encode(waveforms, batch_size)

    many = Corpus(
        tuple(replace(utterance, start=start) for start in (0.0, 0.1, 0.2, 0.3) for utterance in corpus),
        corpus.root,
        corpus.name,
    )
    wanted = extract(many, Counting(), tmp_path / "a.pt", progress=False, num_workers=0)  # type: ignore[arg-type]
    for batch_size in (1, 30):
        slow: Any = Slow()
        found = extract(many, slow, tmp_path / f"{batch_size}.pt", None, "fp32", batch_size, 2, False)
        torch.testing.assert_close(found.features, wanted.features, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("error", [MemoryError("too much"), RuntimeError("odd")])
def test_whatever_a_decoder_raises_costs_one_file(
    error: Exception, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, odd = read_audio, corpus.utterances[5].path

    def fail(path: Path, *arguments: object) -> Tensor:
        if path == odd:
            raise error
        return read(path, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(worker, "read_audio", fail)
    found, n_encoded = run(corpus, tmp_path / "x.pt")
    assert n_encoded == 39
    assert found.failures == ((corpus.ids[5], f"it cannot be decoded ({type(error).__name__}: {error})"),)


def test_a_fork_server_serves_too(corpus_root: Path, features: FeatureSet, tmp_path: Path) -> None:
    code = SLOW.format(
        root=str(ROOT), corpus=str(corpus_root), path=str(tmp_path / "x.pt"), log=str(tmp_path / "log"), seconds=0
    )
    begin, work = code.split("encoder = load_encoder", 1)
    indented = "".join(f"    {line}\n" for line in f"encoder = load_encoder{work}".splitlines())
    script = tmp_path / "script.py"
    script.write_text(
        f"{begin}\nimport multiprocessing\nif __name__ == '__main__':\n"
        f"    multiprocessing.set_start_method('forkserver')\n{indented}"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    found = FeatureSet.load(tmp_path / "x.pt")
    assert not found.failures
    assert torch.equal(found.features, features.features)


def test_a_file_that_grows_while_it_is_read_is_read_again(
    own_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = load_corpus(own_root)
    read, growing = read_audio, corpus.utterances[7].path

    def read_and_write(path: Path, *arguments: object) -> Tensor:
        waveform = read(path, *arguments)  # type: ignore[arg-type]
        if path == growing:
            with open(path, "ab") as file:
                file.write(b"\0")
        return waveform

    monkeypatch.setattr(worker, "read_audio", read_and_write)
    found, _ = run(corpus, tmp_path / "x.pt")
    assert found.failures == ((corpus.ids[7], "it was written to while it was read; it will be read again"),)
    monkeypatch.undo()
    assert run(corpus, tmp_path / "x.pt")[1] == 1


def test_a_file_that_vanishes_while_it_is_read_is_a_failure(
    own_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = load_corpus(own_root)
    read, going = read_audio, corpus.utterances[7].path

    def read_and_remove(path: Path, *arguments: object) -> Tensor:
        waveform = read(path, *arguments)  # type: ignore[arg-type]
        if path == going:
            path.unlink()
        return waveform

    monkeypatch.setattr(worker, "read_audio", read_and_remove)
    found, _ = run(corpus, tmp_path / "x.pt")
    assert [failed for failed, _ in found.failures] == [corpus.ids[7]]
    assert "No such file" in found.failures[0][1]


def test_a_file_that_may_not_be_read_is_a_failure(
    corpus: Corpus, tmp_path: Path, many_workers: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    forbidden, open_file = os.fspath(corpus.utterances[3].path), builtins.open

    def refuse(path: object, *arguments: object, **options: object) -> object:
        if path == forbidden or (isinstance(path, Path) and os.fspath(path) == forbidden):
            raise PermissionError(errno.EACCES, "Permission denied", forbidden)
        return open_file(path, *arguments, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(builtins, "open", refuse)
    found, n_encoded = run(corpus, tmp_path / "x.pt", num_workers=1)
    assert found.failures == ((corpus.ids[3], "it cannot be opened (Permission denied)"),)
    assert n_encoded == 39


def test_links_that_lead_nowhere_are_failures_and_loops_of_folders_end(own_root: Path, tmp_path: Path) -> None:
    (own_root / "101" / "1010" / "101-1010-0080.flac").symlink_to("101-1010-0080.flac")
    (own_root / "101" / "1010" / "up").symlink_to(own_root)
    corpus = load_corpus(own_root)
    assert len(corpus) == 41
    found, n_encoded = run(corpus, tmp_path / "x.pt")
    assert n_encoded == 40
    assert [failed for failed, _ in found.failures] == ["101/1010/101-1010-0080.flac"]


@pytest.mark.parametrize("n_writes", [0, 2])
def test_a_full_disk_is_told_and_loses_nothing(
    n_writes: int, corpus: Corpus, features: FeatureSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, parts = tmp_path / "x.pt", tmp_path / "x.pt.parts"
    monkeypatch.setattr("features.computing.SAVE_EVERY", 0.0)
    fsync, written = os.fsync, []

    def full(descriptor: int) -> None:
        if parts in Path(f"/proc/self/fd/{descriptor}").readlink().parents:
            written.append(descriptor)
            if len(written) > n_writes:
                raise OSError(errno.ENOSPC, "No space left on device")
        fsync(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OutputError, match=r"No space left on device.*run the same command again"):
            run(corpus, path)
    assert not path.exists()
    n_kept = sum(len(block) for part in parts.glob("*.part") for block in read_part(part))
    assert n_kept == n_writes  # rows, of a write each
    again, n_encoded = run(corpus, path)
    assert n_encoded == 40 - n_kept
    assert torch.equal(again.features, features.features)
    assert [file.name for file in tmp_path.iterdir()] == ["x.pt"]


def test_a_disk_that_is_full_at_the_end_costs_the_merge_alone(
    corpus: Corpus, features: FeatureSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.pt"
    replace_file = os.replace

    def full(source: Path, target: Path) -> None:
        if target == path:
            raise OSError(errno.ENOSPC, "No space left on device")
        replace_file(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(OutputError, match="No space left on device"):
            run(corpus, path)
    again, n_encoded = run(corpus, path)
    assert n_encoded == 0
    assert torch.equal(again.features, features.features)


def test_no_room_to_put_rows_in_order_is_told(
    corpus: Corpus, features: FeatureSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("features.merging.LARGE", 0)

    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", full)
        with pytest.raises(OutputError, match="there is no room for"):
            run(corpus, tmp_path / "x.pt")
    again, n_encoded = run(corpus, tmp_path / "x.pt")  # and in a file it is the same
    assert n_encoded == 0
    assert torch.equal(again.features, features.features)


def test_a_second_run_is_refused_and_a_dead_one_is_not_in_the_way(
    corpus: Corpus, tmp_path: Path, holder: Callable[[str], "subprocess.Popen[str]"]
) -> None:
    path = tmp_path / "x.pt"
    owner = holder(f"locked(Path({str(path)!r} + '.lock'))")
    with pytest.raises(LockedError, match=f"x.pt: process {owner.pid} on {socket.gethostname()} is writing there"):
        run(corpus, path)
    assert not path.exists()
    owner.kill()
    owner.wait()
    assert (tmp_path / "x.pt.lock").exists()
    assert run(corpus, path)[1] == 40
    assert [file.name for file in tmp_path.iterdir()] == ["x.pt"]


def test_a_finished_file_needs_no_lock_and_no_rights(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(corpus, tmp_path / "x.pt")

    def refuse(*_: object, **__: object) -> None:
        raise OutputError("nothing is to be written")

    monkeypatch.setattr("features.extraction.check_writable", refuse)
    monkeypatch.setattr("features.extraction.locked", refuse)
    assert run(corpus, tmp_path / "x.pt")[1] == 0
    shard = extract_shard(corpus, Counting(), tmp_path / "x.pt", Shard(0, 2))  # type: ignore[arg-type]
    assert isinstance(shard, FeatureSet)
    assert [file.name for file in tmp_path.iterdir()] == ["x.pt"]
    with pytest.raises(OutputError, match="nothing is to be written"):
        run(Corpus(corpus.utterances[:3], corpus.root, corpus.name), tmp_path / "x.pt")


def test_what_a_scheduler_sends_interrupts_as_a_key_does() -> None:
    code = (
        f"import sys, time; sys.path.insert(0, {str(ROOT)!r}); sys.argv = ['x.py']\n"
        "from command_line import run\nfrom config import ScriptConfig\n"
        "def main(config):\n    print('begins', flush=True)\n    time.sleep(60)\nrun(ScriptConfig, main)"
    )
    sleeper = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert sleeper.stdout is not None
    assert sleeper.stdout.readline() == "begins\n"
    sleeper.terminate()
    _, told = sleeper.communicate(timeout=30)
    assert sleeper.returncode == 1
    assert told == "Interrupted. The same command goes on from here.\n"


def test_two_threads_of_a_process_are_not_let_at_one_file(corpus: Corpus, tmp_path: Path) -> None:
    with locked(tmp_path / "x.pt.lock"), pytest.raises(LockedError, match="this process is writing there already"):
        run(corpus, tmp_path / "x.pt")
    assert run(corpus, tmp_path / "x.pt")[1] == 40


def test_what_killed_runs_leave_is_cleared_away(corpus: Corpus, tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    (tmp_path / ".x.pt.123.tmp").write_text("half of a features file")
    run(corpus, path)
    part = PartFile(tmp_path / "x.pt.parts")
    part.append(block_of(FeatureSet.load(path)))  # as after a kill between writing the file and removing its parts
    assert run(corpus, path)[1] == 0
    assert [file.name for file in tmp_path.iterdir()] == ["x.pt"]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda block: replace(block, features=block.features * torch.nan),
        lambda block: replace(block, features=block.features[:, :5]),
        lambda block: replace(block, durations=block.durations.double()),
        lambda block: replace(block, audio=replace(block.audio, digest=block.audio.digest.double())),
    ],
)
def test_parts_that_contradict_the_encoder_are_passed_over(
    spoil: Callable[[Block], Block],
    corpus: Corpus,
    features: FeatureSet,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    part = PartFile(tmp_path / "x.pt.parts")
    part.append(block_of(features.select(range(10))))
    part.append(spoil(block_of(features.select(range(10, 20)))))
    found, n_encoded = run(corpus, tmp_path / "x.pt")
    assert n_encoded == 40
    assert torch.equal(found.features, features.features)
    assert "A part is passed over" in caplog.text


def test_a_hundred_thousand_files_are_compared_in_less_than_a_minute(tmp_path: Path) -> None:
    root = tmp_path / "many"
    for folder in range(100):
        first = root / f"{folder:03d}" / "0.wav"
        first.parent.mkdir(parents=True)
        first.write_bytes(b"RIFF")
        os.utime(first, ns=(1, 1))
        for number in range(1, 1000):
            os.link(first, first.with_name(f"{number}.wav"))
    started = time.monotonic()
    corpus = load_corpus(root)
    assert len(corpus) == 100_000
    spec = load_encoder("spectral", device="cpu").spec
    n = len(corpus)
    stored = FeatureSet(
        features=torch.zeros(n, spec["dim"]),
        labels=torch.zeros(n, dtype=torch.int64),
        speakers=("?",),
        sessions=torch.zeros(n, dtype=torch.int64),
        session_names=("?",),
        ids=corpus.ids,
        durations=torch.ones(n),
        encoder=spec,
        corpus=corpus.name,
        audio=AudioProvenance(
            digest=torch.arange(n).view(torch.uint8).reshape(n, 8).repeat(1, 4),
            size=torch.full((n,), 4),
            mtime_ns=torch.ones(n, dtype=torch.int64),
            start=torch.zeros(n, dtype=torch.float64),
            duration=torch.full((n,), torch.nan, dtype=torch.float64),
            rate=16_000,
            crop=10.0,
        ),
    )
    stored.save(tmp_path / "x.pt")
    resumed, n_encoded = run(corpus, tmp_path / "x.pt")
    assert (len(resumed), n_encoded) == (n, 0)
    assert len(resumed.speakers) == 100
    assert time.monotonic() - started < 60


def test_rows_of_one_utterance_twice_are_stored_once(corpus: Corpus, features: FeatureSet, tmp_path: Path) -> None:
    """Two spans of a file, one of them given another id by a move."""
    path = tmp_path / "x.pt"
    run(corpus, path)
    elsewhere = tuple(replace(utterance, root=corpus.root.parent) for utterance in corpus)
    both = Corpus((*corpus.utterances, *elsewhere), corpus.root, corpus.name)
    found, n_encoded = run(both, path)
    assert n_encoded == 0
    assert torch.equal(found.features, features.features.repeat(2, 1))


def test_an_utterance_of_a_folder_is_a_failure(corpus: Corpus, tmp_path: Path) -> None:
    folder = Utterance(corpus.root, "nobody", "none", root=corpus.root.parent)
    found, _ = run(Corpus((*corpus.utterances, folder), corpus.root, corpus.name), tmp_path / "x.pt")
    assert [reason for _, reason in found.failures] == ["this is a folder or a device, not a file"]
