"""`extract`: its rows, its settings, and the default name of its file."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from audio import read_audio
from corpora import Corpus, Utterance, load_corpus
from encoders import Encoder, lazy_encoder, load_encoder
from features import FeaturesError, FeatureSet, crop_of, default_file_name, extract
from files import OutputError

RunExtract = Callable[..., tuple[FeatureSet, int]]


def test_rows_equal_those_of_files_encoded_alone(corpus: Corpus, spectral: Encoder, features: FeatureSet) -> None:
    assert features.ids == corpus.ids
    assert [features.speakers[label] for label in features.labels] == [utterance.speaker for utterance in corpus]
    sessions = [features.session_names[session] for session in features.sessions]
    assert sessions == [utterance.session for utterance in corpus]
    for row in (0, 17, 39):
        waveform = read_audio(corpus.utterances[row].path, 16_000)
        assert torch.equal(features.features[row], spectral.encode([waveform])[0])
        assert features.durations[row] == pytest.approx(len(waveform) / 16_000)


def test_number_of_workers_does_not_change_a_bit(corpus: Corpus, tmp_path: Path, run_extract: RunExtract) -> None:
    one, _ = run_extract(corpus, tmp_path / "one.pt", num_workers=1)
    many, _ = run_extract(corpus, tmp_path / "many.pt", num_workers=4)
    assert torch.equal(one.features, many.features)
    assert one.ids == many.ids


def test_each_segment_of_a_file_has_a_row(
    tmp_path: Path, write_audio: Callable[..., Path], run_extract: RunExtract
) -> None:
    path = write_audio(tmp_path / "long.wav", seconds=4.0)
    spans = ((0.0, 1.0), (1.0, 1.5), (2.5, None))
    corpus = Corpus(
        tuple(Utterance(path, f"s{start}", "m", start, length, root=tmp_path) for start, length in spans),
        tmp_path,
        "meeting",
    )
    features, _ = run_extract(corpus, tmp_path / "x.pt")
    assert features.ids == ("long.wav#0-1", "long.wav#1-1.5", "long.wav#2.5-")
    assert features.durations.tolist() == [1.0, 1.5, 1.5]
    assert len({tuple(row.tolist()) for row in features.features}) == 3
    assert run_extract(corpus, tmp_path / "x.pt")[1] == 0
    reversed_corpus = Corpus(corpus.utterances[::-1], tmp_path, "meeting")
    reversed_features, n_encoded = run_extract(reversed_corpus, tmp_path / "x.pt")
    assert n_encoded == 0
    assert torch.equal(reversed_features.features, features.features.flip(0))


def test_crop_limits_what_is_read(corpus: Corpus, tmp_path: Path, run_extract: RunExtract) -> None:
    features, _ = run_extract(corpus, tmp_path / "x.pt", max_duration=0.5)
    assert features.durations.max() == 0.5
    whole, _ = run_extract(corpus, tmp_path / "y.pt", max_duration=None)
    assert whole.durations.max() == pytest.approx(0.8)


def test_auto_crop_is_that_of_the_encoder(corpus: Corpus, tmp_path: Path, counting_encoder: Any) -> None:
    encoder = counting_encoder()
    assert crop_of(encoder, "auto") == encoder.max_duration == 10.0
    encoder.max_duration = 0.5
    assert crop_of(encoder, "auto") == 0.5
    features = extract(corpus, encoder, tmp_path / "x.pt", max_duration="auto", progress=False)
    assert features.audio is not None
    assert features.audio.crop == 0.5
    assert features.durations.max() == 0.5
    encoder.max_duration = None
    assert crop_of(encoder, "auto") is None
    whole = extract(corpus, encoder, tmp_path / "y.pt", max_duration="auto", progress=False)
    assert whole.audio is not None
    assert whole.audio.crop is None
    assert whole.durations.max() == pytest.approx(0.8)


def test_auto_crop_is_none_with_windows(clap_weights: Path, tmp_path: Path, write_audio: Callable[..., Path]) -> None:
    encoder = load_encoder("audiosep", clap_weights, device="cpu", window=1.0, hop=1.0)
    assert crop_of(encoder, "auto") is None
    assert crop_of(lazy_encoder("audiosep", clap_weights, window=1.0, hop=1.0), "auto") is None
    assert crop_of(lazy_encoder("audiosep", clap_weights), "auto") == encoder.max_duration == 10.0
    for name in ("ann/1.wav", "bob/1.wav"):
        write_audio(tmp_path / "data" / name, seconds=11.0, rate=32_000)
    features = extract(load_corpus(tmp_path / "data"), encoder, tmp_path / "x.pt", max_duration="auto", progress=False)
    assert features.durations.tolist() == [11.0, 11.0]
    assert features.audio is not None
    assert features.audio.crop is None


@pytest.mark.parametrize("max_duration", [5.0, None])
def test_explicit_crop_is_used_as_given(max_duration: float | None, clap_weights: Path) -> None:
    assert crop_of(lazy_encoder("audiosep", clap_weights), max_duration) == max_duration
    assert crop_of(lazy_encoder("audiosep", clap_weights, window=1.0), max_duration) == max_duration


def test_auto_crop_is_the_default(corpus: Corpus, tmp_path: Path, features: FeatureSet, counting_encoder: Any) -> None:
    encoder = counting_encoder()
    assert features.audio is not None
    assert features.audio.crop == encoder.max_duration
    features.save(tmp_path / "x.pt")
    extract(corpus, encoder, tmp_path / "x.pt", max_duration="auto", progress=False)
    assert encoder.n_encoded == 0


def test_encoder_gets_no_more_audio_than_it_uses(
    clap_weights: Path, tmp_path: Path, write_audio: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("ann/1.wav", "bob/1.wav"):
        write_audio(tmp_path / "data" / name, seconds=11.0, rate=32_000)
    encoder = load_encoder("audiosep", clap_weights, device="cpu")
    whole = extract(load_corpus(tmp_path / "data"), encoder, tmp_path / "x.pt", max_duration=None, progress=False)
    assert whole.durations.tolist() == [10.0, 10.0]
    assert "uses the first 10 s" in caplog.text
    caplog.clear()
    extract(load_corpus(tmp_path / "data"), encoder, tmp_path / "y.pt", progress=False)
    assert "uses the first" not in caplog.text


def test_features_can_be_stored_in_half_precision(
    corpus: Corpus, features: FeatureSet, tmp_path: Path, run_extract: RunExtract
) -> None:
    half, _ = run_extract(corpus, tmp_path / "x.pt", store_dtype="fp16")
    assert half.features.dtype == torch.float16
    assert torch.equal(half.features, features.features.half())
    again, n_encoded = run_extract(corpus, tmp_path / "x.pt", store_dtype="fp16")
    assert n_encoded == 0
    assert torch.equal(again.features, half.features)
    with pytest.raises(FeaturesError, match=r"store_dtype is torch\.float16 there, torch\.float32 here"):
        run_extract(corpus, tmp_path / "x.pt")
    with pytest.raises(FeaturesError, match=r"fp8.*fp32, fp16"):
        run_extract(corpus, tmp_path / "y.pt", store_dtype="fp8")


def test_vectors_too_large_for_half_precision_fail(
    corpus: Corpus, tmp_path: Path, run_extract: RunExtract, counting_encoder: Any
) -> None:
    def enlarge(waveforms: Sequence[Tensor], vectors: Tensor) -> Tensor:
        is_long = torch.tensor([len(waveform) > 12_000 for waveform in waveforms])
        return vectors + 7e4 * is_long[:, None]

    found, _ = run_extract(corpus, tmp_path / "x.pt", counting_encoder(change=enlarge), store_dtype="fp16")
    assert len(found.failures) == 8
    assert found.features.isfinite().all()
    assert "too large for fp16" in found.failures[0][1]


def test_folder_that_cannot_be_written_is_refused_before_encoding(
    corpus: Corpus, tmp_path: Path, run_extract: RunExtract, counting_encoder: Any
) -> None:
    (tmp_path / "file").touch()
    encoder = counting_encoder()
    with pytest.raises(OutputError, match="nothing can be written into this folder"):
        run_extract(corpus, tmp_path / "file" / "x.pt", encoder)
    assert encoder.n_encoded == 0


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_read_only_folder_is_refused_before_encoding(
    corpus: Corpus, tmp_path: Path, run_extract: RunExtract, counting_encoder: Any
) -> None:
    tmp_path.chmod(0o500)
    encoder = counting_encoder()
    with pytest.raises(OutputError, match="Permission denied"):
        run_extract(corpus, tmp_path / "x.pt", encoder)
    assert encoder.n_encoded == 0


def test_only_other_settings_change_the_default_name() -> None:
    default, other = lazy_encoder("spectral"), lazy_encoder("spectral", n_mfcc=30)
    assert default_file_name("librispeech", default, 10.0) == "librispeech_features_spectral.pt"
    names = {
        default_file_name("librispeech", encoder, crop)
        for encoder, crop in ((default, 10.0), (other, 10.0), (default, 5.0), (default, None), (other, 5.0))
    }
    assert len(names) == 5
    assert all(name.startswith("librispeech_features_spectral") and len(name) in (32, 41) for name in names)
    half = default_file_name("librispeech", default, 10.0, store_dtype="fp16")
    assert half == "librispeech_features_spectral_fp16.pt"
