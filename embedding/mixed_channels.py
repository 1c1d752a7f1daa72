"""`MixedChannels`: find files whose channels differ, such as calls with one speaker in each channel."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from audio import MEASURED_SECONDS, AudioError, ChannelStatistics, read_header, read_recording
from embedding.decode import Piece
from files import count_of

logger = logging.getLogger(__name__)

# Two channels with a lower correlation may have different speakers.
MIN_CORRELATION = 0.5
# Number of recordings that `warn_of_mixed_channels` reads.
N_SAMPLED = 20


class Span(Protocol):
    """A part of a file, such as an utterance."""

    @property
    def path(self) -> Path: ...
    @property
    def start(self) -> float: ...
    @property
    def duration(self) -> float | None: ...
    @property
    def channel(self) -> int | None: ...


class MixedChannels:
    """Files that were read as the mean of channels that differ; `warn` names them in one warning."""

    def __init__(self) -> None:
        self._n_files = 0
        self._lowest: tuple[float, Path] | None = None
        # Parts of a file can be short, so they are measured together.
        self._parts: dict[Path, ChannelStatistics] = {}

    def add(self, piece: Piece) -> None:
        """Add a decoded piece."""
        if piece.channels is not None:
            self.add_span(piece.utterance, piece.channels, is_whole=piece.window is None)

    def add_span(self, span: Span, channels: ChannelStatistics, *, is_whole: bool = True) -> None:
        """Add what was measured in a span; `is_whole` is false for a window of the span."""
        if is_whole and not span.start and span.duration is None:
            self._check(span.path, channels)  # a whole file, whose statistics need not be kept
            return
        known = self._parts.get(span.path)
        self._parts[span.path] = channels if known is None else known.joined(channels)

    def _check(self, path: Path, channels: ChannelStatistics) -> None:
        correlation = channels.lowest_correlation()
        if correlation is None or correlation >= MIN_CORRELATION:
            return
        self._n_files += 1
        if self._lowest is None or correlation < self._lowest[0]:
            self._lowest = correlation, path

    def warn(self, of_all: str = "") -> None:
        """Log how many files have channels that differ, and what to do; `of_all` follows their number."""
        for path, channels in self._parts.items():
            self._check(path, channels)
        self._parts = {}
        if self._lowest is not None:
            correlation, path = self._lowest
            logger.warning(
                "%s%s, such as %s, %s channels that differ (correlation down to %.2f), but are averaged. If each "
                "channel has its own speaker, as in a telephone call, this mixes the voices. Read one channel with "
                "--channel 0 or --channel 1, or name the channel of each recording in a manifest. For an array of "
                "microphones, the mean is usually better.",
                count_of(self._n_files, "file"), of_all, path, "has" if self._n_files == 1 else "have", correlation,
            )  # fmt: skip


def warn_of_mixed_channels(spans: Sequence[Span]) -> None:
    """Log whether recordings have channels that differ but are averaged; at most `N_SAMPLED` of them are read.

    `embed_utterances` does the same without reading them again; this is for recordings that it does not read.
    """
    averaged = [span for span in spans if span.channel is None]
    sampled = averaged[:: max(len(averaged) // N_SAMPLED, 1)][:N_SAMPLED]
    mixed, n_read = MixedChannels(), 0
    for span in sampled:
        try:
            if read_header(span.path).channels == 1:
                continue
            recording = read_recording(
                span.path, None, span.start, duration=span.duration, max_duration=MEASURED_SECONDS
            )
        except AudioError:  # reported when the recording is used
            continue
        if recording.channels is not None:
            mixed.add_span(span, recording.channels)
            n_read += 1
    mixed.warn(f" of {n_read} that were compared")
