"""Rows of versions without the column ``offset`` are measured once, and recomputed only if the audio has an offset."""

import logging
import math
from collections.abc import Callable
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray

from corpora import Corpus, load_corpus
from features import FeatureSet, Shard, extract_shard, load_features

RunExtract = Callable[..., tuple[FeatureSet, int]]
RATE = 16_000
# Of six recordings, these have an offset, samples on the scale of integers, and a mean of exactly 0.
SHIFTED, SCALED, BALANCED = 1, 3, 4
CHANGED = [SHIFTED, SCALED]


@pytest.fixture
def six(tmp_path: Path, write_audio: Callable[..., Path]) -> Corpus:
    for number in range(6):
        path = write_audio(tmp_path / "six" / f"s{number % 2}" / f"{number}.wav", seed=number, subtype="FLOAT")
        samples, _ = soundfile.read(path)
        samples = samples - samples.mean()
        if number == BALANCED:
            samples = np.stack([samples, -samples], axis=1).reshape(-1)
        samples = {SHIFTED: samples + 0.02, SCALED: 2**15 * samples}.get(number, samples)
        soundfile.write(path, samples, RATE, subtype="FLOAT")
    corpus = load_corpus(tmp_path / "six")
    return Corpus(tuple(sorted(corpus, key=lambda each: each.path.name)), corpus.root, corpus.name)


@pytest.fixture
def old(six: Corpus, tmp_path: Path, run_extract: RunExtract) -> Path:
    """Return a features file of the version before; its vectors are shifted, to be recognised."""
    path = tmp_path / "old.pt"
    run_extract(six, path)
    content = torch.load(path, weights_only=True)
    content["features"] = content["features"] + 1
    del content["audio"]["offset"]
    torch.save(content, path)
    return path


def kept_rows(found: FeatureSet, old: FeatureSet) -> list[int]:
    same = (found.features == old.features).all(1)
    return [row for row in range(len(found)) if same[row]]


def copy_of(path: Path) -> FeatureSet:
    features = FeatureSet.load(path)
    return features.select(range(len(features)))


def refuse_to_decode(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a file was decoded")

    monkeypatch.setattr(import_module("embedding.decode"), "read_pieces", refuse)


def test_rows_of_an_older_version_are_measured_once(
    six: Corpus,
    old: Path,
    run_extract: RunExtract,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    before = copy_of(old)
    assert before.audio is not None
    assert all(map(math.isnan, before.audio.offset.tolist()))
    found, n_encoded = run_extract(six, old)
    assert n_encoded == len(CHANGED)
    assert kept_rows(found, before) == [row for row in range(6) if row not in CHANGED]
    assert found.audio is not None
    assert found.audio.offset.tolist() == pytest.approx([0, 0.02, 0, 0, 0, 0], abs=1e-6)
    assert abs(float(found.audio.offset[BALANCED])) < 1e-9
    messages = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert any(
        "2 of 6 stored rows are recomputed or refused: earlier versions did not remove DC offsets" in m
        for m in messages
    )
    assert not old.with_name("old.pt.parts").exists()
    refuse_to_decode(monkeypatch)
    again, n_encoded = run_extract(six, old)
    assert n_encoded == 0
    assert torch.equal(again.features, found.features)


def test_file_whose_means_are_all_0_is_measured_once(
    six: Corpus, old: Path, run_extract: RunExtract, monkeypatch: pytest.MonkeyPatch
) -> None:
    some = Corpus((six.utterances[BALANCED],), six.root, six.name)
    content = torch.load(old, weights_only=True)
    run_extract(some, old.with_name("one.pt"))
    content = torch.load(old.with_name("one.pt"), weights_only=True)
    del content["audio"]["offset"]
    torch.save(content, old)
    run_extract(some, old)
    refuse_to_decode(monkeypatch)
    assert run_extract(some, old)[1] == 0


def test_rows_that_the_corpus_does_not_use_are_measured_when_it_does(
    six: Corpus, old: Path, run_extract: RunExtract
) -> None:
    before = copy_of(old)
    some = Corpus(six.utterances[:2], six.root, six.name)
    found, n_encoded = run_extract(some, old)
    assert (n_encoded, kept_rows(found, before.select([0, 1]))) == (1, [0])
    found, n_encoded = run_extract(six, old)
    assert n_encoded == 1
    assert kept_rows(found, before) == [row for row in range(6) if row not in CHANGED]


def test_measured_rows_of_an_interrupted_run_are_not_measured_again(
    six: Corpus,
    old: Path,
    run_extract: RunExtract,
    counting_encoder: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = copy_of(old)
    with pytest.raises(KeyboardInterrupt):
        run_extract(six, old, counting_encoder(fail_at=0))
    measuring = import_module("features.measuring")
    measure, measured = measuring.measure_utterances, []

    def count(utterances: Any, *arguments: Any, **options: Any) -> Any:
        measured.extend(utterances)
        return measure(utterances, *arguments, **options)

    monkeypatch.setattr(measuring, "measure_utterances", count)
    found, n_encoded = run_extract(six, old)
    assert [six.utterances.index(utterance) for utterance in measured] == CHANGED
    assert n_encoded == len(CHANGED)
    assert kept_rows(found, before) == [row for row in range(6) if row not in CHANGED]


def test_shards_measure_their_shares(six: Corpus, old: Path, run_extract: RunExtract, counting_encoder: Any) -> None:
    before, encoder = copy_of(old), counting_encoder()
    failures = extract_shard(six, encoder, old, shard=Shard(0, 2), progress=False)
    assert failures == ()
    found = extract_shard(six, encoder, old, shard=Shard(1, 2), progress=False)
    assert isinstance(found, FeatureSet)
    assert encoder.n_encoded == len(CHANGED)
    assert kept_rows(found, before) == [row for row in range(6) if row not in CHANGED]


@pytest.mark.parametrize(
    ("samples", "rate", "reason"),
    [
        (np.full(2 * RATE, 0.02), 44_100, "all samples are equal"),
        (np.tile([20.0, -20.0], RATE), RATE, "its samples reach 20"),
        (np.tile([0.5, -0.4], RATE), 500, "the header gives a sampling rate of 500 Hz"),
    ],
)
def test_row_whose_file_is_refused_today_is_dropped(
    samples: NDArray[np.float64],
    rate: int,
    reason: str,
    six: Corpus,
    old: Path,
    run_extract: RunExtract,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """An earlier version embedded this file. A second run has nothing to measure, and leaves no part files."""
    refused = six.utterances[0].path
    soundfile.write(refused, samples, rate, subtype="FLOAT")
    content, status = torch.load(old, weights_only=True), refused.stat()
    content["audio"]["digest"][0] = torch.frombuffer(
        bytearray(sha256(refused.read_bytes()).digest()), dtype=torch.uint8
    )
    content["audio"]["size"][0], content["audio"]["mtime_ns"][0] = status.st_size, status.st_mtime_ns
    torch.save(content, old)
    before = copy_of(old)
    found, n_encoded = run_extract(six, old)
    assert n_encoded == len(CHANGED)
    assert any("3 of 6 stored rows are recomputed or refused" in record.getMessage() for record in caplog.records)
    caplog.clear()
    for _ in range(2):
        assert [failed for failed, _ in found.failures] == [six.ids[0]]
        assert found.failures[0][1].startswith(reason)
        assert found.ids == six.ids[1:]
        kept = [row for row in range(5) if row + 1 not in CHANGED]
        assert kept_rows(found, before.select(range(1, 6))) == kept
        assert not old.with_name("old.pt.parts").exists()
        monkeypatch.setattr(import_module("features.measuring"), "measure_utterances", None)
        found, n_encoded = run_extract(six, old)
        assert n_encoded == 0
    assert not [record for record in caplog.records if "not in the corpus" in record.getMessage()]


def test_row_whose_file_cannot_be_read_now_is_kept(
    six: Corpus, old: Path, run_extract: RunExtract, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = copy_of(old)
    worker = import_module("embedding.worker")
    with monkeypatch.context() as patch:
        patch.setattr(worker, "read_recording", lambda *_, **__: (_ for _ in ()).throw(MemoryError("full")))
        found, n_encoded = run_extract(six, old)
    assert n_encoded == 0
    assert kept_rows(found, before) == list(range(6))
    found, n_encoded = run_extract(six, old)
    assert n_encoded == len(CHANGED)


def test_rows_that_were_never_measured_cause_one_warning(
    six: Corpus, old: Path, tmp_path: Path, run_extract: RunExtract, caplog: pytest.LogCaptureFixture
) -> None:
    assert len(load_features(old)) == 6
    [warning] = caplog.records
    assert f"{old}: 6 of 6 rows are of a version that did not remove DC offsets; run extract_features.py" in caplog.text
    assert warning.levelno == logging.WARNING
    run_extract(six, old)
    torch.save({"features": torch.randn(4, 3), "labels": ["ann", "ben"] * 2}, tmp_path / "plain.pt")
    caplog.clear()
    assert len(load_features(old)) == 6
    assert len(load_features(tmp_path / "plain.pt")) == 4
    assert not caplog.records
