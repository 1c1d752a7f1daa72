"""Fetch LibriSpeech: resumed after an interruption, checked, and unpacked whole or not at all."""

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

from tqdm import tqdm

from corpora.corpus import CorpusError

logger = logging.getLogger(__name__)

DEV_CLEAN = "https://www.openslr.org/resources/12/dev-clean.tar.gz"
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
TIMEOUT = 10.0  # seconds to the first answer, and of silence after it
CHUNK = 1 << 16  # bytes; what a connection that dies can lose at most


class _NetworkError(Exception):
    """Why the archive did not arrive, in words."""


def download_librispeech(folder: Path, url: str = DEV_CLEAN, md5: str | None = None, progress: bool = True) -> Path:
    """Fetch one split of LibriSpeech and unpack it, unless it is there already.

    Parameters
    ----------
    folder : Path
        Where ``LibriSpeech/`` goes; made if need be. Other splits in it stay as they are.
    url : str
        The split's ``.tar.gz`` archive. What an earlier call has fetched of it is not fetched again.
    md5 : str, optional
        Checksum of an archive that `MD5_SUMS` does not list.
    progress : bool
        Show a bar, in bytes, where there is a terminal.

    Returns
    -------
    Path
        The split's folder, such as ``folder/LibriSpeech/dev-clean``.

    Raises
    ------
    CorpusError
        The archive cannot be fetched, is not the one expected or is not safe to unpack, or there is no room for it.
    """
    match = re.fullmatch(r"(?:.*/)?([\w-]+)\.tar\.gz(?:[?#].*)?", url)
    if match is None:
        raise CorpusError(f"{url}: this names no archive; expected a URL that ends in .tar.gz, such as {DEV_CLEAN}.")
    split = match[1]
    target, part = folder / "LibriSpeech" / split, folder / f"{split}.tar.gz.part"
    expected = md5 or MD5_SUMS.get(split)
    if expected is None:
        known = ", ".join(f"{name}.tar.gz" for name in MD5_SUMS)
        raise CorpusError(f"{url}: no checksum is known for {split}.tar.gz; choose one of: {known}.")
    try:
        if target.is_dir():
            logger.info("%s is there already", target)
            return target
        folder.mkdir(parents=True, exist_ok=True)
        _fetch(url, part, progress)
        _check(part, url, expected.lower())
        logger.info("Unpacking %s into %s", part, target)
        _unpack(part, target)
        part.unlink()
    except _NetworkError as error:
        kept = f" What has been fetched stays in {part}: run it again to go on from there." if part.exists() else ""
        raise CorpusError(
            f"{url}: {split}.tar.gz cannot be fetched ({error}).{kept} Or fetch the file by hand, unpack it so that "
            f"{target} is there (or anywhere else), and give that LibriSpeech/{split} folder as --data_dir."
        ) from error
    except OSError as error:
        raise CorpusError(
            f"{error.filename or part}: cannot be written ({error.strerror or error}). Check the folder's rights and "
            "the disk's free space, or choose another place with --data_dir."
        ) from error
    return target


def _fetch(url: str, part: Path, progress: bool) -> None:
    """Fetch what is missing of an archive."""
    start = part.stat().st_size if part.exists() else 0
    with _network():
        response = _connect(url, start)
    if response is None:
        return
    with response:
        resumed = response.status == 206
        start = start if resumed else 0  # a server that ignores the range sends the whole file
        length = getattr(response, "length", None)
        total = None if length is None else start + length
        logger.info("Fetching %s%s", url, f" from byte {start} on" if start else "")
        bar = tqdm(
            total=total, initial=start, unit="B", unit_scale=True, desc=part.stem, disable=None if progress else True
        )
        with bar, open(part, "ab" if resumed else "wb") as file:
            while chunk := _read(response):
                file.write(chunk)
                bar.update(len(chunk))
    fetched = part.stat().st_size
    if total is not None and fetched < total:  # reading in chunks, http.client takes a dropped connection for the end
        raise _NetworkError(f"the connection ended after {fetched} of {total} bytes")


def _connect(url: str, start: int) -> Any:
    """Ask for a file from a byte on; None if it ends there."""
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})
    answer: Future[Any] = Future()

    def ask() -> None:
        try:
            answer.set_result(urllib.request.urlopen(request, timeout=TIMEOUT))
        except Exception as error:  # raised again below
            answer.set_exception(error)

    # The socket's time-out counts for each address and each redirection anew, and for looking up the name not at all.
    threading.Thread(target=ask, daemon=True).start()
    try:
        return answer.result(TIMEOUT)
    except HTTPError as error:
        error.close()
        if error.code == 416 and start:  # range not satisfiable: nothing is missing
            return None
        raise


def _read(response: Any) -> bytes:
    with _network():
        chunk: bytes = response.read(CHUNK)
    return chunk


@contextmanager
def _network() -> Iterator[None]:
    """Tell the network's errors from the disk's; both are `OSError`."""
    try:
        yield
    except (OSError, HTTPException, ValueError) as error:  # ValueError: no URL at all
        reason = error if isinstance(error, HTTPError) else getattr(error, "reason", error)
        told = " ".join(str(reason).split())  # what a server says may run over lines
        raise _NetworkError(told or f"no answer within {TIMEOUT:g} s") from error


def _check(part: Path, url: str, expected: str) -> None:
    with open(part, "rb") as file:  # not for security: a hardened Python would refuse MD5
        found = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if found != expected:
        part.unlink()
        raise CorpusError(
            f"{part}: what came from {url} has the MD5 {found}, expected {expected}, and was removed. Run it again; if "
            "that does not help, something on the way changes the file: fetch it from another network or mirror."
        )


def _unpack(archive: Path, target: Path) -> None:
    """Unpack next to the target and move that into place: a split that is there is whole."""
    unpacked = target.with_name(f".{target.name}.unpacking")
    shutil.rmtree(unpacked, ignore_errors=True)  # of a process that was killed
    unpacked.mkdir(parents=True)
    try:
        with tarfile.open(archive, "r:gz") as tar:
            tar.extractall(unpacked, filter=_only_plain)
        content = unpacked / "LibriSpeech"
        if not (content / target.name).is_dir():
            raise tarfile.ReadError(f"it holds no LibriSpeech/{target.name}")
        for file in content.iterdir():  # LICENSE.TXT, SPEAKERS.TXT, ...: each archive brings them
            if file.is_file() and not (target.parent / file.name).exists():
                file.rename(target.parent / file.name)
        (content / target.name).rename(target)
    except (tarfile.TarError, zlib.error, EOFError) as error:
        archive.unlink()
        raise CorpusError(
            f"{archive}: this cannot be unpacked ({error}) and was removed; expected a LibriSpeech archive, such as "
            f"{DEV_CLEAN}."
        ) from error
    finally:
        shutil.rmtree(unpacked, ignore_errors=True)


def _only_plain(member: tarfile.TarInfo, folder: str) -> tarfile.TarInfo:
    """Refuse what LibriSpeech does not hold and `tarfile.data_filter` would mend, allow or (in old versions) miss."""
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts or not (member.isfile() or member.isdir()):
        raise tarfile.ReadError(f"its member {member.name!r} is not a plain file or folder inside the archive")
    return tarfile.data_filter(member, folder)
