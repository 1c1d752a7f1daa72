"""Front ends: parity with librosa, padded batches, and crops of a recording."""

from typing import Any

import librosa
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from networks import FRONT_ENDS, FrontEnd, NetworkError, create_front_end, front_ends

RATE = 16_000
SETTINGS: list[tuple[str, dict[str, Any]]] = [
    ("log_mel", {}),
    ("log_mel", {"normalize": "none"}),
    ("log_mel", {"n_mels": 128, "n_fft": 2048, "hop": 512, "normalize": "unit"}),
    ("log_mel", {"n_mels": 40, "n_fft": 401, "hop": 160}),
    ("mfcc", {}),
    ("mfcc", {"n_mfcc": 13, "n_mels": 40, "n_fft": 512, "hop": 160}),
]
# The FFT of a batch may use another algorithm than that of one waveform; both are float32, in dB below 100, and a
# coefficient of MFCC is a sum over 128 bands.
ATOL = 2e-3


def noise(n_samples: int, seed: int = 0) -> Tensor:
    """Return noise whose level rises and falls, with a quiet part below the range of 80 dB."""
    random = np.random.default_rng(seed)
    level = np.interp(np.arange(n_samples), np.linspace(0, n_samples, 5), [0.3, 0.01, 0.2, 0.1, 0.3])
    wave = level * random.standard_normal(n_samples)
    wave[: n_samples // 8] *= 1e-6
    return torch.from_numpy(wave).float()


def frames_of(front_end: FrontEnd, waveform: Tensor) -> Tensor:
    frames: Tensor
    frames, n_frames = front_end(waveform[None], torch.tensor([len(waveform)]))
    assert n_frames.item() == frames.shape[1]
    return frames[0]


@pytest.mark.parametrize("n_samples", [400, 5000, 40_123])
def test_log_mel_is_that_of_librosa(n_samples: int) -> None:
    wave = noise(n_samples)
    energies = librosa.feature.melspectrogram(
        y=wave.double().numpy(), sr=RATE, n_fft=400, hop_length=160, n_mels=80, pad_mode="constant"
    )
    decibels = librosa.power_to_db(energies, ref=1.0, top_db=80.0).T
    found = frames_of(create_front_end("log_mel", normalize="none"), wave)
    np.testing.assert_allclose(found, decibels, atol=ATOL)
    np.testing.assert_allclose(
        frames_of(create_front_end("log_mel", normalize="unit"), wave), (decibels - decibels.max()) / 80 + 1, atol=1e-4
    )
    np.testing.assert_allclose(frames_of(create_front_end("log_mel"), wave), decibels - decibels.mean(0), atol=2 * ATOL)


@pytest.mark.parametrize("n_samples", [2048, 5000, 40_123])
def test_mfcc_are_those_of_librosa(n_samples: int) -> None:
    wave = noise(n_samples)
    expected = librosa.feature.mfcc(y=wave.double().numpy(), sr=RATE, n_mfcc=40, pad_mode="constant").T
    np.testing.assert_allclose(frames_of(create_front_end("mfcc"), wave), expected, atol=ATOL)


@pytest.mark.parametrize(("name", "options"), SETTINGS)
@given(lengths=st.lists(st.integers(1, 9000), min_size=1, max_size=5), seed=st.integers(0, 99))
@settings(max_examples=15, deadline=None)
def test_padded_batch_is_one_waveform_at_a_time(
    name: str, options: dict[str, Any], lengths: list[int], seed: int
) -> None:
    front_end = create_front_end(name, **options)
    waves = [noise(length, seed + number) for number, length in enumerate(lengths)]
    batch = torch.nn.utils.rnn.pad_sequence(waves, batch_first=True)
    frames, n_frames = front_end(batch, torch.tensor(lengths))
    assert n_frames.tolist() == [1 + length // front_end.hop for length in lengths]
    for row, count, wave in zip(frames, n_frames.tolist(), waves, strict=True):
        assert torch.allclose(row[:count], frames_of(front_end, wave), atol=ATOL)
        assert not row[count:].any()


@pytest.mark.parametrize(("name", "options"), SETTINGS)
@pytest.mark.parametrize(("first", "count"), [(0, 5), (3, 12), (20, 1), (7, 9)])
def test_frames_of_a_crop_are_those_of_the_recording(
    name: str, options: dict[str, Any], first: int, count: int
) -> None:
    # Without a normalisation over the utterance, frames do not depend on the others.
    given_options = {**options, "top_db": 300.0, **({"normalize": "none"} if name == "log_mel" else {})}
    front_end = create_front_end(name, **given_options)
    wave = noise(40 * front_end.hop)
    whole = frames_of(front_end, wave)
    padded = torch.nn.functional.pad(wave, (front_end.margin, front_end.n_fft - front_end.margin))
    samples = padded[first * front_end.hop :]
    crop = samples[: (count - 1) * front_end.hop + front_end.n_fft]
    frames = front_end.frames(crop[None], torch.tensor([count]))
    assert frames.shape == (1, count, front_end.n_features)
    assert torch.allclose(frames[0], whole[first : first + count], atol=ATOL)


def test_the_loudest_band_of_a_crop_limits_its_range() -> None:
    front_end = create_front_end("log_mel", normalize="none", top_db=40.0)
    wave = noise(16_000)
    for frames in (frames_of(front_end, wave), frames_of(front_end, wave[:4000])):
        assert float(frames.max() - frames.min()) == pytest.approx(40.0, abs=1e-3)


@pytest.mark.parametrize(("name", "options"), SETTINGS)
def test_long_recordings_are_computed_in_blocks(
    name: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    front_end, wave = create_front_end(name, **options), noise(30_000)
    expected = frames_of(front_end, wave)
    monkeypatch.setattr(front_ends, "BLOCK", 7)
    assert torch.allclose(frames_of(front_end, wave), expected, atol=ATOL)


def test_silence_gives_finite_frames() -> None:
    for name in FRONT_ENDS:
        assert torch.isfinite(frames_of(create_front_end(name), torch.zeros(3000))).all()


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("log_mel", {"normalize": "maximum"}, "normalize is 'maximum'; choose none, mean or unit"),
        ("log_mel", {"n_mels": 300}, "n_mels is 300, n_fft is 400.*at most 201 mel bands"),
        ("log_mel", {"hop": 0}, "has hop=0; expected 1 or more"),
        ("log_mel", {"hop": 401}, "hop is 401"),
        ("log_mel", {"top_db": 0.0}, "top_db is 0"),
        ("log_mel", {"top_db": float("inf")}, "a finite top_db"),
        ("log_mel", {"sample_rate": 1}, "sample_rate is 1 .*expected 1,000 to 768,000 Hz"),
        ("mfcc", {"n_mfcc": 129}, "n_mfcc is 129; expected at most n_mels, 128"),
    ],
)
def test_settings_that_do_not_fit_are_refused(name: str, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(NetworkError, match=rf"^The front end '{name}' .*{sentence}"):
        create_front_end(name, **options)
