"""Detect files that are shorter than their headers declare."""

import os
import re
import struct
from pathlib import Path
from typing import BinaryIO

import soundfile

# A program that writes into a pipe cannot know the length and declares the maximum (ffmpeg 2^32-1, sox about 2^31).
STREAMED_SIZE = 0x7FFF0000
# If an AIFF, AU, W64 or RF64 file is cut off, libsndfile reads what is left and reports the cut only in its log.
DECLARED_SIZE = re.compile(r"^\s*(?:data|SSND|Data Size|riff|Riff size)\s*: (\d+) \(should be (\d+)\)", re.MULTILINE)
MAX_OGG_PAGE = 65_307  # bytes (RFC 3533)


def is_cut_off(path: Path, file: soundfile.SoundFile) -> bool:
    """Return whether an open file is shorter than its header declares.

    FLAC and MP3 files are not checked here: reading them returns fewer samples. VOC files that are cut off are not
    detected.
    """
    with open(path, "rb") as raw:  # a second descriptor, because seeking must not move the position of the first
        if file.format in ("WAV", "WAVEX"):
            return _data_is_cut_off(raw)
        if file.format == "NIST":
            declared = re.search(rb"sample_count -i (\d+)", raw.read(1024))
            return declared is not None and file.frames < int(declared[1])
        if file.format == "OGG":
            return _last_page_is_cut_off(raw)
    sizes = ((int(declared), int(present)) for declared, present in DECLARED_SIZE.findall(file.extra_info))
    return any(present < declared < STREAMED_SIZE for declared, present in sizes)


def _data_is_cut_off(raw: BinaryIO) -> bool:
    """Return whether the data chunk of a WAV file extends beyond the end of the file."""
    end = raw.seek(0, os.SEEK_END)
    raw.seek(12)
    while len(header := raw.read(8)) == 8:
        name, size = struct.unpack("<4sI", header)
        if name == b"data":
            return bool(size < STREAMED_SIZE and raw.tell() + size > end)
        raw.seek(size + size % 2, os.SEEK_CUR)
    return False


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
