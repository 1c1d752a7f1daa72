"""Encoders with windows receive long files window by window; the result is that of the whole file."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from audio import Recording, read_audio, read_window
from corpora import Utterance, load_corpus
from embedding import Row, embed_utterances, worker
from encoders import Encoder, load_encoder

MakeEncoder = Callable[[float], Encoder]


@pytest.fixture
def windowed(clap_weights: Path) -> MakeEncoder:
    """Return a function that loads a small encoder with windows of 1 s and the given hop (seconds)."""
    return lambda hop: load_encoder("audiosep", clap_weights, device="cpu", window=1.0, hop=hop)


def embed_folder(root: Path, encoder: Encoder, max_duration: float | None = None, **options: Any) -> list[Row]:
    return list(embed_utterances(load_corpus(root).utterances, encoder, max_duration, **options))


def is_mean_of_whole_files(rows: Sequence[Row], encoder: Encoder, **crop: Any) -> bool:
    """Compare the rows with `Encoder.encode` of the whole waveforms."""
    found = torch.stack([row.vector for row in rows if row.vector is not None])
    waveforms = [read_audio(row.utterance.path, 32_000, **crop) for row in rows if row.vector is not None]
    return torch.allclose(found, encoder.encode(waveforms), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("rate", [16_000, 32_000, 44_100])
def test_windows_are_averaged_over_whole_files(
    rate: int, windowed: MakeEncoder, tmp_path: Path, write_audio: Callable[..., Path]
) -> None:
    write_audio(tmp_path / "ann" / "short.wav", seconds=0.4, rate=rate)
    write_audio(tmp_path / "ann" / "long.wav", seconds=12.6, rate=rate, seed=1)
    write_audio(tmp_path / "bob" / "middle.flac", seconds=1.0, rate=rate, seed=2)
    (tmp_path / "bob" / "text.wav").write_text("text" * 50)
    encoder = windowed(0.75)
    rows = embed_folder(tmp_path, encoder)
    assert [row.utterance.id for row in rows] == ["ann/long.wav", "ann/short.wav", "bob/middle.flac", "bob/text.wav"]
    assert [row.seconds for row in rows[:3]] == pytest.approx([12.6, 0.4, 1.0])
    assert [row.vector is None for row in rows] == [False, False, False, True]
    assert rows[3].fault == "not_audio"
    assert is_mean_of_whole_files(rows, encoder)
    cropped = embed_folder(tmp_path, encoder, 2.0)
    assert [row.seconds for row in cropped[:3]] == pytest.approx([2.0, 0.4, 1.0])
    assert is_mean_of_whole_files(cropped, encoder, max_duration=2.0)


def test_windows_of_a_channel_are_those_of_a_file_of_its_own(
    windowed: MakeEncoder, tmp_path: Path, write_audio: Callable[..., Path]
) -> None:
    path = write_audio(tmp_path / "a.wav", seconds=2.6, rate=44_100, channels=2)
    samples, rate = soundfile.read(path, dtype="int16")
    for channel in (0, 1):
        soundfile.write(tmp_path / f"{channel}.wav", samples[:, channel], rate)
    utterances = [Utterance(path, "ann", "ann", 0.1, 2.25, channel=channel) for channel in (0, 1)]
    utterances += [Utterance(tmp_path / f"{channel}.wav", "ann", "ann", 0.1, 2.25) for channel in (0, 1)]
    utterances += [Utterance(path, "ann", "ann", 0.1, 2.25, channel=2)]
    for encoder in (windowed(0.75), load_encoder("spectral", device="cpu")):
        rows = list(embed_utterances(utterances, encoder, None))
        vectors = [row.vector for row in rows]
        assert vectors[0] is not None
        assert vectors[1] is not None
        torch.testing.assert_close(vectors[0], vectors[2])
        torch.testing.assert_close(vectors[1], vectors[3])
        assert not torch.allclose(vectors[0], vectors[1], rtol=1e-2)
        assert (rows[4].fault, rows[4].vector) == ("no_channel", None)


@pytest.mark.parametrize("rate", [16_000, 32_000, 44_100])
def test_silent_windows_are_skipped(rate: int, windowed: MakeEncoder, tmp_path: Path) -> None:
    sound = 0.3 * torch.randn(rate, generator=torch.Generator().manual_seed(0)).numpy()
    silence = 0 * sound
    for speaker, parts in (
        ("ann", [sound, silence, silence]), ("bob", [sound]), ("cat", 3 * [silence]), ("dan", [silence, sound]),
    ):  # fmt: skip
        (tmp_path / speaker).mkdir()
        soundfile.write(tmp_path / speaker / "1.wav", np.concatenate(parts), rate)
    encoder = windowed(1.0)
    rows = embed_folder(tmp_path, encoder)
    assert [(row.utterance.id, row.fault) for row in rows if row.vector is None] == [("cat/1.wav", "silent")]
    assert str(rows[2].error).startswith("each of the 3 windows is silent; the first: all samples from 0 s to 1.05 s")
    assert [row.seconds for row in rows if row.vector is not None] == [3.0, 1.0, 2.0]
    assert is_mean_of_whole_files(rows, encoder)
    if rate == 32_000:  # resampling makes the silence next to the sound ring a little
        torch.testing.assert_close(rows[0].vector, rows[1].vector)


def test_file_that_is_cut_off_in_its_last_window_fails(
    windowed: MakeEncoder, tmp_path: Path, write_audio: Callable[..., Path]
) -> None:
    for name in ("ann/1.wav", "bob/1.wav"):
        path = write_audio(tmp_path / name, seconds=3.0, rate=32_000)
    path.write_bytes(path.read_bytes()[:-30_000])
    whole, cut_off = embed_folder(tmp_path, windowed(1.0))
    assert whole.vector is not None
    assert cut_off.vector is None
    assert "cut off" in str(cut_off.error)


def test_file_that_changes_between_its_windows_fails(
    windowed: MakeEncoder, tmp_path: Path, write_audio: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ann/1.wav", "bob/1.wav"):
        changing = write_audio(tmp_path / name, seconds=3.0, rate=32_000)
    read, state = read_window, worker.file_state
    n_read = []

    def read_and_change(path: Path, *arguments: Any, **options: Any) -> Recording:
        recording = read(path, *arguments, **options)
        if path == changing:
            n_read.append(path)
            if len(n_read) == 1:
                monkeypatch.setattr(worker, "file_state", changed_state)
        return recording

    def changed_state(path: Path) -> worker.FileState:
        found = state(path)
        return replace(found, digest=bytes(32)) if path == changing else found

    monkeypatch.setattr(worker, "read_window", read_and_change)
    unchanged, changed = embed_folder(tmp_path, windowed(1.0), with_state=True, num_workers=0)
    assert unchanged.vector is not None
    assert changed.vector is None
    assert changed.error == "the file changed while it was read; run the same command again"
