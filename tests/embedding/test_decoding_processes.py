"""Decoding in worker processes: workers that are killed, shared memory, and the ends of workers."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from audio import read_recording
from corpora import Corpus
from embedding import embed_utterances, n_workers_of, worker
from encoders import Encoder, load_encoder
from features import FeatureSet

ROOT = Path(__file__).parents[2]
# Embeds a corpus with worker processes and saves the vectors.
EMBEDDING = """
import sys, time
sys.path.insert(0, {root!r})
from importlib import import_module
import torch
from corpora import load_corpus
from embedding import embed_utterances
from encoders import load_encoder

def main():
    for module in ("embedding.decode", "embedding.embed_utterances"):
        import_module(module).MIN_PIECES_FOR_PROCESSES = 4
    encoder = load_encoder("spectral", device="cpu")
    encode = encoder.encode

    def encode_slowly(waveforms, batch_size=None):
        time.sleep({seconds} * len(waveforms))
        return encode(waveforms, batch_size)

    object.__setattr__(encoder, "encode", encode_slowly)
    utterances = load_corpus({corpus!r}).utterances
    print("begins", flush=True)
    rows = embed_utterances(utterances, encoder, 10.0, num_workers=2, with_state=True)
    torch.save([row.vector for row in rows], {output!r})
"""


class ObservedEncoder:
    """The `spectral` encoder, with a function that is called with each chunk of waveforms before it is encoded."""

    def __init__(self, observe: Callable[[Sequence[Tensor]], None]) -> None:
        self._observe = observe
        self._encoder = load_encoder("spectral", device="cpu")
        self.spec, self.sample_rate, self.clips_per_call = self._encoder.spec, self._encoder.sample_rate, 4

    def encode(self, waveforms: Sequence[Tensor], batch_size: int | None = None) -> Tensor:
        self._observe(waveforms)
        return self._encoder.encode(waveforms, batch_size)


def embed(corpus: Corpus, encoder: Any, **options: Any) -> list[Tensor | None]:
    return [row.vector for row in embed_utterances(corpus.utterances, encoder, 10.0, **options)]


def is_same(found: Sequence[Tensor | None], wanted: Tensor) -> bool:
    return all(one is not None and torch.equal(one, other) for one, other in zip(found, wanted, strict=True))


def test_processes_and_threads_decode_the_same(
    corpus: Corpus, features: FeatureSet, spectral: Encoder, many_workers: None
) -> None:
    for num_workers in (0, 1, 3):
        assert is_same(embed(corpus, spectral, num_workers=num_workers), features.features)


def test_waveforms_too_long_for_shared_memory_are_sent(
    corpus: Corpus, features: FeatureSet, spectral: Encoder, many_workers: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_module("embedding.decode"), "MAX_SHARED_SECONDS", 0.65)
    assert is_same(embed(corpus, spectral, num_workers=2), features.features)


def test_waveforms_in_use_are_not_overwritten(corpus: Corpus, many_workers: None) -> None:
    """A slow encoder keeps many waveforms, while the workers decode as far ahead as they may."""

    def check_that_nothing_changes(waveforms: Sequence[Tensor]) -> None:
        before = [waveform.clone() for waveform in waveforms]
        time.sleep(0.1)
        assert all(map(torch.equal, before, waveforms))

    many = Corpus(
        tuple(replace(utterance, start=start) for start in (0.0, 0.1, 0.2, 0.3) for utterance in corpus),
        corpus.root,
        corpus.name,
    )
    wanted = embed(many, load_encoder("spectral", device="cpu"), num_workers=0)
    for batch_size in (1, 30):
        found = embed(many, ObservedEncoder(check_that_nothing_changes), batch_size=batch_size, num_workers=2)
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("always", [False, True])
def test_killed_worker_costs_at_most_its_file(
    always: bool,
    corpus: Corpus,
    features: FeatureSet,
    spectral: Encoder,
    tmp_path: Path,
    many_workers: None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    read, deadly = read_recording, corpus.utterances[21].path

    def read_or_die(path: Path, *arguments: Any, **options: Any) -> Any:
        if path == deadly and (always or not (tmp_path / "died").exists()):
            (tmp_path / "died").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return read(path, *arguments, **options)

    monkeypatch.setattr(worker, "read_recording", read_or_die)
    rows = list(embed_utterances(corpus.utterances, spectral, 10.0, num_workers=2))
    assert (tmp_path / "died").exists()
    assert "A decoding process was killed" in caplog.text
    assert tuple(row.utterance for row in rows) == corpus.utterances
    failed = rows.pop(21) if always else None
    kept = [row for row in range(40) if row != 21 or not always]
    assert is_same([row.vector for row in rows], features.features[kept])
    if failed is not None:
        assert failed.vector is None
        assert failed.fault == "unreadable"
        assert "its decoding process was killed each time" in str(failed.error)


def test_worker_killed_while_the_encoder_works_is_replaced(
    corpus: Corpus, features: FeatureSet, many_workers: None, caplog: pytest.LogCaptureFixture
) -> None:
    calls = []

    def kill_workers(waveforms: Sequence[Tensor]) -> None:
        calls.append(len(waveforms))
        if len(calls) in (2, 6):
            for child in multiprocessing.active_children():
                os.kill(child.pid or 0, signal.SIGKILL)
            time.sleep(0.3)  # until the pool has noticed it

    found = embed(corpus, ObservedEncoder(kill_workers), num_workers=2)
    assert len(calls) >= 6
    assert caplog.text.count("A decoding process was killed") >= 1
    assert is_same(found, features.features)


def test_workers_do_not_outlive_a_killed_process(corpus_root: Path, tmp_path: Path) -> None:
    code = EMBEDDING.format(root=str(ROOT), corpus=str(corpus_root), output=str(tmp_path / "x.pt"), seconds=1)
    parent = subprocess.Popen([sys.executable, "-c", f"{code}\nmain()"], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    assert parent.stdout.readline() == "begins\n"
    children: list[int] = []
    while not children:
        listing = Path(f"/proc/{parent.pid}/task/{parent.pid}/children")
        if not listing.exists():
            pytest.skip("needs Linux's list of children")
        children = [int(number) for number in listing.read_text().split()]
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 20
    while any(_is_alive(child) for child in children):
        assert time.monotonic() < deadline, "workers wait for a process that is dead"
        time.sleep(0.1)


def _is_alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_workers_can_come_from_a_fork_server(corpus_root: Path, features: FeatureSet, tmp_path: Path) -> None:
    code = EMBEDDING.format(root=str(ROOT), corpus=str(corpus_root), output=str(tmp_path / "x.pt"), seconds=0)
    script = tmp_path / "script.py"
    script.write_text(
        f"{code}\nimport multiprocessing\nif __name__ == '__main__':\n"
        "    multiprocessing.set_start_method('forkserver')\n    main()\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert is_same(torch.load(tmp_path / "x.pt"), features.features)


def test_number_of_workers_is_limited_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(100)), raising=False)
    assert n_workers_of(None) == 16
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2}, raising=False)
    assert n_workers_of(None) == 3
    assert n_workers_of(0) == 0
    assert n_workers_of(40) == 40
