"""Open the audio track of a container, such as MP4, WebM or ASF, with PyAV, and decode its packets."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from audio.audio_error import AudioError, AudioFault
from audio.container_size import is_cut_mp4

if TYPE_CHECKING:  # importing PyAV takes as long as importing NumPy, and most recordings do not need it
    from av import AudioFrame, AudioStream, Packet
    from av.container import InputContainer

    AudioPacket = Packet[AudioStream]

# Containers that are opened. Playlists, which name other files and addresses, are not among them, nor are the formats
# without a header, for which FFmpeg takes the suffix of the file.
CONTAINERS = (
    "mov,matroska,aac,loas,amr,asf,avi,flv,mpeg,mpegts,ogg,wv,ape,ac3,eac3,dts,tta,tak,mpc,mpc8,rm,qcp,dss,dsf,iff,shn,"
    "caf,wav,w64"
)
OPTIONS = {"format_whitelist": CONTAINERS, "protocol_whitelist": "file"}
# FFmpeg's names of containers that have another usual name.
CONTAINER_NAMES = {"mov": "MP4", "matroska": "WEBM"}
# Zero and full scale of integer samples, by their type.
INTEGERS = {"uint8": (2**7, 2**7), "int16": (0, 2**15), "int32": (0, 2**31)}
# Tag of tracks from Apple's store that are encrypted.
APPLE_ENCRYPTED = "drms"


class UnknownContainerError(AudioError):
    """A file is not audio that PyAV decodes, and not a container without audio either."""

    def __init__(self, path: Path, fault: AudioFault = "not_audio", reason: str = "PyAV does not decode it") -> None:
        super().__init__(path, fault, reason)


class Track:
    """The audio track of an open container, and its decoder.

    Attributes
    ----------
    rate, channels : int
        Sampling rate (Hz) and number of channels; of the first samples once there are some.
    container, codec : str
        FFmpeg's names, such as ``mov`` and ``aac``.
    n_packets : int
        Number of packets that the index of the container has; 0 if it has none.
    end : float or None
        Where the track ends (seconds), as the container declares it.
    is_damaged : bool
        Whether a packet was not complete, or could not be read or decoded.
    is_encrypted : bool
        Whether a packet that could not be decoded is encrypted.
    last : Packet or None
        The packet that the last of `samples` are of; None if the decoder had them of several packets.
    """

    def __init__(self, container: InputContainer, stream: AudioStream) -> None:
        self._input, self._stream = container, stream
        self._context = stream.codec_context
        self._context.thread_count = 1  # threads do not survive a fork
        self.rate, self.channels = self._context.sample_rate, self._context.channels
        self.container, self.codec = container.format.name.partition(",")[0], self._context.codec.canonical_name
        self.n_packets = stream.frames
        self.end = _seconds(stream, (stream.start_time or 0) + stream.duration) if stream.duration else None
        self.is_damaged, self.is_encrypted = False, _tag_of(stream) == APPLE_ENCRYPTED
        self.last: AudioPacket | None = None
        self._has_output = False

    def packets(self, since: int | None = None) -> Iterator[AudioPacket]:
        """Yield the packets from the first one on, or from a time stamp on, up to the first that is not complete."""
        from av.error import FFmpegError

        try:
            if since is not None:
                self._input.seek(since, stream=self._stream)
            for packet in self._input.demux(self._stream):
                if packet.is_corrupt:
                    break
                if not packet.size or (since is not None and (packet.pts is None or packet.pts < since)):
                    continue  # the last packet is empty
                yield packet
            else:
                return
        except FFmpegError:
            pass
        self.is_damaged = True

    def decode(self, packet: AudioPacket | None) -> NDArray[np.float32] | None:
        """Return the samples of a packet (frames, channels), those that the decoder still has for None.

        The result is None if the packet is damaged. Damaged packets before the first samples are passed over: the
        recording begins within a packet.
        """
        from av.error import FFmpegError

        try:
            frames = self._context.decode(packet)
        except FFmpegError:
            self.is_encrypted |= packet is not None and packet.has_sidedata("encryption_info")
            self.is_damaged |= self._has_output
            return None if self._has_output else self._no_samples()
        blocks = [_samples_of(frame) for frame in frames]
        if frames and not self._has_output:
            self.rate, self.channels, self._has_output = frames[0].sample_rate, blocks[0].shape[1], True
        for frame, block in zip(frames, blocks, strict=True):
            if (frame.sample_rate, block.shape[1]) != (self.rate, self.channels):
                self.is_damaged = True
                return None
        if len(blocks) == 1:
            return blocks[0]
        return np.concatenate(blocks) if blocks else self._no_samples()

    def _no_samples(self) -> NDArray[np.float32]:
        return np.empty((0, self.channels), np.float32)

    def samples(self) -> Iterator[NDArray[np.float32]]:
        """Yield the samples of the packets (frames, channels), up to the first packet that is damaged."""
        for packet in self.packets():
            samples = self.decode(packet)
            if samples is None:
                return
            self.last = packet
            yield samples
        if self.is_damaged:
            return
        rest = self.decode(None)
        self.is_damaged = self.last is not None and not self._has_output
        if rest is not None and len(rest):
            self.last = None
            yield rest

    def restart(self) -> None:
        """Continue with a new decoder; the old one would keep its noise generator even if it was flushed."""
        from av import AudioCodecContext, CodecContext

        context = CodecContext.create(self._context.name, "r")
        assert isinstance(context, AudioCodecContext)
        context.extradata, context.thread_count = self._context.extradata, 1
        context.sample_rate, context.layout = self._context.sample_rate, self._context.layout
        self._context = context

    def seconds_of(self, packet: AudioPacket) -> tuple[float, float] | None:
        """Return where a packet begins and ends (seconds), or None if the container does not say it."""
        if packet.pts is None or not packet.duration:
            return None
        return _seconds(self._stream, packet.pts), _seconds(self._stream, packet.pts + packet.duration)


def _tag_of(stream: AudioStream) -> str:
    """Return the tag of a track's encoding, which in ASF and WAV is a number that PyAV may not read as a text."""
    try:
        return stream.codec_tag
    except UnicodeDecodeError:
        return ""


def _seconds(stream: AudioStream, time: int) -> float:
    return float(time * stream.time_base) if stream.time_base else 0.0


def _samples_of(frame: AudioFrame) -> NDArray[np.float32]:
    """Return the samples of a frame (frames, channels); full scale is 1."""
    if frame.format.name == "fltp":  # most decoders; faster than the general way below
        planes = [np.frombuffer(bytes(plane), np.float32, frame.samples) for plane in frame.planes]
        return planes[0][:, np.newaxis] if len(planes) == 1 else np.stack(planes, axis=1)
    samples = frame.to_ndarray()
    samples = samples.T if frame.format.is_planar else samples.reshape(frame.samples, -1)
    if samples.dtype.kind == "f":
        return samples.astype(np.float32, copy=False)
    zero, scale = INTEGERS[samples.dtype.name]
    return ((samples.astype(np.float64) - zero) / scale).astype(np.float32)


@contextmanager
def open_track(path: Path) -> Iterator[Track]:
    """Open the audio track of a container; the first one, or the one that is marked as the default.

    Raises
    ------
    AudioError
        PyAV does not open the file or has no decoder for it (`UnknownContainerError`), it is cut off before its index,
        or it has no audio track.
    """
    import av  # PyAV does not log what FFmpeg logs, which could block its threads
    from av.error import FFmpegError
    from av.stream import Discard, Disposition

    try:
        # With a protocol, a name such as "concat:x" is the name of a file. Tags may be in any encoding.
        container = av.open(f"file:{path.absolute()}", "r", container_options=OPTIONS, metadata_errors="replace")
    except (FFmpegError, UnicodeError) as error:
        raise _unopened_error(path) from error
    with container:
        tracks = container.streams.audio
        if not tracks and is_cut_mp4(path):
            raise _unopened_error(path)
        if not tracks:
            kinds = sorted({stream.type for stream in container.streams})
            found = f"only {' and '.join(kinds)}" if kinds else "no track at all"
            raise AudioError(path, "not_audio", f"this file has no audio track, {found}; give a file with sound")
        stream = max(tracks, key=lambda track: bool(track.disposition & Disposition.default))  # the first of several
        if stream.codec_context is None:
            raise UnknownContainerError(path)
        for other in container.streams:
            if other.index != stream.index:
                other.discard = Discard.all
        yield Track(container, stream)


def _unopened_error(path: Path) -> AudioError:
    if not is_cut_mp4(path):
        return UnknownContainerError(path)
    return AudioError(
        path,
        "truncated",
        "the file is cut off: it lacks its index, which a recorder writes at the end; copy it again, or save it on the "
        "recording device again",
    )
