"""Digests of files."""

import hashlib
from functools import lru_cache
from pathlib import Path


@lru_cache(maxsize=1024)
def file_digest(path: Path, size: int, mtime_ns: int) -> bytes:
    """Return the SHA-256 digest (32 bytes) of a file.

    One file may hold many utterances, so the digest is cached while size and modification time stay the same.

    Parameters
    ----------
    path : Path
        The file.
    size, mtime_ns : int
        Size (bytes) and modification time (ns) of the file; part of the cache key.

    Raises
    ------
    OSError
        The file cannot be read.
    """
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
