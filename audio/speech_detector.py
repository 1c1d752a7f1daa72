"""Speech detection with the network of silero-vad: where in a recording somebody speaks."""

import os
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from audio.audio_error import AudioError
from audio.read import read_window, span_seconds
from audio.read_speech import Speech
from audio.speech_segments import SpeechSettings, find_segments
from files import InputError, WheelFile, track
from networks import SileroVad, single_thread

SAMPLE_RATE = 16_000
# Length of a chunk that has one probability, and of the part before it that the network needs (samples).
CHUNK, CONTEXT = 512, 64
# Samples that are passed to the network at a time: 32.8 s, whole chunks.
BLOCK = 1_024 * CHUNK
# Samples that are read from a file at a time: 131 s, whole blocks.
READ_BLOCK = 4 * BLOCK


class SpeechError(InputError):
    """The weights of the speech detection cannot be used."""


WEIGHTS = WheelFile(
    package="silero-vad",
    version="6.2.3",
    member="silero_vad/data/silero_vad.jit",
    sha256="e1122837f4154c511485fe0b9c64455f7b929c96fbb8d79fbdb336383ebd3720",
    n_bytes=2_272_526,
    megabytes=11,
    platform="any",
    python="3.11",
    mirror="https://github.com/snakers4/silero-vad/raw/v6.2.3/src/silero_vad/data/silero_vad.jit",
    use="The weights of the speech detection",
    advice="Without --vad, they are not needed.",
    error_class=SpeechError,
)


class SpeechDetector:
    """Find speech in waveforms and files, with the network of silero-vad 6.2.3, on the CPU with one thread.

    The level of a recording is not changed. Results do not depend on the number of threads, or on how a recording is
    read: whole, or in blocks.

    Parameters
    ----------
    settings : SpeechSettings, optional
    download : bool
        Whether the weights may be downloaded.

    Raises
    ------
    SpeechError
        The weights are not on this machine and cannot be downloaded, or the file of them cannot be used.
    """

    def __init__(self, settings: SpeechSettings | None = None, download: bool = True) -> None:
        self.settings = settings or SpeechSettings()
        found = WEIGHTS.find(download)
        if found is None:
            raise SpeechError(f"{WEIGHTS.use}, {WEIGHTS.name}, are not on this machine.")
        self._network = _load(found)

    @property
    def spec(self) -> dict[str, Any]:
        """Everything that changes the result, as plain values."""
        return {"name": "silero", "version": 1, "weights": WEIGHTS.sha256, **asdict(self.settings)}

    def probabilities(self, waveform: Tensor) -> Tensor:
        """Compute the probability of speech of each 32 ms.

        Parameters
        ----------
        waveform : Tensor (samples,)
            float32, on the CPU, at 16 kHz; full scale is 1.

        Returns
        -------
        Tensor (chunks,)
            float32; the last chunk may be in part after the end, where it has zeros.
        """
        return self._probabilities(iter(torch.split(waveform, BLOCK)))

    def find(self, waveform: Tensor) -> list[tuple[float, float]]:
        """Find the segments with speech in a waveform, as `probabilities` takes it.

        Returns
        -------
        list of (float, float)
            Start and end of each segment (seconds), in order and without overlap; empty if nobody speaks.
        """
        return self._segments(self.probabilities(waveform), len(waveform))

    def find_in_file(
        self,
        path: str | os.PathLike[str],
        start: float = 0.0,
        duration: float | None = None,
        *,
        max_bandwidth: float | None = None,
        channel: int | None = None,
    ) -> list[tuple[float, float]]:
        """Find the segments with speech in a span of a file, which is read in blocks: a long one needs little memory.

        Parameters
        ----------
        path : path-like
            The file.
        start : float
            Start of the span (seconds).
        duration : float, optional
            Length of the span (seconds); None is to the end of the file.
        max_bandwidth, channel
            As in `read_audio`.

        Returns
        -------
        list of (float, float)
            Start and end of each segment (seconds from the start of the span).

        Raises
        ------
        AudioError
            The file cannot be read, as in `read_audio`.
        """
        span = _Span(Path(path), start, duration, max_bandwidth=max_bandwidth, channel=channel)
        # Short next to the work that follows it, so it is only reported to an observer.
        blocks = track(span.blocks(), "Finding speech", span.n_blocks, unit="block", visible=False)
        return self._segments(self._probabilities(blocks), span.n_samples)

    def require_speech(
        self,
        path: str | os.PathLike[str],
        start: float = 0.0,
        duration: float | None = None,
        *,
        max_bandwidth: float | None = None,
        channel: int | None = None,
    ) -> Speech:
        """Find the segments with speech, as `find_in_file` does, and refuse a span without speech.

        Raises
        ------
        AudioError
            Nobody speaks: the fault is ``no_speech``. Or the file cannot be read.
        """
        span = _Span(Path(path), start, duration, max_bandwidth=max_bandwidth, channel=channel)
        probabilities = self._probabilities(span.blocks())
        segments = self._segments(probabilities, span.n_samples)
        if not segments:
            raise AudioError(path, "no_speech", self._describe_absence(float(probabilities.max())))
        return Speech(tuple(segments), span.seconds)

    def _describe_absence(self, highest: float) -> str:
        """Return why there is no speech."""
        threshold = self.settings.threshold
        if highest < threshold:
            return (
                f"no speech: the highest probability of speech is {highest:.2f}, and speech begins at {threshold:g} "
                "(--vad_threshold)"
            )
        return f"no speech: none lasts longer than {self.settings.min_speech:g} s (--vad_min_speech)"

    def _segments(self, probabilities: Tensor, n_samples: int) -> list[tuple[float, float]]:
        step, seconds = CHUNK / SAMPLE_RATE, n_samples / SAMPLE_RATE
        return find_segments(probabilities.tolist(), self.settings, step, seconds=seconds)

    @torch.inference_mode()
    @single_thread()
    def _probabilities(self, blocks: Iterable[Tensor]) -> Tensor:
        """Pass blocks of `BLOCK` samples, the last of which may be shorter, to the network one after the other."""
        before, state, found = torch.zeros(CONTEXT), None, [torch.zeros(0)]
        for block in (each for each in blocks if len(each)):
            missing = -len(block) % CHUNK
            samples = torch.cat([before, block, torch.zeros(missing)])
            probabilities, state = self._network(samples[None], state)
            before = samples[-CONTEXT:]
            found.append(probabilities[0])
        return torch.cat(found)


class _Span:
    """A span of a file, which is read in blocks for the network; arguments are those of `find_in_file`."""

    def __init__(
        self, path: Path, start: float, duration: float | None, *, max_bandwidth: float | None, channel: int | None
    ) -> None:
        self.seconds = span_seconds(path, start, duration, channel=channel, with_counting=True)
        self.n_samples = max(round(self.seconds * SAMPLE_RATE), 1)
        self.n_blocks = -(-self.n_samples // BLOCK)
        self._read = partial(
            read_window,
            path,
            SAMPLE_RATE,
            start=start,
            duration=self.seconds,
            max_bandwidth=max_bandwidth,
            channel=channel,
        )

    def blocks(self) -> Iterator[Tensor]:
        """Yield the blocks; parts without a signal are zeros, unless there is nothing else."""
        fault, has_signal = None, False
        for first in range(0, self.n_samples, READ_BLOCK):
            count = min(READ_BLOCK, self.n_samples - first)
            try:
                waveform = self._read(first, count=count).waveform
                has_signal = True
            except AudioError as error:
                if error.fault != "silent":
                    raise
                fault, waveform = fault or error, torch.zeros(count)
            yield from torch.split(waveform, BLOCK)
        if fault is not None and not has_signal:
            raise fault


@cache
def _load(path: Path) -> SileroVad:
    """Build the network from the tensors of a file, whose digest was checked: a TorchScript file holds code."""
    try:
        with warnings.catch_warnings():  # the format is deprecated; there is no other one of these weights
            warnings.simplefilter("ignore", DeprecationWarning)
            state = torch.jit.load(str(path), map_location="cpu").state_dict()  # type: ignore[no-untyped-call]
        return SileroVad.from_state({name: tensor.clone() for name, tensor in state.items()})
    except (RuntimeError, ValueError) as error:
        raise SpeechError(f"{path}: it cannot be opened ({str(error)[:200]}).") from error
