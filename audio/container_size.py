"""Compare the size that the header of a container declares with the size of the file."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

# A box of an MP4 file of this size goes to the end of the file, or has its size after its name.
TO_THE_END, LONG_SIZE = 0, 1
# Names of boxes at the beginning of MP4 files.
FIRST_BOXES = (b"ftyp", b"mdat", b"moov", b"wide", b"free", b"skip", b"pnot")
# A fragmented MP4 file is a sequence of pairs of these boxes, whose number is not declared.
FRAGMENT = (b"moof", b"mdat")
# Smallest element, an empty one of Matroska (bytes).
MIN_ELEMENT = 2

# Name and size of an element, both of them in bytes; the size is None if the element goes to the end of the file.
Element = tuple[bytes, int | None]


def lacking_share(path: Path, container: str) -> float | None:
    """Return how much of a container is lacking, relative to what is there; None if its header does not say it.

    Parameters
    ----------
    path : Path
    container : str
        FFmpeg's name of the container, such as ``mov``.

    Returns
    -------
    float or None
        0 if the file is complete, infinity if it is cut off and its header does not say how much is lacking.
    """
    readers = {"mov": _read_box, "matroska": _read_ebml, "asf": _read_object, "avi": _read_chunk}
    if container not in readers:
        return None
    end, names = os.stat(path).st_size, set()
    for name, begin, size in _elements(path, readers[container]):
        names.add(name)
        if size is not None and begin + size > end:
            is_fragment = b"moof" in names and name in FRAGMENT
            return float("inf") if is_fragment else (begin + size - end) / end
    return 0.0


def is_cut_mp4(path: Path) -> bool:
    """Return whether a file is an MP4 file that has audio, but not the index at its end."""
    with open(path, "rb") as file:
        if file.read(8)[4:] not in FIRST_BOXES:
            return False
    names = [name for name, _, _ in _elements(path, _read_box)]
    return b"mdat" in names and (b"moov" not in names or lacking_share(path, "mov") != 0)


def _elements(path: Path, read: Callable[[BinaryIO], Element | None]) -> Iterator[tuple[bytes, int, int | None]]:
    """Yield the elements of a file that are not within others: name, where it begins, size (bytes)."""
    with open(path, "rb") as file:
        begin = 0
        while (element := read(file)) is not None:
            name, size = element
            yield name, begin, size
            if size is None or size < MIN_ELEMENT:
                return
            begin += size
            file.seek(begin)


def _read_box(file: BinaryIO) -> Element | None:
    """Read the header of a box of an MP4 file (ISO 14496-12)."""
    header = file.read(8)
    if len(header) < 8 or not header[4:].strip(b"\0"):
        return None
    size = int.from_bytes(header[:4], "big")
    if size == LONG_SIZE:
        size = int.from_bytes(file.read(8), "big")
    return header[4:], None if size == TO_THE_END else size


def _read_ebml(file: BinaryIO) -> Element | None:
    """Read the header of an element of a Matroska file: two numbers, whose first bytes say how long they are."""
    first = file.read(1)
    if not first or not first[0]:
        return None
    name = first + file.read(8 - first[0].bit_length())
    first = file.read(1)
    if not first or not first[0]:
        return None
    n_more = 8 - first[0].bit_length()
    digits = first + file.read(n_more)
    limit = 1 << 7 * (n_more + 1)
    size = int.from_bytes(digits, "big") & limit - 1
    # A program that writes into a pipe declares the maximum, which stands for an unknown size.
    return name, None if size == limit - 1 else len(name) + len(digits) + size


def _read_object(file: BinaryIO) -> Element | None:
    """Read the header of an object of an ASF file."""
    header = file.read(24)
    return (header[:16], int.from_bytes(header[16:], "little") or None) if len(header) == 24 else None


def _read_chunk(file: BinaryIO) -> Element | None:
    """Read the header of a chunk of an AVI file."""
    header = file.read(8)
    if len(header) < 8:
        return None
    size = int.from_bytes(header[4:], "little")
    return header[:4], 8 + size + size % 2 if size else None
