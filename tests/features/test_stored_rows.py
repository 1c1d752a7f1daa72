"""Stored rows: which of them a run uses, which it recomputes or refuses, and that it loses none."""

import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from corpora import Corpus, load_corpus
from encoders import Encoder, LazyEncoder, lazy_encoder, load_encoder
from features import MEAN_CHANNEL, AudioProvenance, FeaturesError, FeatureSet, extract
from features.parts import read_part

RunExtract = Callable[..., tuple[FeatureSet, int]]


def refuse_to_build() -> Encoder:
    raise AssertionError("the encoder was built")


def test_complete_file_builds_no_encoder_and_is_not_rewritten(
    corpus: Corpus, features_path: Path, features: FeatureSet
) -> None:
    written = features_path.stat().st_mtime_ns
    lazy = replace(lazy_encoder("spectral"), build=refuse_to_build)
    again = extract(corpus, lazy, features_path, progress=False)
    assert torch.equal(again.features, features.features)
    assert features_path.stat().st_mtime_ns == written


def test_complete_file_of_windows_builds_no_encoder(
    clap_weights: Path, tmp_path: Path, write_audio: Callable[..., Path]
) -> None:
    write_audio(tmp_path / "data" / "ann" / "1.wav", seconds=2.5, rate=32_000)
    write_audio(tmp_path / "data" / "bob" / "1.wav", seconds=1.0, rate=32_000)
    corpus = load_corpus(tmp_path / "data")
    encoder = load_encoder("audiosep", clap_weights, device="cpu", window=1.0, hop=0.75)
    rows = extract(corpus, encoder, tmp_path / "x.pt", progress=False)
    lazy = LazyEncoder(encoder.spec, None, refuse_to_build)
    again = extract(corpus, lazy, tmp_path / "x.pt", progress=False)
    assert torch.equal(again.features, rows.features)
    (tmp_path / "data" / "bob" / "2.wav").write_text("text" * 50)  # a file that fails needs no encoder either
    again = extract(load_corpus(tmp_path / "data"), lazy, tmp_path / "x.pt", progress=False)
    assert torch.equal(again.features, rows.features)
    assert [failed for failed, _ in again.failures] == ["bob/2.wav"]


def test_moved_corpus_is_not_recomputed(
    own_root: Path, features: FeatureSet, tmp_path: Path, run_extract: RunExtract
) -> None:
    run_extract(load_corpus(own_root), tmp_path / "x.pt")
    moved = own_root.rename(tmp_path / "elsewhere")
    again, n_encoded = run_extract(load_corpus(moved), tmp_path / "x.pt")
    assert n_encoded == 0
    assert again.ids == features.ids


def test_corpus_under_another_root_is_not_recomputed(own_root: Path, tmp_path: Path, run_extract: RunExtract) -> None:
    run_extract(load_corpus(own_root), tmp_path / "x.pt")
    (tmp_path / "above").mkdir()
    own_root.rename(tmp_path / "above" / "own")
    again, n_encoded = run_extract(load_corpus(tmp_path / "above"), tmp_path / "x.pt")
    assert n_encoded == 0
    assert all(utterance_id.startswith("own/") for utterance_id in again.ids)
    assert FeatureSet.load(tmp_path / "x.pt").ids == again.ids


def test_touched_files_are_kept_and_changed_files_recomputed(
    own_root: Path, tmp_path: Path, write_audio: Callable[..., Path], run_extract: RunExtract
) -> None:
    corpus = load_corpus(own_root)
    before, _ = run_extract(corpus, tmp_path / "x.pt")
    for utterance in corpus:
        os.utime(utterance.path, (1, 1))
    _, n_encoded = run_extract(corpus, tmp_path / "x.pt")
    assert n_encoded == 0
    write_audio(corpus.utterances[5].path, seed=77)
    after, n_encoded = run_extract(corpus, tmp_path / "x.pt")
    assert n_encoded == 1
    changed = (before.features != after.features).any(dim=1).nonzero().flatten().tolist()
    assert changed == [5]


def test_removed_files_leave_and_new_files_enter(
    own_root: Path, tmp_path: Path, write_audio: Callable[..., Path], run_extract: RunExtract
) -> None:
    before, _ = run_extract(load_corpus(own_root), tmp_path / "x.pt")
    removed = load_corpus(own_root).utterances[0]
    removed.path.unlink()
    write_audio(own_root / "101" / "1010" / "101-1010-0009.flac", seed=5)
    after, n_encoded = run_extract(load_corpus(own_root), tmp_path / "x.pt")
    assert n_encoded == 1
    assert set(before.ids) - set(after.ids) == {removed.id}
    assert set(after.ids) - set(before.ids) == {"101/1010/101-1010-0009.flac"}


def test_corrected_speakers_are_stored_without_encoding(
    own_root: Path, tmp_path: Path, run_extract: RunExtract
) -> None:
    corpus = load_corpus(own_root)
    run_extract(corpus, tmp_path / "x.pt")
    renamed = tuple(replace(utterance, speaker=f"new {utterance.speaker}") for utterance in corpus)
    _, n_encoded = run_extract(Corpus(renamed, corpus.root, corpus.name), tmp_path / "x.pt")
    assert n_encoded == 0
    loaded = FeatureSet.load(tmp_path / "x.pt")
    assert loaded.speakers == ("new 101", "new 102", "new 103", "new 104")
    swaps = {"new 101": "new 102", "new 102": "new 101"}
    swapped = tuple(
        replace(utterance, speaker=swaps.get(utterance.speaker, utterance.speaker)) for utterance in renamed
    )
    run_extract(Corpus(swapped, corpus.root, corpus.name), tmp_path / "x.pt")
    assert not torch.equal(FeatureSet.load(tmp_path / "x.pt").labels, loaded.labels)


def test_part_of_a_corpus_and_another_corpus_lose_no_row(
    own_root: Path, features: FeatureSet, tmp_path: Path, write_audio: Callable[..., Path], run_extract: RunExtract
) -> None:
    path = tmp_path / "x.pt"
    run_extract(load_corpus(own_root), path)
    part, n_encoded = run_extract(load_corpus(own_root / "102"), path)
    assert (len(part), n_encoded) == (10, 0)
    for speaker in ("ann", "bob"):
        write_audio(tmp_path / "other" / speaker / "1.wav", seed=ord(speaker[0]))
    other, n_encoded = run_extract(load_corpus(tmp_path / "other"), path)
    assert (len(other), n_encoded) == (2, 2)
    assert FeatureSet.load(path).ids == ("ann/1.wav", "bob/1.wav")
    whole, n_encoded = run_extract(load_corpus(own_root), path)
    assert n_encoded == 0
    assert torch.equal(whole.features, features.features)
    assert run_extract(load_corpus(tmp_path / "other"), path)[1] == 0


def test_rows_that_are_set_aside_are_not_rewritten(own_root: Path, tmp_path: Path, run_extract: RunExtract) -> None:
    path = tmp_path / "x.pt"
    run_extract(load_corpus(own_root), path)
    run_extract(load_corpus(own_root / "102"), path)
    (part,) = (tmp_path / "x.pt.parts").iterdir()
    assert sum(map(len, read_part(part))) == 30
    run_extract(load_corpus(own_root / "102"), path)
    assert list((tmp_path / "x.pt.parts").iterdir()) == [part]
    run_extract(load_corpus(own_root), path)
    assert not (tmp_path / "x.pt.parts").exists()


def test_utterance_under_two_ids_is_encoded_once(
    corpus: Corpus, features: FeatureSet, tmp_path: Path, run_extract: RunExtract
) -> None:
    path = tmp_path / "x.pt"
    run_extract(corpus, path)
    elsewhere = tuple(replace(utterance, root=corpus.root.parent) for utterance in corpus)
    both = Corpus((*corpus.utterances, *elsewhere), corpus.root, corpus.name)
    found, n_encoded = run_extract(both, path)
    assert n_encoded == 0
    assert torch.equal(found.features, features.features.repeat(2, 1))


def test_features_of_other_settings_are_refused(corpus: Corpus, features_path: Path) -> None:
    other = lazy_encoder("spectral", n_mfcc=30)
    with pytest.raises(FeaturesError, match=r"n_mfcc is 40 there, 30 here.*--features_path"):
        extract(corpus, other, features_path, progress=False)
    # A refused run leaves no files.
    assert [path.name for path in features_path.parent.iterdir()] == [features_path.name]
    with pytest.raises(FeaturesError, match=r"max_duration is 10.0 there, 5.0 here"):
        extract(corpus, lazy_encoder("spectral"), features_path, max_duration=5.0, progress=False)


def test_features_of_unknown_origin_are_not_continued(corpus: Corpus, tmp_path: Path, run_extract: RunExtract) -> None:
    torch.save({"features": torch.randn(4, 100), "labels": torch.arange(4)}, tmp_path / "plain.pt")
    with pytest.raises(FeaturesError, match="unknown"):
        run_extract(corpus, tmp_path / "plain.pt")


def test_another_precision_is_used_with_a_warning(
    corpus: Corpus, clap_weights: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    few = Corpus(corpus.utterances[:2], corpus.root, corpus.name)
    extract(few, load_encoder("audiosep", clap_weights, device="cpu"), tmp_path / "x.pt", progress=False)
    assert "were computed in" not in caplog.text
    other = lazy_encoder("audiosep", clap_weights, device="cpu", precision="bf16")
    extract(few, replace(other, build=refuse_to_build), tmp_path / "x.pt", progress=False)
    assert "were computed in fp32, now it is bf16" in caplog.text
    more = Corpus(corpus.utterances[:3], corpus.root, corpus.name)
    mixed = extract(more, other, tmp_path / "x.pt", progress=False)
    assert mixed.encoder["precision"] == "bf16+fp32"
    assert torch.equal(mixed.features[:2], FeatureSet.load(tmp_path / "x.pt").features[:2])
    again = extract(few, replace(other, build=refuse_to_build), tmp_path / "x.pt", progress=False)
    assert again.encoder["precision"] == "bf16+fp32"


def test_100_000_stored_files_are_compared_within_a_minute(tmp_path: Path, run_extract: RunExtract) -> None:
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
            channel=torch.full((n,), MEAN_CHANNEL),
            file_rate=torch.full((n,), 16_000),
            offset=torch.zeros(n),
            bandwidth=torch.full((n,), 8_000.0),
            rate=16_000,
            crop=10.0,
        ),
    )
    stored.save(tmp_path / "x.pt")
    resumed, n_encoded = run_extract(corpus, tmp_path / "x.pt")
    assert (len(resumed), n_encoded) == (n, 0)
    assert len(resumed.speakers) == 100
    assert time.monotonic() - started < 60
