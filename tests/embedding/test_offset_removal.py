"""DC offsets above 0.001 are removed, samples on the scale of integers divided, whichever way audio is read."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

from audio import read_audio
from corpora import Utterance
from embedding import MAX_OFFSET, DecodeSettings, Piece, Row, decode, embed_utterances, measure_utterances
from encoders import Encoder, load_encoder

RATE = 16_000


@pytest.fixture
def voices(tmp_path: Path, write_audio: Callable[..., Path]) -> list[Utterance]:
    """Return three recordings whose mean is 0."""
    utterances = []
    for number in range(3):
        path = write_audio(tmp_path / f"{number}.wav", seconds=2.0 + number, seed=number, subtype="FLOAT")
        samples, _ = soundfile.read(path)
        soundfile.write(path, samples - samples.mean(), RATE, subtype="FLOAT")
        utterances.append(Utterance(path, "ann", "", root=tmp_path))
    return utterances


def copies(
    utterances: Sequence[Utterance], folder: Path, gain: float = 1.0, offset: float = 0.0, rate: int = RATE
) -> list[Utterance]:
    """Write copies of recordings, amplified and then shifted."""
    folder.mkdir()
    found = []
    for utterance in utterances:
        samples, _ = soundfile.read(utterance.path)
        path = folder / utterance.path.name
        soundfile.write(path, gain * samples + offset, rate, subtype="FLOAT")
        found.append(Utterance(path, "ann", "", root=folder))
    return found


def vectors(rows: Sequence[Row]) -> Tensor:
    return torch.stack([row.vector for row in rows if row.vector is not None])


@pytest.mark.parametrize("offset", [0.02, 0.05, -0.05])
def test_offset_has_no_effect(
    offset: float, voices: list[Utterance], spectral: Encoder, tmp_path: Path, many_workers: None
) -> None:
    plain = list(embed_utterances(voices, spectral))
    assert [row.offset for row in plain] == pytest.approx([0, 0, 0], abs=1e-6)
    shifted = copies(voices, tmp_path / "shifted", gain=0.4, offset=offset)
    for num_workers in (0, 2):
        rows = list(embed_utterances(shifted, spectral, num_workers=num_workers))
        assert [row.offset for row in rows] == pytest.approx([offset] * 3, abs=1e-5)
        torch.testing.assert_close(vectors(rows), vectors(plain), rtol=1e-3, atol=1e-3)
    kept = spectral.encode([read_audio(utterance.path, RATE) for utterance in shifted])  # encode removes nothing
    assert float((kept - vectors(plain)).abs().max()) > 0.1


def test_mean_up_to_the_bound_is_kept(voices: list[Utterance], spectral: Encoder, tmp_path: Path) -> None:
    shifted = copies(voices, tmp_path / "shifted", offset=0.9 * MAX_OFFSET)
    rows = list(embed_utterances(shifted, spectral))
    assert [row.offset for row in rows] == pytest.approx([0.9 * MAX_OFFSET] * 3, rel=1e-3)
    assert torch.equal(vectors(rows), torch.cat([spectral.encode([read_audio(each.path, RATE)]) for each in shifted]))


def test_offset_of_the_part_that_is_embedded_is_removed(
    voices: list[Utterance], spectral: Encoder, tmp_path: Path
) -> None:
    """A second with an offset between seconds without; spans, crops and the whole recording have their own means."""
    [one, *_] = voices
    samples, _ = soundfile.read(one.path)
    path = tmp_path / "step.wav"
    soundfile.write(path, np.concatenate([samples[:RATE], samples[:RATE] + 0.1]), RATE, subtype="FLOAT")
    spans = [Utterance(path, "ann", "", start=start, duration=1.0) for start in (0.0, 1.0)]
    first, second = embed_utterances(spans, spectral)
    assert second.offset - first.offset == pytest.approx(0.1, abs=1e-6)
    torch.testing.assert_close(first.vector, second.vector, rtol=2e-2, atol=2e-2)
    [cropped] = embed_utterances([Utterance(path, "ann", "")], spectral, max_duration=1.0)
    assert torch.equal(vectors([cropped]), vectors([first]))
    [whole] = embed_utterances([Utterance(path, "ann", "")], spectral)
    assert whole.offset == pytest.approx((first.offset + second.offset) / 2, abs=1e-6)


@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_each_window_has_its_own_offset(rate: int, clap_weights: Path, voices: list[Utterance], tmp_path: Path) -> None:
    windowed = load_encoder("audiosep", clap_weights, device="cpu", window=1.0, hop=0.5)
    plain = list(embed_utterances(copies(voices, tmp_path / "plain", rate=rate), windowed))
    rows = list(embed_utterances(copies(voices, tmp_path / "shifted", offset=0.05, rate=rate), windowed))
    assert [row.offset for row in rows] == pytest.approx([0.05] * 3, abs=0.02)
    assert torch.nn.functional.cosine_similarity(vectors(rows), vectors(plain)).min() > 0.999
    kept = embed_utterances(copies(voices, tmp_path / "loose", offset=0.9 * MAX_OFFSET, rate=rate), windowed)
    assert all(row.vector is not None for row in kept)


@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_window_of_a_constant_is_silent(rate: int, voices: list[Utterance], tmp_path: Path) -> None:
    """Digital silence with an offset stays silence, also if resampling rounds its samples."""
    samples, _ = soundfile.read(voices[0].path)
    soundfile.write(tmp_path / "a.wav", np.concatenate([samples[:rate], np.zeros(3 * rate)]) + 0.05, rate, "FLOAT")
    utterance, settings = Utterance(tmp_path / "a.wav", "", ""), DecodeSettings(32_000, None)
    pieces = [Piece(utterance, window=(first, 16_000), seconds=3.5) for first in (0, 64_000)]
    voiced, constant = decode(pieces, 2, settings, max_held=2)
    assert voiced.fault is None
    assert constant.fault is not None
    assert constant.fault.fault == "silent"


@pytest.mark.parametrize("scale", [2.0**15, 2.0**31])
def test_samples_on_the_scale_of_integers_give_the_same_vectors(
    scale: float,
    voices: list[Utterance],
    scratch_weights: Callable[..., Path],
    tmp_path: Path,
    many_workers: None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    encoder = load_encoder("scratch", scratch_weights(), device="cpu")
    scaled = copies(voices, tmp_path / "scaled", gain=scale)
    rows = list(embed_utterances([*voices, *scaled], encoder, num_workers=2))
    assert [row.full_scale for row in rows] == 3 * [1] + 3 * [scale]
    assert torch.equal(vectors(rows[:3]), vectors(rows[3:]))
    names = ", ".join(str(utterance.path) for utterance in scaled)
    [warning] = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert warning == (
        f"Floating-point samples on the scale of integers: 3 files ({names}). They are divided by {scale:,.0f}."
    )


def test_whole_file_decides_on_the_scale_of_its_windows(
    voices: list[Utterance], clap_weights: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    windowed = load_encoder("audiosep", clap_weights, device="cpu", window=0.5, hop=0.5)
    samples, _ = soundfile.read(voices[0].path)
    fading = samples * np.geomspace(1, 1e-5, len(samples))  # its last windows are below 4 on any scale
    for name, scale in (("a.wav", 1), ("b.wav", 2**15)):
        soundfile.write(tmp_path / name, scale * fading, RATE, subtype="FLOAT")
    rows = list(embed_utterances([Utterance(tmp_path / name, "", "") for name in ("a.wav", "b.wav")], windowed))
    assert torch.equal(*vectors(rows))
    assert caplog.text.count("on the scale of integers: 1 file (") == 1


def test_unknown_scale_is_an_error_of_the_row(voices: list[Utterance], spectral: Encoder, tmp_path: Path) -> None:
    loud = copies(voices[:1], tmp_path / "loud", gain=40.0)
    good, bad = embed_utterances([voices[1], *loud], spectral)
    assert good.vector is not None
    assert bad.vector is None
    assert bad.fault == "unknown_scale"
    assert "its samples reach 19.99" in str(bad.error)


def test_measuring_gives_the_rows_without_vectors(
    voices: list[Utterance], clap_weights: Path, spectral: Encoder, tmp_path: Path
) -> None:
    shifted = copies(voices, tmp_path / "shifted", offset=0.02)
    (tmp_path / "text.wav").write_text("text" * 50)
    utterances = [*shifted, Utterance(tmp_path / "text.wav", "", "")]
    windowed = load_encoder("audiosep", clap_weights, device="cpu", window=1.0, hop=0.5)
    for encoder in (spectral, windowed):
        measured = list(measure_utterances(utterances, encoder, 1.5))
        embedded = list(embed_utterances(utterances, encoder, 1.5))
        for one, other in zip(measured, embedded, strict=True):
            assert one.vector is None
            assert (one.error, one.fault, one.seconds) == (other.error, other.fault, other.seconds)
            assert (one.offset, one.bandwidth) == pytest.approx((other.offset, other.bandwidth), nan_ok=True)
    assert list(measure_utterances([], spectral)) == []
