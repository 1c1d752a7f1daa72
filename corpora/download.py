"""Download LibriSpeech: resume an interrupted download, check it, and unpack it completely or not at all."""

import hashlib
import logging
import re
import shutil
import tarfile
import threading
import urllib.request
import zlib
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.error import HTTPError

from corpora.corpus import CorpusError
from files import PathLike, Progress

logger = logging.getLogger(__name__)

OPENSLR = "https://www.openslr.org/resources/12"
DEV_CLEAN = f"{OPENSLR}/dev-clean.tar.gz"
# MD5 of the archives, as OpenSLR publishes them (https://www.openslr.org/resources/12/md5sum.txt).
MD5_SUMS = {
    "dev-clean": "42e2234ba48799c1f50f24a7926300a1",
    "dev-other": "c8d0bcc9cca99d4f8b62fcc847357931",
    "test-clean": "32fa31d27d2e1cad72775fee3f4849a9",
    "test-other": "fb5a50374b501bb3bac4815ee91d3135",
    "train-clean-100": "2a93770f6d5c6c964bc36631d331a522",
    "train-clean-360": "c0e676e450a7ff2f54aeade5171606fa",
    "train-other-500": "d1a0fd59409feb2c614ce4d30c387708",
}
TIMEOUT = 10.0  # seconds, for the response and for each read
CHUNK = 1 << 16  # bytes in each read; a lost connection loses at most this much


class _NetworkError(Exception):
    """The archive could not be downloaded; the message is the reason."""


def archive_url(split: str) -> str:
    """Return the URL of the archive of a split of LibriSpeech on OpenSLR."""
    return f"{OPENSLR}/{split}.tar.gz"


def download_librispeech(
    folder: PathLike, url: str = DEV_CLEAN, *, md5: str | None = None, progress: bool = True
) -> Path:
    """Download and unpack a split of LibriSpeech, unless its folder exists.

    Parameters
    ----------
    folder : path-like
        Folder in which ``LibriSpeech/`` is created. Other splits in it do not change.
    url : str
        URL of the split's ``.tar.gz`` archive. A download that was interrupted is resumed.
    md5 : str, optional
        MD5 checksum of the archive, if it is not in `MD5_SUMS`.
    progress : bool
        Whether to show the progress: a bar on a terminal, otherwise a line a minute in the log.

    Returns
    -------
    Path
        Folder of the split, such as ``folder/LibriSpeech/dev-clean``.

    Raises
    ------
    CorpusError
        The archive cannot be downloaded, has another checksum, cannot be unpacked safely, or the disk is full.
    """
    match = re.fullmatch(r"(?:.*/)?([\w-]+)\.tar\.gz(?:[?#].*)?", url)
    if match is None:
        raise CorpusError(
            f"{url}: this is not the URL of an archive; expected one that ends in .tar.gz, such as {DEV_CLEAN}."
        )
    folder, split = Path(folder), match[1]
    target, part = folder / "LibriSpeech" / split, folder / f"{split}.tar.gz.part"
    expected = md5 or MD5_SUMS.get(split)
    if expected is None:
        known = ", ".join(f"{name}.tar.gz" for name in MD5_SUMS)
        raise CorpusError(f"{url}: the checksum of {split}.tar.gz is not known; choose one of: {known}.")
    try:
        if target.is_dir():
            if next(target.rglob("*.flac"), None) is None:
                raise CorpusError(f"{target}: this folder has no FLAC file. Remove it, and run the command again.")
            logger.info("%s already exists", target)
            return target
        folder.mkdir(parents=True, exist_ok=True)
        _download(url, part, progress)
        _check(part, url, expected.lower())
        logger.info("Unpacking %s into %s", part, target)
        _unpack(part, target)
        part.unlink()
    except _NetworkError as error:
        kept = f" The part in {part} is kept; run the command again to resume the download." if part.exists() else ""
        raise CorpusError(
            f"{url}: {split}.tar.gz cannot be downloaded ({error}).{kept} Or download the file by hand, unpack it to "
            f"{target} (or anywhere else), and give that LibriSpeech/{split} folder as --data_dir."
        ) from error
    except OSError as error:
        raise CorpusError(
            f"{error.filename or part}: this cannot be written ({error.strerror or error}). Check the permissions of "
            "the folder and the free disk space, or choose another folder with --data_dir."
        ) from error
    return target


def _download(url: str, part: Path, progress: bool) -> None:
    """Download the bytes of an archive that are not in the partial file."""
    start = part.stat().st_size if part.exists() else 0
    with _network_errors():
        response = _connect(url, start)
    if response is None:
        return
    with response:
        resumed = response.status == 206
        start = start if resumed else 0  # a server that ignores the range sends the whole file
        length = getattr(response, "length", None)
        total = None if length is None else start + length
        logger.info("Downloading %s%s", url, f" from byte {start} on" if start else "")
        shown = Progress(f"Downloading {part.stem}", total, unit="B", visible=progress, done=start)
        with shown, open(part, "ab" if resumed else "wb") as file:
            while chunk := _read(response):
                file.write(chunk)
                shown.advance(len(chunk))
    size = part.stat().st_size
    if total is not None and size < total:  # http.client, read in chunks, reports a lost connection as the end
        raise _NetworkError(f"the connection ended after {size} of {total} bytes")


def _connect(url: str, start: int) -> Any:
    """Request a file from byte `start` on; return the response, or None if the file ends there."""
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})
    response: Future[Any] = Future()

    def connect() -> None:
        try:
            response.set_result(urllib.request.urlopen(request, timeout=TIMEOUT))
        except Exception as error:  # raised again below
            response.set_exception(error)

    # A thread limits the total time. urlopen's time-out starts again for each address and each redirection, and does
    # not limit the look-up of the host name.
    threading.Thread(target=connect, daemon=True).start()
    try:
        return response.result(TIMEOUT)
    except HTTPError as error:
        error.close()
        if error.code == 416 and start:  # range not satisfiable: the partial file is complete
            return None
        raise


def _read(response: Any) -> bytes:
    with _network_errors():
        chunk: bytes = response.read(CHUNK)
    return chunk


@contextmanager
def _network_errors() -> Iterator[None]:
    """Translate network errors to `_NetworkError`, because errors of the disk are `OSError`, too."""
    try:
        yield
    except (OSError, HTTPException, ValueError) as error:  # ValueError: not a URL
        reason = error if isinstance(error, HTTPError) else getattr(error, "reason", error)
        one_line = " ".join(str(reason).split())
        raise _NetworkError(one_line or f"no answer within {TIMEOUT:g} s") from error


def _check(part: Path, url: str, expected: str) -> None:
    """Check the MD5 of a downloaded archive; if it is wrong, remove the archive and raise an error."""
    with open(part, "rb") as file:  # usedforsecurity=False, because a hardened Python refuses MD5 otherwise
        found = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if found != expected:
        part.unlink()
        raise CorpusError(
            f"{part}: the download from {url} has the MD5 {found}, expected {expected}; it was removed. Run the "
            "command again. If that does not help, download it from another network or mirror: a proxy may change it."
        )


def _unpack(archive: Path, target: Path) -> None:
    """Unpack next to the target, then rename, so that an existing split is always complete."""
    unpacked = target.with_name(f".{target.name}.unpacking")
    shutil.rmtree(unpacked, ignore_errors=True)  # left by a process that was killed
    unpacked.mkdir(parents=True)
    try:
        with tarfile.open(archive, "r:gz") as tar:
            tar.extractall(unpacked, filter=_only_plain)
        content = unpacked / "LibriSpeech"
        if not (content / target.name).is_dir():
            raise tarfile.ReadError(f"it does not contain LibriSpeech/{target.name}")
        for file in content.iterdir():  # LICENSE.TXT, SPEAKERS.TXT, ... are in each archive
            if file.is_file() and not (target.parent / file.name).exists():
                file.rename(target.parent / file.name)
        (content / target.name).rename(target)
    except (tarfile.TarError, zlib.error, EOFError) as error:
        archive.unlink()
        raise CorpusError(
            f"{archive}: this cannot be unpacked ({error}); it was removed. Expected a LibriSpeech archive, such as "
            f"{DEV_CLEAN}."
        ) from error
    finally:
        shutil.rmtree(unpacked, ignore_errors=True)


def _only_plain(member: tarfile.TarInfo, folder: str) -> tarfile.TarInfo:
    """Refuse a member that is not a plain file or folder inside the archive.

    `tarfile.data_filter` is less strict: it changes or allows some of these members, and old versions have bugs.
    """
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts or not (member.isfile() or member.isdir()):
        raise tarfile.ReadError(f"its member {member.name!r} is not a plain file or folder inside the archive")
    return tarfile.data_filter(member, folder)
