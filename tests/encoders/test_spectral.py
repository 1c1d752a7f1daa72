"""`spectral`: the invariants of every encoder, and a comparison with torchaudio."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torchaudio
from hypothesis import given, settings
from hypothesis import strategies as st

from encoders import Encoder, EncoderError

LENGTHS = st.lists(st.integers(1, 20_000), min_size=1, max_size=6)


def noise(length: int, seed: int = 0) -> torch.Tensor:
    return 0.1 * torch.randn(length, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=25, deadline=None)
@given(lengths=LENGTHS, batch_size=st.integers(2, 6))
def test_batching_does_not_change_embeddings(spectral: Encoder, lengths: list[int], batch_size: int) -> None:
    waveforms = [noise(length, seed) for seed, length in enumerate(lengths)]
    alone = torch.cat([spectral.encode([waveform]) for waveform in waveforms])
    batched = spectral.encode(waveforms, batch_size=batch_size)
    assert ((batched - alone).norm(dim=1) <= 1e-4 * alone.norm(dim=1)).all()


def test_encoding_twice_is_bit_identical(spectral: Encoder) -> None:
    waveforms = [noise(length) for length in (9_000, 16_000, 300)]
    assert torch.equal(spectral.encode(waveforms, batch_size=3), spectral.encode(waveforms, batch_size=3))


def test_output_has_documented_shape_dtype_and_device(spectral: Encoder) -> None:
    embeddings = spectral.encode([noise(16_000), noise(1)])
    assert embeddings.shape == (2, spectral.dim) == (2, 100)
    assert embeddings.dtype == torch.float32
    assert embeddings.device.type == "cpu"
    assert embeddings.isfinite().all()
    assert spectral.encode([]).shape == (0, 100)


@pytest.mark.parametrize("single", [noise(100), noise(100).numpy()], ids=["tensor", "array"])
def test_a_single_waveform_without_a_list_is_refused(single: Any, spectral: Encoder) -> None:
    with pytest.raises(EncoderError, match="put a single waveform into a list"):
        spectral.encode(single)


@pytest.mark.parametrize("paths", ["a.wav", ["a.wav"], [Path("a.wav")]])
def test_paths_are_refused_with_the_function_that_reads_them(paths: Any, spectral: Encoder) -> None:
    with pytest.raises(EncoderError, match=r"not paths; read each file with audio\.read_audio\(path, 16000\)"):
        spectral.encode(paths)


def test_waveforms_may_come_from_a_generator(spectral: Encoder) -> None:
    waveforms: Any = (noise(length) for length in (900, 500))
    assert torch.equal(spectral.encode(waveforms), spectral.encode([noise(900), noise(500)]))


def test_statistics_equal_those_of_torchaudio_mfcc(spectral: Encoder) -> None:
    waveform = noise(32_000)
    unit = waveform / waveform.square().mean().sqrt()
    mel = torchaudio.transforms.MelSpectrogram(
        16_000, 512, 400, 160, f_min=20.0, f_max=7600.0, n_mels=64, center=False, mel_scale="slaney"
    )(unit)
    dct = torchaudio.functional.create_dct(40, 64, norm="ortho")
    mfcc = (mel + 1e-6).log().T @ dct
    deltas = torchaudio.functional.compute_deltas(mfcc.T).T[2:-2]  # without the repeated frames at both ends
    expected = torch.cat([mfcc.mean(0), mfcc.std(0, correction=0), deltas[:, :20].std(0, correction=0)])
    torch.testing.assert_close(spectral.encode([waveform])[0], expected, rtol=1e-4, atol=1e-4)


def test_level_of_recording_has_no_effect(spectral: Encoder) -> None:
    waveform = noise(16_000)
    loud, quiet = spectral.encode([waveform, 0.01 * waveform])
    torch.testing.assert_close(loud, quiet, rtol=1e-4, atol=1e-3)


def test_encoding_neither_uses_nor_changes_random_state(spectral: Encoder) -> None:
    torch.manual_seed(1)
    first, state = spectral.encode([noise(8_000)]), torch.get_rng_state()
    torch.manual_seed(2)
    assert torch.equal(spectral.encode([noise(8_000)]), first)
    torch.manual_seed(1)
    assert torch.equal(torch.get_rng_state(), state)


def test_number_of_threads_is_restored(spectral: Encoder) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        spectral.encode([noise(8_000)])
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    "waveforms",
    [
        noise(100),
        [torch.zeros(0)],
        [torch.zeros(2, 100)],
        [torch.zeros(100, dtype=torch.int16)],
    ],
    ids=["bare vector", "empty", "two channels", "integers"],
)
def test_invalid_waveforms_are_refused(spectral: Encoder, waveforms: list[torch.Tensor]) -> None:
    with pytest.raises(EncoderError, match=r"waveform|Waveform"):
        spectral.encode(waveforms)


def test_embeddings_can_be_used_in_training(spectral: Encoder) -> None:
    layer = torch.nn.Linear(spectral.dim, 2)
    layer(spectral.encode([noise(8_000)])).sum().backward()
    assert layer.weight.grad is not None


def test_numpy_arrays_are_accepted(spectral: Encoder) -> None:
    waveform = noise(8_000)
    assert torch.equal(spectral.encode([waveform.numpy()]), spectral.encode([waveform]))  # type: ignore[list-item]
