"""Rates and bandwidths in features files, warnings of narrow-band audio, and ``max_bandwidth``."""

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from corpora import Corpus, Utterance, load_corpus
from embedding import Row
from encoders import lazy_encoder
from features import (
    FeaturesError,
    FeatureSet,
    default_file_name,
    extract,
    find_narrow_speakers,
    learned_bandwidth,
    warn_of_narrow_rows,
)

WriteCorpus = Callable[..., Corpus]
RunExtract = Callable[..., tuple[FeatureSet, int]]


@pytest.fixture
def write_rates(tmp_path: Path, write_audio: Callable[..., Path]) -> WriteCorpus:
    """Return a function that writes four speakers with three files each, at the rates of the speakers."""

    def write(name: str, rates: Sequence[int]) -> Corpus:
        for speaker, rate in zip("abcd", rates, strict=True):
            for number in range(3):
                write_audio(tmp_path / name / speaker / f"{number}.wav", rate=rate, seed=10 * ord(speaker) + number)
        return load_corpus(tmp_path / name)

    return write


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


def widths_of(features: FeatureSet) -> list[float]:
    assert features.audio is not None
    widths: list[float] = features.audio.bandwidth.tolist()
    return widths


def test_rates_and_bandwidths_are_stored(write_rates: WriteCorpus, tmp_path: Path) -> None:
    corpus = write_rates("mixed", (8_000, 16_000, 44_100, 8_000))
    extract(corpus, lazy_encoder("spectral", device="cpu"), tmp_path / "x.pt", progress=False)
    features = FeatureSet.load(tmp_path / "x.pt")
    assert features.audio is not None
    assert features.audio.file_rate.tolist() == [rate for rate in (8_000, 16_000, 44_100, 8_000) for _ in range(3)]
    assert [width < 4_001 for width in widths_of(features)] == 3 * [True] + 6 * [False] + 3 * [True]
    assert min(widths_of(features)[3:9]) > 7_000


@pytest.mark.parametrize("rates", [(16_000,) * 4, (8_000,) * 4, (48_000, 16_000, 44_100, 16_000)])
def test_speakers_of_one_bandwidth_cause_no_warning(
    rates: tuple[int, ...], write_rates: WriteCorpus, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    extract(write_rates("equal", rates), lazy_encoder("spectral", device="cpu"), tmp_path / "x.pt", progress=False)
    assert warnings(caplog) == []


def test_extraction_warns_of_speakers_that_are_narrower_than_others(
    write_rates: WriteCorpus, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    corpus = write_rates("mixed", (8_000, 16_000, 16_000, 8_000))
    for _ in range(2):  # a file that is complete too
        caplog.clear()
        features = extract(corpus, lazy_encoder("spectral", device="cpu"), tmp_path / "x.pt", progress=False)
        [warning] = warnings(caplog)
        assert warning == f"{tmp_path / 'x.pt'}: {find_narrow_speakers(features)[0]}."
        assert "8.0 kHz but less for 2 of 4 speakers (a: 3.9 kHz, d: 3.9 kHz)" in warning
        assert "--max_bandwidth 4000" in warning
    caplog.clear()
    limited = lazy_encoder("spectral", device="cpu", max_bandwidth=4_000)
    features = extract(corpus, limited, tmp_path / "limited.pt", progress=False)
    assert warnings(caplog) == find_narrow_speakers(features) == []
    assert max(widths_of(features)) <= 4_000


def test_files_without_the_columns_are_continued_without_computing_rows_again(
    write_rates: WriteCorpus, tmp_path: Path, run_extract: RunExtract, caplog: pytest.LogCaptureFixture
) -> None:
    corpus = write_rates("mixed", (8_000, 16_000, 16_000, 8_000))
    some = Corpus(corpus.utterances[:9], corpus.root, corpus.name)
    run_extract(some, tmp_path / "x.pt")
    content = torch.load(tmp_path / "x.pt", weights_only=True)
    for column in ("file_rate", "bandwidth"):
        del content["audio"][column]
    torch.save(content, tmp_path / "x.pt")
    caplog.clear()
    assert all(map(math.isnan, widths_of(FeatureSet.load(tmp_path / "x.pt"))))
    assert learned_bandwidth(FeatureSet.load(tmp_path / "x.pt")) is None
    assert run_extract(some, tmp_path / "x.pt")[1] == 0
    features, n_encoded = run_extract(corpus, tmp_path / "x.pt")
    assert n_encoded == 3
    assert [math.isnan(width) for width in widths_of(features)] == 9 * [True] + 3 * [False]
    assert features.audio is not None
    assert features.audio.file_rate.tolist() == 9 * [0] + 3 * [8_000]
    assert warnings(caplog) == []


def test_limit_makes_features_of_wide_and_narrow_files_alike(
    write_rates: WriteCorpus, tmp_path: Path, write_audio: Callable[..., Path]
) -> None:
    import soundfile
    import soxr

    wide = write_rates("wide", (16_000,) * 4)
    for utterance in wide:
        copy = tmp_path / "narrow" / utterance.path.relative_to(wide.root)
        copy.parent.mkdir(parents=True, exist_ok=True)
        samples, rate = soundfile.read(utterance.path)
        soundfile.write(copy, soxr.resample(samples, rate, 8_000), 8_000, subtype="FLOAT")
    narrow = load_corpus(tmp_path / "narrow")
    distances = {}
    for limit in (None, 4_000):
        encoder = lazy_encoder("spectral", device="cpu", max_bandwidth=limit)
        one, other = (
            extract(corpus, encoder, tmp_path / f"{corpus.name}{limit}.pt", progress=False) for corpus in (wide, narrow)
        )
        distances[limit] = float((one.features - other.features).norm() / one.features.norm())
    assert distances[4_000] < 1e-3 < 0.1 < distances[None]


def test_another_limit_is_refused_by_a_file_and_named_by_default(write_rates: WriteCorpus, tmp_path: Path) -> None:
    corpus = write_rates("wide", (16_000,) * 4)
    encoders = [lazy_encoder("spectral", device="cpu", max_bandwidth=limit) for limit in (None, 4_000, 5_000, 8_000)]
    names = [default_file_name("wide", encoder, 10.0) for encoder in encoders]
    assert names[0] == names[3] == "wide_features_spectral.pt"  # half the encoder's rate is no limit
    assert len(set(names)) == 3
    extract(corpus, encoders[0], tmp_path / "x.pt", progress=False)
    with pytest.raises(FeaturesError, match="max_bandwidth is None there, 4000 here"):
        extract(corpus, encoders[1], tmp_path / "x.pt", progress=False)


def test_learned_bandwidth_is_the_one_that_most_rows_reach(features: FeatureSet) -> None:
    assert features.audio is not None
    widths = torch.full((len(features),), 8_000.0)
    widths[:10] = torch.nan
    assert learned_bandwidth(replace(features, audio=replace(features.audio, bandwidth=widths))) == 8_000
    widths[10:20] = 4_000
    changed = replace(features, audio=replace(features.audio, bandwidth=widths))
    assert learned_bandwidth(changed) == 4_000
    assert learned_bandwidth(changed, torch.arange(20, 40).numpy()) == 8_000
    assert learned_bandwidth(replace(features, audio=None)) is None


def test_files_are_named_once_with_their_widest_row(caplog: pytest.LogCaptureFixture) -> None:
    def row(name: str, width: float, **options: Any) -> Row:
        return Row(Utterance(Path(name), "", ""), options.get("vector", torch.ones(1)), bandwidth=width)

    rows = [
        row("narrow.wav", 3_400.0), row("narrow.wav", 3_300.0), row("quiet.wav", math.nan), row("both.wav", 3_000.0),
        row("both.wav", 8_000.0), row("failed.wav", math.nan, vector=None), row("wide.wav", 6_100.0),
    ]  # fmt: skip
    assert list(warn_of_narrow_rows(rows, 8_000.0)) == rows
    [warning] = warnings(caplog)
    assert warning.startswith(
        "The bandwidth of 1 of 4 recordings is narrower than that of the training recordings, 8.0 kHz "
        "(narrow.wav: 3.4 kHz)"
    )
    assert "--max_bandwidth 3500" in warning
    caplog.clear()
    assert list(warn_of_narrow_rows(rows, None)) == rows
    assert warnings(caplog) == []
