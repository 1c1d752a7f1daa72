"""`embed_utterances`: its rows, and a reason for each file that cannot be used."""

import builtins
import errno
import os
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from audio import read_audio, read_recording
from corpora import Corpus, load_corpus
from embedding import Row, Timing, embed_utterances, worker
from encoders import Encoder, LazyEncoder
from features import FeatureSet


def stack(rows: Sequence[Row]) -> Tensor:
    return torch.stack([row.vector for row in rows if row.vector is not None])


def test_rows_are_in_the_order_of_the_utterances(corpus: Corpus, spectral: Encoder, features: FeatureSet) -> None:
    timing = Timing()
    rows = list(embed_utterances(corpus.utterances[::-1], spectral, 10.0, timing=timing))
    assert tuple(row.utterance for row in rows) == corpus.utterances[::-1]
    assert torch.equal(stack(rows), features.features.flip(0))
    assert [row.seconds for row in rows] == pytest.approx(features.durations.flip(0).tolist())
    assert {(row.error, row.fault, row.file) for row in rows} == {(None, None, None)}
    assert timing.waiting > 0
    assert timing.forward > 0


def test_no_utterances_give_no_rows(spectral: Encoder) -> None:
    assert list(embed_utterances([], spectral)) == []


def test_crop_limits_what_is_read(corpus: Corpus, spectral: Encoder) -> None:
    (row,) = embed_utterances(corpus.utterances[:1], spectral, 0.25)
    assert row.seconds == 0.25
    waveform = read_audio(corpus.utterances[0].path, 16_000, max_duration=0.25)
    assert row.vector is not None
    assert torch.equal(row.vector, spectral.encode([waveform])[0])


def test_files_that_are_a_little_shorter_than_declared_are_embedded_with_one_warning(
    spectral: Encoder, write_audio: Callable[..., Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(5):
        write_audio(tmp_path / f"ann/{number}.wav", seed=number)
    whole = stack(list(embed_utterances(load_corpus(tmp_path).utterances, spectral)))
    assert caplog.messages == []
    for number, lost in ((1, 2), (3, 1_600), (4, 30_000)):
        content = (tmp_path / f"ann/{number}.wav").read_bytes()
        (tmp_path / f"ann/{number}.wav").write_bytes(content[:-lost])
    rows = list(embed_utterances(load_corpus(tmp_path).utterances, spectral))
    assert [row.fault for row in rows] == [None, None, None, None, "truncated"]
    assert rows[3].seconds == 0.95
    assert torch.equal(stack(rows)[0], whole[0])
    assert caplog.messages == [
        f"2 recordings, such as {tmp_path / 'ann/3.wav'}, are up to 0.05 s shorter than the header declares; all that "
        "is in the file is used"
    ]
    caplog.clear()
    list(embed_utterances(load_corpus(tmp_path).utterances, spectral, 0.5))  # the ends are not read
    assert caplog.messages == []


def test_state_of_each_file_is_returned_if_requested(
    corpus: Corpus, spectral: Encoder, features: FeatureSet, many_workers: None
) -> None:
    rows = list(embed_utterances(corpus.utterances, spectral, 10.0, with_state=True, num_workers=2))
    assert features.audio is not None
    for row, digest in zip(rows, features.audio.digest, strict=True):
        status = row.utterance.path.stat()
        assert row.file is not None
        assert row.file.digest == bytes(digest.tolist())
        assert (row.file.size, row.file.mtime_ns) == (status.st_size, status.st_mtime_ns)


def test_unreadable_files_build_no_encoder(tmp_path: Path, spectral: Encoder) -> None:
    def refuse_to_build() -> Encoder:
        raise AssertionError("the encoder was built")

    for speaker in ("ann", "bob"):
        (tmp_path / speaker).mkdir()
        (tmp_path / speaker / "1.wav").write_text("text")
    lazy = LazyEncoder(spectral.spec, 10.0, refuse_to_build)
    rows = list(embed_utterances(load_corpus(tmp_path).utterances, lazy))
    assert [row.fault for row in rows] == ["not_audio", "not_audio"]
    assert all(row.vector is None and row.error for row in rows)


@pytest.mark.parametrize("error", [MemoryError("too much"), RuntimeError("odd")])
def test_error_of_a_decoder_costs_one_file(
    error: Exception, corpus: Corpus, spectral: Encoder, features: FeatureSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, odd = read_recording, corpus.utterances[5].path

    def read_or_fail(path: Path, *arguments: Any, **options: Any) -> Any:
        if path == odd:
            raise error
        return read(path, *arguments, **options)

    monkeypatch.setattr(worker, "read_recording", read_or_fail)
    rows = list(embed_utterances(corpus.utterances, spectral, 10.0))
    failed = rows.pop(5)
    assert failed.vector is None
    assert (failed.error, failed.fault) == (f"it cannot be decoded ({type(error).__name__}: {error})", "unreadable")
    assert torch.equal(stack(rows), features.features[[row for row in range(40) if row != 5]])


def test_file_that_is_removed_while_it_is_read_fails(
    tmp_path: Path, write_audio: Callable[..., Path], spectral: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ann/1.wav", "bob/1.wav"):
        removed = write_audio(tmp_path / name)
    read = read_recording

    def read_and_remove(path: Path, *arguments: Any, **options: Any) -> Any:
        waveform = read(path, *arguments, **options)
        if path == removed:
            path.unlink()
        return waveform

    monkeypatch.setattr(worker, "read_recording", read_and_remove)
    good, bad = embed_utterances(load_corpus(tmp_path).utterances, spectral, with_state=True)
    assert good.vector is not None
    assert bad.vector is None
    assert bad.fault == "missing"
    assert "No such file" in str(bad.error)


def test_file_without_read_permission_fails(
    corpus: Corpus, spectral: Encoder, many_workers: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    forbidden, open_file = os.fspath(corpus.utterances[3].path), builtins.open

    def refuse(path: object, *arguments: object, **options: object) -> object:
        if path == forbidden or (isinstance(path, Path) and os.fspath(path) == forbidden):
            raise PermissionError(errno.EACCES, "Permission denied", forbidden)
        return open_file(path, *arguments, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(builtins, "open", refuse)
    rows = list(embed_utterances(corpus.utterances, spectral, num_workers=1, with_state=True))
    assert rows[3].error == "it cannot be opened (Permission denied)"
    assert [number for number, row in enumerate(rows) if row.vector is None] == [3]


def test_nan_of_an_encoder_is_an_error_of_the_row(
    corpus: Corpus, spectral: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode = type(spectral).encode

    def spoil(encoder: Encoder, waveforms: Sequence[Tensor], batch_size: int | None = None) -> Tensor:
        vectors = encode(encoder, list(waveforms), batch_size)
        vectors[0, 0] = torch.nan
        return vectors

    monkeypatch.setattr(type(spectral), "encode", spoil)
    bad, good = embed_utterances(corpus.utterances[:2], spectral)
    assert (bad.vector, bad.error) == (None, "the encoder returned NaN or infinity")
    assert good.vector is not None


def test_few_files_are_read_by_threads(
    corpus: Corpus, spectral: Encoder, features: FeatureSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr(import_module("embedding.decode"), "ProcessPoolExecutor", refuse)
    rows = list(embed_utterances(corpus.utterances, spectral, 10.0))
    assert torch.equal(stack(rows), features.features)
    monkeypatch.setattr(import_module("embedding.decode"), "MIN_PIECES_FOR_PROCESSES", 1)
    rows = list(embed_utterances(corpus.utterances, spectral, 10.0, num_workers=0))
    assert torch.equal(stack(rows), features.features)
    with pytest.raises(AssertionError, match="a process was started"):
        list(embed_utterances(corpus.utterances, spectral, 10.0, num_workers=1))
