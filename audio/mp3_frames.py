"""Count the frames of MP3 files that do not say how long they are, for which libsndfile guesses from the bitrate."""

import mmap
import os
from functools import lru_cache
from pathlib import Path

# Bitrates (kbit/s) of the layers 1, 2, 3 of MPEG 1, and of layer 1 and the layers 2 and 3 of MPEG 2 and 2.5
# (ISO 11172-3, ISO 13818-3).
MPEG_1 = (
    (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
)
MPEG_2 = (
    (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
)
RATES = (44_100, 48_000, 32_000)  # of MPEG 1 (Hz); half of them in MPEG 2, a quarter in MPEG 2.5
TAGS_AT_END = (b"TAG", b"APETAGEX", b"LYRICSBEGIN", b"ID3")


def count_mp3_samples(path: Path) -> int | None:
    """Count the samples of each channel of an MP3 file without a header with its length.

    Returns
    -------
    int or None
        None if the file has such a header, or is not a plain sequence of MPEG frames.
    """
    status = os.stat(path)
    return _count(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=1)
def _count(path: Path, size: int, mtime_ns: int) -> int | None:
    """Count the samples of a file; the windows of a file are read one after the other, and each needs its length."""
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        at, n_samples = 0, 0
        while content[at : at + 3] == b"ID3" and at + 10 <= size:
            first, second, third, last = content[at + 6 : at + 10]  # 7 bits each
            at += 10 + (first << 21 | second << 14 | third << 7 | last)
        while at + 4 <= size:
            frame = _read_header(content[at : at + 4])
            if frame is None:
                break
            length, n_in_frame = frame
            if not n_samples and any(name in content[at : at + length] for name in (b"Xing", b"Info", b"VBRI")):
                return None
            if at + length > size:
                at = size
                break
            at, n_samples = at + length, n_samples + n_in_frame
        is_complete = at + 4 > size or content[at : at + 11].startswith(TAGS_AT_END)
        return n_samples if n_samples and is_complete else None


def _read_header(header: bytes) -> tuple[int, int] | None:
    """Return the length of an MPEG frame (bytes) and its number of samples, from its header of 4 bytes."""
    version, layer = header[1] >> 3 & 3, 4 - (header[1] >> 1 & 3)
    bitrate, rate = header[2] >> 4, header[2] >> 2 & 3
    if header[0] != 0xFF or header[1] < 0xE0 or version == 1 or layer == 4 or bitrate in (0, 15) or rate == 3:
        return None
    is_mpeg_1, padding = version == 3, header[2] >> 1 & 1
    hertz = RATES[rate] >> {3: 0, 2: 1, 0: 2}[version]
    bits = 1000 * (MPEG_1 if is_mpeg_1 else MPEG_2)[layer - 1][bitrate - 1]
    n_samples = {1: 384, 2: 1152, 3: 1152 if is_mpeg_1 else 576}[layer]
    slot = 4 if layer == 1 else 1
    return (n_samples // 8 // slot * bits // hertz + padding) * slot, n_samples
