"""Find where the samples of an audio track are in its packets, so that a part of the track can be decoded alone."""

import math
import os
from collections import deque
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from audio.audio_error import AudioError
from audio.container_size import lacking_share
from audio.track import Track, UnknownContainerError, open_track

if TYPE_CHECKING:
    from audio.track import AudioPacket

# Codecs whose packets all have the same number of samples, which later packets do not depend on after a lead-in. All
# others are decoded from the beginning.
CONSTANT_CODECS = ("aac", "alac", "amr_nb", "amr_wb", "opus")
# Opus can change the length of its packets.
VARIABLE_LENGTH = ("opus",)
# Number of packets at the beginning in which the samples that are not part of the recording end (the encoder's delay).
N_FIRST = 16
# Length of the blocks that are decoded independently of each other, and the time before a block at which its decoder
# begins (seconds).
BLOCK_SECONDS, LEAD_IN = 20.0, 1.0
# Containers with an index, in which packets are found by their time stamps.
INDEXED = ("mov", "matroska")
# The end of a track is rounded to the time scale of its container; a difference of this is no end (seconds).
TIME_SCALE = 0.002


class TrackLayout(NamedTuple):
    """Where samples are in the packets of a track.

    Attributes
    ----------
    rate, channels : int
        Sampling rate (Hz) and number of channels.
    container, codec : str
        FFmpeg's names.
    n_frames : int
        Number of frames (samples of each channel) of the recording, without those that the encoder has added.
    per_packet : int
        Number of frames of each packet; 0 if it is not the same for all: then there are no blocks.
    skipped : int
        Number of frames before the recording, which the decoder does not return.
    missing : float
        Length that the container declares, but that the file lacks (seconds); infinity if it is not known.
    time_stamps : tuple of int
        Time stamp of the packet with which the decoder of each block begins; empty if packets are not found by it.
    """

    rate: int
    channels: int
    container: str
    codec: str
    n_frames: int
    per_packet: int
    skipped: int
    missing: float
    time_stamps: tuple[int, ...] = ()

    @property
    def block_packets(self) -> int:
        """Number of packets of a block."""
        return max(round(BLOCK_SECONDS * self.rate / self.per_packet), 1)

    @property
    def block_frames(self) -> int:
        """Number of frames of a block; the first one lacks those that are skipped."""
        return self.block_packets * self.per_packet

    def first_packet(self, block: int) -> int:
        """Return the number of the packet with which the decoder of a block begins."""
        return max(block * self.block_packets - math.ceil(LEAD_IN * self.rate / self.per_packet), 0)


def layout_of(path: Path) -> TrackLayout:
    """Return where the samples of a recording are; remembered while its size and modification time stay the same.

    Packets are read, and some of them decoded; all are if their numbers of samples differ.

    Raises
    ------
    AudioError
        PyAV cannot open the file (``not_audio``), the file has no audio track or is encrypted, or it is cut off before
        the first samples.
    """
    status = os.stat(path)
    return _layout(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=1024)
def _layout(path: Path, size: int, mtime_ns: int) -> TrackLayout:
    with open_track(path) as track:
        layout = _constant_layout(path, track) if track.codec in CONSTANT_CODECS else None
    if layout is None:
        with open_track(path) as track:
            layout = _counted_layout(path, track)
    if track.is_encrypted:
        raise AudioError(path, "not_audio", "its audio is encrypted; export the recording without protection")
    if not layout.n_frames and layout.missing:
        if layout.missing == math.inf and lacking_share(path, layout.container) is None:
            raise UnknownContainerError(path)
        raise AudioError(path, "truncated", "the file is cut off or damaged before its first sample; copy it again")
    return layout


def _constant_layout(path: Path, track: Track) -> TrackLayout | None:
    """Return the layout of a track from its first and its last packets; None if the packets differ.

    Parameters
    ----------
    path : Path
    track : Track
        An open track, of which nothing was read.
    """
    packets = track.packets()
    first = list(islice(packets, N_FIRST))
    last, n_packets = deque(first, maxlen=2), len(first)
    lengths, stamps = {packet.duration for packet in first[:-1]}, [packet.pts for packet in first]
    for packet in packets:
        if last[-1].is_discard:  # a part within the recording is cut out
            return None
        lengths.add(last[-1].duration)
        stamps.append(packet.pts)
        last.append(packet)
        n_packets += 1
    decoded = [track.decode(packet) for packet in first]
    n_frames = [0 if samples is None else len(samples) for samples in decoded]
    per_packet = n_frames[-1] if n_frames else 0
    if (
        n_packets <= N_FIRST
        or n_frames[-2:] != [per_packet] * 2
        or not per_packet
        or (track.codec in VARIABLE_LENGTH and len(lengths) > 1)
    ):
        return None
    skipped = N_FIRST * per_packet - sum(n_frames)
    track.restart()
    _, samples = [track.decode(packet) for packet in last]
    n_last = 0 if samples is None else len(samples)
    total = (n_packets - 1) * per_packet + int(min(n_last, _frames_before_end(track, last[-1]))) - skipped
    missing = _missing(path, track, total, n_packets=n_packets - (samples is None), per_packet=per_packet)
    layout = TrackLayout(
        rate=track.rate, channels=track.channels, container=track.container, codec=track.codec,
        n_frames=total, per_packet=per_packet, skipped=skipped, missing=missing,
    )  # fmt: skip
    if track.container not in INDEXED:
        return layout
    starts = [stamps[layout.first_packet(block)] for block in range(math.ceil(n_packets / layout.block_packets))]
    known = tuple(stamp for stamp in starts if stamp is not None)
    return layout._replace(time_stamps=known if len(known) == len(starts) else ())


def _counted_layout(path: Path, track: Track) -> TrackLayout:
    """Return the layout of a track whose packets differ, by decoding all of them."""
    total, n_last = 0, 0
    for samples in track.samples():
        total, n_last = total + len(samples), len(samples)
    if track.last is not None and n_last:
        total -= max(n_last - int(min(n_last, _frames_before_end(track, track.last))), 0)
    missing = _missing(path, track, total)
    return TrackLayout(
        rate=track.rate, channels=track.channels, container=track.container, codec=track.codec,
        n_frames=total, per_packet=0, skipped=0, missing=missing,
    )  # fmt: skip


def _frames_before_end(track: Track, last: "AudioPacket") -> float:
    """Return how many frames of the last packet are before the end of the recording; infinity if it is not known."""
    times = track.seconds_of(last)
    if track.container != "mov" or times is None:
        return math.inf
    begin, end = times
    if track.end is not None and begin < track.end < end - TIME_SCALE:
        end = track.end
    return round((end - max(begin, 0.0)) * track.rate)


def _missing(path: Path, track: Track, total: int, *, n_packets: int = 0, per_packet: int = 0) -> float:
    """Return the length (seconds) that a track with `total` frames lacks; infinity if it is not known."""
    share = lacking_share(path, track.container) or 0.0
    if share == math.inf or (not total and (share or track.is_damaged)):
        return math.inf
    if not total:
        return 0.0
    missing = share * total / track.rate
    if track.is_damaged and track.n_packets and per_packet:
        return max(missing, (track.n_packets - n_packets) * per_packet / track.rate)
    return missing if share or not track.is_damaged else math.inf
