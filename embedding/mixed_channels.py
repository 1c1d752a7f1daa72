"""`MixedChannels`: find files whose channels differ, such as calls with one speaker in each channel."""

import logging
from pathlib import Path

from audio import ChannelStatistics
from embedding.decode import Piece
from files import count_of

logger = logging.getLogger(__name__)

# Two channels with a lower correlation may have different speakers.
MIN_CORRELATION = 0.5


class MixedChannels:
    """Files that were read as the mean of channels that differ; `warn` names them in one warning."""

    def __init__(self) -> None:
        self._n_files = 0
        self._lowest: tuple[float, Path] | None = None
        # Parts of a file are short, so they are measured together.
        self._parts: dict[Path, ChannelStatistics] = {}

    def add(self, piece: Piece) -> None:
        """Add a decoded piece."""
        if piece.channels is None:
            return
        path = piece.utterance.path
        if piece.window is None and not piece.utterance.start and piece.utterance.duration is None:
            self._check(path, piece.channels)  # a whole file, whose statistics need not be kept
            return
        known = self._parts.get(path)
        joined = ChannelStatistics.join([piece.channels] if known is None else [known, piece.channels])
        if joined is not None:
            self._parts[path] = joined

    def _check(self, path: Path, channels: ChannelStatistics) -> None:
        correlation = channels.lowest_correlation()
        if correlation is None or correlation >= MIN_CORRELATION:
            return
        self._n_files += 1
        if self._lowest is None or correlation < self._lowest[0]:
            self._lowest = correlation, path

    def warn(self) -> None:
        """Log how many files have channels that differ, and what to do."""
        for path, channels in self._parts.items():
            self._check(path, channels)
        self._parts = {}
        if self._lowest is not None:
            correlation, path = self._lowest
            logger.warning(
                "%s, such as %s, %s channels that differ (correlation down to %.2f), and the mean of them was used: if "
                "each channel has its own speaker, as in a telephone call, this mixes the voices. Read one channel "
                "with --channel 0 or --channel 1, or name the channel of each recording in a manifest.",
                count_of(self._n_files, "file"), path, "has" if self._n_files == 1 else "have", correlation,
            )  # fmt: skip
