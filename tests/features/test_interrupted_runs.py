"""Runs that are interrupted, killed, or stopped by a full disk: the next run continues them and loses no row."""

import errno
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from corpora import Corpus, load_corpus
from encoders import lazy_encoder
from features import FeatureSet, extract
from features.parts import Block, PartFile, block_of, read_part
from files import OutputError

RunExtract = Callable[..., tuple[FeatureSet, int]]

ROOT = Path(__file__).parents[2]
# Extracts slowly, with worker processes, and saves often. The encoder writes one character per waveform to a file.
SLOW_EXTRACTION = """
import sys, time
sys.path.insert(0, {root!r})
from importlib import import_module
from corpora import load_corpus
from encoders import load_encoder
from features import extract

import_module("features.computing").SAVE_INTERVAL = 0.02
for module in ("embedding.decode", "embedding.embed_utterances"):
    import_module(module).MIN_PIECES_FOR_PROCESSES = 4
encoder = load_encoder("spectral", device="cpu")
encode = encoder.encode

def encode_slowly(waveforms, batch_size=None):
    time.sleep(0.04 * len(waveforms))
    with open({log!r}, "a") as file:
        file.write("x" * len(waveforms))
    return encode(waveforms, batch_size)

object.__setattr__(encoder, "encode", encode_slowly)
type(encoder).clips_per_call = property(lambda self: 2)
corpus = load_corpus({corpus!r})
print("begins", flush=True)
extract(corpus, encoder, {path!r}, progress=False, num_workers=2)
"""


@pytest.mark.parametrize("fail_at", [32, 39])
@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_interrupted_run_continues_to_the_same_result(
    fail_at: int,
    error: type[BaseException],
    corpus: Corpus,
    features: FeatureSet,
    tmp_path: Path,
    run_extract: RunExtract,
    counting_encoder: Any,
) -> None:
    path = tmp_path / "x.pt"
    with pytest.raises(error):
        run_extract(corpus, path, counting_encoder(fail_at=fail_at, error=error))
    assert not path.exists()
    resumed, n_encoded = run_extract(corpus, path)
    assert n_encoded == 8  # the first chunk of 32 was kept
    assert torch.equal(resumed.features, features.features)
    assert resumed.ids == features.ids
    assert [file.name for file in tmp_path.iterdir()] == ["x.pt"]


def test_run_that_is_killed_repeatedly_ends_with_the_same_file(
    corpus_root: Path, corpus: Corpus, features: FeatureSet, tmp_path: Path, run_extract: RunExtract
) -> None:
    path, log = tmp_path / "out" / "x.pt", tmp_path / "log"
    code = SLOW_EXTRACTION.format(root=str(ROOT), corpus=str(corpus_root), path=str(path), log=str(log))
    generator = random.Random(0)
    n_kills = 0
    while not path.exists():
        writer = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        assert writer.stdout is not None
        assert writer.stdout.readline() == "begins\n"
        try:
            writer.wait(generator.uniform(0.1, 0.7) if n_kills < 5 else 60)
        except subprocess.TimeoutExpired:
            writer.kill()
            n_kills += 1
        assert writer.wait() in (0, -signal.SIGKILL)
        writer.stdout.close()
    assert n_kills > 1
    # A kill costs the waveforms that the encoder had at that moment, and the rows that were not saved yet.
    assert len(log.read_text()) <= len(corpus) + 8 * n_kills
    again, n_encoded = run_extract(corpus, path)
    assert n_encoded == 0
    assert torch.equal(again.features, features.features)
    assert again.ids == features.ids
    assert torch.equal(again.labels, features.labels)
    assert [file.name for file in path.parent.iterdir()] == ["x.pt"]


@pytest.mark.parametrize("moment", ["before", "after"])
def test_run_that_dies_while_it_merges_loses_no_row(
    moment: str,
    corpus: Corpus,
    own_root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    run_extract: RunExtract,
    counting_encoder: Any,
) -> None:
    path = tmp_path / "x.pt"
    with pytest.raises(KeyboardInterrupt):
        run_extract(corpus, path, counting_encoder(fail_at=32))
    replace_file, unlink = os.replace, Path.unlink

    def replace_or_die(source: Path, target: Path) -> None:
        if target == path:
            raise KeyboardInterrupt
        replace_file(source, target)

    def unlink_or_die(file: Path, missing_ok: bool = False) -> None:
        if file.suffix == ".part":
            raise KeyboardInterrupt
        unlink(file, missing_ok)

    with monkeypatch.context() as patch:
        if moment == "before":
            patch.setattr(os, "replace", replace_or_die)
        else:
            patch.setattr(Path, "unlink", unlink_or_die)
        with pytest.raises(KeyboardInterrupt):
            run_extract(load_corpus(own_root / "102"), path)
    assert run_extract(corpus, path)[1] <= 8


def test_another_corpus_keeps_the_rows_of_an_interrupted_run(
    corpus: Corpus,
    features: FeatureSet,
    tmp_path: Path,
    write_audio: Callable[..., Path],
    run_extract: RunExtract,
    counting_encoder: Any,
) -> None:
    path = tmp_path / "x.pt"
    with pytest.raises(KeyboardInterrupt):
        run_extract(corpus, path, counting_encoder(fail_at=32))
    for speaker in ("ann", "bob"):
        write_audio(tmp_path / "other" / speaker / "1.wav", seed=ord(speaker[0]))
    run_extract(load_corpus(tmp_path / "other"), path)
    resumed, n_encoded = run_extract(corpus, path)
    assert n_encoded == 8
    assert torch.equal(resumed.features, features.features)


def test_other_settings_keep_the_rows_of_an_interrupted_run(
    corpus: Corpus, tmp_path: Path, run_extract: RunExtract, counting_encoder: Any
) -> None:
    path = tmp_path / "x.pt"
    with pytest.raises(KeyboardInterrupt):
        run_extract(corpus, path, counting_encoder(fail_at=32))
    extract(corpus, lazy_encoder("spectral", n_mfcc=30), path, progress=False)
    path.unlink()
    assert run_extract(corpus, path)[1] == 8


def test_files_that_killed_runs_leave_are_removed(corpus: Corpus, tmp_path: Path, run_extract: RunExtract) -> None:
    path = tmp_path / "x.pt"
    (tmp_path / ".x.pt.123.tmp").write_text("half of a features file")
    run_extract(corpus, path)
    part = PartFile(tmp_path / "x.pt.parts")
    part.append(block_of(FeatureSet.load(path)))  # as after a kill between writing the file and removing its parts
    assert run_extract(corpus, path)[1] == 0
    assert [file.name for file in tmp_path.iterdir()] == ["x.pt"]


def test_damaged_part_is_skipped(
    corpus: Corpus, features: FeatureSet, tmp_path: Path, caplog: pytest.LogCaptureFixture, run_extract: RunExtract
) -> None:
    (tmp_path / "x.pt.parts").mkdir()
    (tmp_path / "x.pt.parts" / "1.part").write_text("text")
    whole, n_encoded = run_extract(corpus, tmp_path / "x.pt")
    assert n_encoded == 40
    assert torch.equal(whole.features, features.features)
    assert "A part file is skipped" in caplog.text


@pytest.mark.parametrize(
    "spoil",
    [
        lambda block: replace(block, features=block.features * torch.nan),
        lambda block: replace(block, features=block.features[:, :5]),
        lambda block: replace(block, durations=block.durations.double()),
        lambda block: replace(block, audio=replace(block.audio, digest=block.audio.digest.double())),
    ],
    ids=["NaN", "dimension", "durations", "digests"],
)
def test_parts_that_do_not_fit_the_encoder_are_skipped(
    spoil: Callable[[Block], Block],
    corpus: Corpus,
    features: FeatureSet,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    run_extract: RunExtract,
) -> None:
    part = PartFile(tmp_path / "x.pt.parts")
    part.append(block_of(features.select(range(10))))
    part.append(spoil(block_of(features.select(range(10, 20)))))
    found, n_encoded = run_extract(corpus, tmp_path / "x.pt")
    assert n_encoded == 40
    assert torch.equal(found.features, features.features)
    assert "A part file is skipped" in caplog.text


@pytest.mark.parametrize("n_writes", [0, 2])
def test_full_disk_raises_and_keeps_finished_rows(
    n_writes: int,
    corpus: Corpus,
    features: FeatureSet,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    run_extract: RunExtract,
    counting_encoder: Any,
) -> None:
    path, parts = tmp_path / "x.pt", tmp_path / "x.pt.parts"
    monkeypatch.setattr("features.computing.SAVE_INTERVAL", 0.0)
    fsync, written = os.fsync, []

    def fail_when_full(descriptor: int) -> None:
        if parts in Path(f"/proc/self/fd/{descriptor}").readlink().parents:
            written.append(descriptor)
            if len(written) > n_writes:
                raise OSError(errno.ENOSPC, "No space left on device")
        fsync(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail_when_full)
        with pytest.raises(OutputError, match=r"No space left on device.*run the same command again"):
            run_extract(corpus, path, counting_encoder(clips_per_call=4))
    assert not path.exists()
    n_kept = sum(len(block) for part in parts.glob("*.part") for block in read_part(part))
    assert n_kept == n_writes  # each write has one row
    again, n_encoded = run_extract(corpus, path)
    assert n_encoded == 40 - n_kept
    assert torch.equal(again.features, features.features)
    assert [file.name for file in tmp_path.iterdir()] == ["x.pt"]


def test_disk_that_is_full_while_merging_costs_no_row(
    corpus: Corpus, features: FeatureSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_extract: RunExtract
) -> None:
    path = tmp_path / "x.pt"
    replace_file = os.replace

    def fail_when_full(source: Path, target: Path) -> None:
        if target == path:
            raise OSError(errno.ENOSPC, "No space left on device")
        replace_file(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fail_when_full)
        with pytest.raises(OutputError, match="No space left on device"):
            run_extract(corpus, path)
    again, n_encoded = run_extract(corpus, path)
    assert n_encoded == 0
    assert torch.equal(again.features, features.features)


def test_no_space_to_sort_rows_costs_no_row(
    corpus: Corpus, features: FeatureSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_extract: RunExtract
) -> None:
    monkeypatch.setattr("features.merging.MAX_BYTES_IN_MEMORY", 0)

    def fail(*_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", fail)
        with pytest.raises(OutputError, match="there is no space for"):
            run_extract(corpus, tmp_path / "x.pt")
    again, n_encoded = run_extract(corpus, tmp_path / "x.pt")  # sorts the rows in a temporary file
    assert n_encoded == 0
    assert torch.equal(again.features, features.features)
