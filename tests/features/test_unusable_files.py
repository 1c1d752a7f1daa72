"""Files that cannot be used: each is a failure in the result, and the next run tries it again."""

import os
import signal
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from audio import read_audio, read_recording
from corpora import Corpus, Utterance, load_corpus
from embedding import worker
from features import FeaturesError, FeatureSet

RunExtract = Callable[..., tuple[FeatureSet, int]]


def test_bad_files_are_listed_and_cost_no_other_file(
    own_root: Path, features: FeatureSet, tmp_path: Path, write_audio: Callable[..., Path], run_extract: RunExtract
) -> None:
    chapter = own_root / "101" / "1010"
    (chapter / "101-1010-0090.wav").write_text("this is text")
    (chapter / "101-1010-0091.wav").touch()
    whole = write_audio(tmp_path / "whole.flac").read_bytes()
    (chapter / "101-1010-0092.flac").write_bytes(whole[: len(whole) // 2])
    corpus = load_corpus(own_root)
    found, n_encoded = run_extract(corpus, tmp_path / "x.pt")
    assert n_encoded == 40
    assert found.ids == features.ids
    assert torch.equal(found.features, features.features)
    assert [(failed.rpartition("/")[2], reason.split()[0]) for failed, reason in found.failures] == [
        ("101-1010-0090.wav", "this"),
        ("101-1010-0091.wav", "the"),
        ("101-1010-0092.flac", "the"),
    ]
    assert FeatureSet.load(tmp_path / "x.pt").failures == found.failures
    (chapter / "101-1010-0090.wav").unlink()
    write_audio(chapter / "101-1010-0091.wav", seed=9)  # fixed
    again, n_encoded = run_extract(load_corpus(own_root), tmp_path / "x.pt")
    assert n_encoded == 1
    assert [failed.rpartition("/")[2] for failed, _ in again.failures] == ["101-1010-0092.flac"]


def test_missing_file_is_a_failure(own_root: Path, tmp_path: Path, run_extract: RunExtract) -> None:
    corpus = load_corpus(own_root)
    corpus.utterances[3].path.unlink()
    found, _ = run_extract(corpus, tmp_path / "x.pt")
    assert found.failures == ((corpus.ids[3], "no such file"),)
    assert len(found) == 39


def test_folder_is_a_failure(corpus: Corpus, tmp_path: Path, run_extract: RunExtract) -> None:
    folder = Utterance(corpus.root, "ann", "none", root=corpus.root.parent)
    found, _ = run_extract(Corpus((*corpus.utterances, folder), corpus.root, corpus.name), tmp_path / "x.pt")
    assert [reason for _, reason in found.failures] == ["this is a folder or a device, not a file"]


def test_broken_links_fail_and_loops_of_folders_end(own_root: Path, tmp_path: Path, run_extract: RunExtract) -> None:
    (own_root / "101" / "1010" / "101-1010-0080.flac").symlink_to("101-1010-0080.flac")
    (own_root / "101" / "1010" / "up").symlink_to(own_root)
    corpus = load_corpus(own_root)
    assert len(corpus) == 41
    found, n_encoded = run_extract(corpus, tmp_path / "x.pt")
    assert n_encoded == 40
    assert [failed for failed, _ in found.failures] == ["101/1010/101-1010-0080.flac"]


def test_nan_from_an_encoder_is_not_stored(
    corpus: Corpus, tmp_path: Path, run_extract: RunExtract, counting_encoder: Any
) -> None:
    bad = [read_audio(corpus.utterances[row].path, 16_000) for row in (2, 34)]

    def spoil(waveforms: Sequence[Tensor], vectors: Tensor) -> Tensor:
        vectors[[any(torch.equal(waveform, each) for each in bad) for waveform in waveforms], 0] = torch.nan
        return vectors

    found, _ = run_extract(corpus, tmp_path / "x.pt", counting_encoder(change=spoil))
    assert [failed for failed, _ in found.failures] == [corpus.ids[2], corpus.ids[34]]
    assert {reason for _, reason in found.failures} == {"the encoder returned NaN or infinity"}
    assert found.features.isfinite().all()


def test_corpus_without_a_usable_file_raises(tmp_path: Path, run_extract: RunExtract) -> None:
    for speaker in ("ann", "bob"):
        (tmp_path / "c" / speaker).mkdir(parents=True)
        (tmp_path / "c" / speaker / "x.wav").write_text("text")
    with pytest.raises(FeaturesError, match=r"None of the 2 utterances.*ann/x.wav.*not audio"):
        run_extract(load_corpus(tmp_path / "c"), tmp_path / "x.pt")
    assert not (tmp_path / "x.pt").exists()


def test_file_that_changes_while_it_is_read_is_tried_again(
    own_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_extract: RunExtract
) -> None:
    corpus = load_corpus(own_root)
    read, growing = read_recording, corpus.utterances[7].path

    def read_and_write(path: Path, *arguments: Any, **options: Any) -> Any:
        waveform = read(path, *arguments, **options)
        if path == growing:
            with open(path, "ab") as file:
                file.write(b"\0")
        return waveform

    monkeypatch.setattr(worker, "read_recording", read_and_write)
    found, _ = run_extract(corpus, tmp_path / "x.pt")
    assert found.failures == ((corpus.ids[7], "the file changed while it was read; run the same command again"),)
    monkeypatch.undo()
    assert run_extract(corpus, tmp_path / "x.pt")[1] == 1


def test_file_that_kills_its_process_is_tried_again(
    corpus: Corpus, features: FeatureSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_extract: RunExtract
) -> None:
    read, deadly = read_recording, corpus.utterances[21].path

    def read_or_die(path: Path, *arguments: Any, **options: Any) -> Any:
        if path == deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        return read(path, *arguments, **options)

    with monkeypatch.context() as patch:
        for module in ("embedding.decode", "embedding.embed_utterances"):
            patch.setattr(import_module(module), "MIN_PIECES_FOR_PROCESSES", 1)
        patch.setattr(worker, "read_recording", read_or_die)
        found, n_encoded = run_extract(corpus, tmp_path / "x.pt", num_workers=2)
    assert n_encoded == 39
    assert torch.equal(found.features, features.features[[row for row in range(40) if row != 21]])
    assert [failed for failed, _ in found.failures] == [corpus.ids[21]]
    assert "its decoding process was killed each time" in found.failures[0][1]
    again, n_encoded = run_extract(corpus, tmp_path / "x.pt")
    assert n_encoded == 1
    assert torch.equal(again.features, features.features)
