"""Measure how much shorter files are than their headers declare."""

import math
import os
import re
import struct
from pathlib import Path
from typing import BinaryIO

import soundfile

from audio.track_file import TrackFile

# A program that writes into a pipe cannot know the length and declares the maximum (ffmpeg 2^32-1, sox about 2^31).
STREAMED_SIZE = 0x7FFF0000
# If an AIFF, AU, W64 or RF64 file is cut off, libsndfile reads what is left and reports the cut only in its log.
DECLARED_SIZE = re.compile(r"^\s*(?:data|SSND|Data Size|riff|Riff size)\s*: (\d+) \(should be (\d+)\)", re.MULTILINE)
MAX_OGG_PAGE = 65_307  # bytes (RFC 3533)


def missing_seconds(path: Path, file: soundfile.SoundFile | TrackFile) -> float:
    """Return how much shorter an open file is than its header declares (seconds); infinity if it is not known.

    FLAC and MP3 files are not checked here: reading them returns fewer samples. VOC files that are cut off, and CAF
    files that lack less than 8 bytes, are not detected.
    """
    if isinstance(file, TrackFile):
        return file.missing
    with open(path, "rb") as raw:  # a second descriptor, because seeking must not move the position of the first
        if file.format == "NIST":
            declared = re.search(rb"sample_count -i (\d+)", raw.read(1024))
            return max(int(declared[1]) - file.frames, 0) / file.samplerate if declared else 0.0
        if file.format == "OGG":
            return math.inf if _last_page_is_cut_off(raw) else 0.0
        if file.format in ("WAV", "WAVEX"):
            sizes = [_data_sizes(raw)]
        else:
            found = DECLARED_SIZE.findall(file.extra_info)
            sizes = [(int(declared), int(present)) for declared, present in found]
    shares = [
        (declared - present) / present if present else math.inf
        for declared, present in sizes
        if present < declared < STREAMED_SIZE
    ]
    share = max(shares, default=0.0)
    return share * file.frames / file.samplerate if share < math.inf else share


def _data_sizes(raw: BinaryIO) -> tuple[int, int]:
    """Return the declared size of the data chunk of a WAV file, and the number of bytes that it has."""
    end = raw.seek(0, os.SEEK_END)
    raw.seek(0)
    order = ">" if raw.read(12).startswith(b"RIFX") else "<"
    while len(header := raw.read(8)) == 8:
        name, size = struct.unpack(f"{order}4sI", header)
        if name == b"data":
            return size, min(size, end - raw.tell())
        raw.seek(size + size % 2, os.SEEK_CUR)
    return 0, 0


def _last_page_is_cut_off(raw: BinaryIO) -> bool:
    """Return whether an Ogg file lacks the end of its last page, which is marked by a flag."""
    end = raw.seek(0, os.SEEK_END)
    raw.seek(max(0, end - MAX_OGG_PAGE))
    tail = raw.read()
    page = tail.rfind(b"OggS")
    if page < 0 or len(tail) < page + 27:
        return True
    is_last, n_segments = bool(tail[page + 5] & 0x04), tail[page + 26]
    segments = tail[page + 27 : page + 27 + n_segments]
    return not is_last or len(tail) < page + 27 + n_segments + sum(segments)
