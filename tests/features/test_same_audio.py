"""Rows of the same audio: in other bytes, in another batch, and rows that are not."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from corpora import Indices, load_corpus
from encoders import Encoder
from features import AudioIndex, FeatureSet, audio_numbers, extract, has_same_audio, number_vectors, without_copies


def vectors_of(n_rows: int, dim: int = 24, seed: int = 0) -> torch.Tensor:
    return torch.randn(n_rows, dim, generator=torch.Generator().manual_seed(seed))


def set_of(vectors: torch.Tensor, durations: object = None) -> FeatureSet:
    return FeatureSet.from_arrays(vectors, np.arange(len(vectors)) % 3, durations=durations)  # type: ignore[arg-type]


def groups(numbers: Indices) -> set[tuple[int, ...]]:
    """Return the rows of each audio that has several."""
    rows = (tuple(np.flatnonzero(numbers == number).tolist()) for number in np.unique(numbers))
    return {each for each in rows if len(each) > 1}


def test_wav_and_flac_of_a_recording_are_the_same_audio(corpus_root: Path, tmp_path: Path, spectral: Encoder) -> None:
    root = tmp_path / "people"
    for source in sorted(corpus_root.rglob("*.flac"))[:8]:
        (root / source.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(source, root / source.parent.name)
    chosen = sorted(root.rglob("*.flac"))[2]
    audio, rate = soundfile.read(chosen)
    for suffix, subtype in ((".wav", "PCM_16"), (".aiff", "PCM_24")):
        (root / "another speaker").mkdir(exist_ok=True)
        soundfile.write(root / "another speaker" / f"copy{suffix}", audio, rate, subtype=subtype)
    features = extract(load_corpus(root, "folder"), spectral, tmp_path / "features.pt")
    [found] = groups(audio_numbers(features)[0])
    assert {Path(features.ids[row]).name for row in found} == {"copy.wav", "copy.aiff", chosen.name}
    assert len(without_copies(features)) == len(features) - 2
    one, others = audio_numbers(features.select([found[0]]), features.select(found[1:]))
    assert one.tolist() * 2 == others.tolist()


@pytest.mark.parametrize(("scale", "expected"), [(0.0, True), (1e-6, True), (1e-5, True), (1e-2, False)])
def test_rounding_does_not_hide_a_copy(scale: float, expected: bool) -> None:
    vectors = vectors_of(200)
    copies = vectors[:50] + scale * vectors_of(50, seed=1)
    joined = torch.cat([vectors, copies])
    found = groups(audio_numbers(set_of(joined, [2.0] * 250))[0])
    assert found == groups(number_vectors(joined, torch.full((250,), 2.0)))
    assert found == ({(row, 200 + row) for row in range(50)} if expected else set())


def test_half_precision_and_layers() -> None:
    vectors = vectors_of(60)
    half = set_of(torch.cat([vectors, vectors[:9]]).half())
    assert groups(audio_numbers(half)[0]) == {(row, 60 + row) for row in range(9)}
    layers = torch.stack([vectors_of(69, seed=1), torch.cat([vectors, vectors[:9]])], dim=1)
    assert groups(audio_numbers(set_of(layers))[0]) == {(row, 60 + row) for row in range(9)}


def test_many_copies_are_one_group() -> None:
    vectors = torch.cat([vectors_of(50), vectors_of(1, seed=2).repeat(500, 1)])
    assert groups(audio_numbers(set_of(vectors))[0]) == {tuple(range(50, 550))}


def test_rows_without_audio_are_no_copies() -> None:
    vectors = vectors_of(30)
    vectors[:5] = 0
    vectors[5:10] = 0.25
    vectors[10:12, 3] = torch.nan
    assert not groups(audio_numbers(set_of(vectors))[0])
    assert not groups(audio_numbers(set_of(torch.ones(20, 6)))[0])


def test_a_large_column_does_not_make_copies() -> None:
    vectors = vectors_of(100)
    vectors[:, 0] = 1e6 + 1e3 * vectors[:, 0]
    vectors[:, 1] = 7.0
    vectors[99] = vectors[98]
    assert groups(audio_numbers(set_of(vectors))[0]) == {(98, 99)}


@pytest.mark.parametrize("large", [1e4, 1e6])
def test_a_large_column_does_not_make_copies_in_stores(large: float) -> None:
    """The columns of one vector alone, as in a store, cannot be standardised."""
    vectors, lengths = vectors_of(100), torch.full((100,), 2.0)
    vectors[:, 0] = large
    vectors[99] = vectors[98] * (1 + 1e-7)
    assert groups(number_vectors(vectors, lengths)) == {(98, 99)}
    own, other = AudioIndex(vectors[:99], lengths[:99]).pairs(vectors[99:], lengths[99:])
    assert (own.tolist(), other.tolist()) == ([0], [98])
    assert has_same_audio(vectors[99], vectors[:99])
    assert not has_same_audio(vectors[99], vectors[:98])


def test_vectors_of_unknown_lengths_are_copies_only_if_they_are_equal() -> None:
    vectors = vectors_of(6)
    vectors[4], vectors[5] = vectors[0], (1 + 1e-6) * vectors[1]
    assert groups(audio_numbers(set_of(vectors))[0]) == {(0, 4)}
    assert groups(number_vectors(vectors, torch.zeros(6))) == {(0, 4)}
    assert groups(number_vectors(vectors, torch.ones(6))) == {(0, 4), (1, 5)}


def test_lengths_of_copies_are_equal() -> None:
    vectors = vectors_of(5)[[0, 1, 1, 1, 2]]
    assert groups(audio_numbers(set_of(vectors, [1.0, 2.0, 2.0, 3.0, 1.0]))[0]) == {(1, 2)}
    assert groups(audio_numbers(set_of(vectors, [np.nan] * 5))[0]) == {(1, 2, 3)}
