"""Versions of this project and of the packages that its results depend on; output files record them."""

import platform
import subprocess
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VERSION = (ROOT / "VERSION").read_text(encoding="utf-8").strip()
# Packages that a result depends on.
PACKAGES = ("torch", "numpy", "scikit-learn", "transformers", "soundfile", "soxr", "av")


def versions() -> dict[str, str]:
    """Return the version and commit of this project, and the versions of Python and of the packages in `PACKAGES`.

    A version is empty if the package is not installed, ``commit`` if this is no git clone or git is not installed.
    """
    return {
        "voxprobe": VERSION,
        "commit": commit(),
        "python": platform.python_version(),
        **{name: _version_of(name) for name in PACKAGES},
    }


def timestamp() -> str:
    """Return the date and time in UTC (ISO 8601), such as ``2026-01-31T12:00:00Z``."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@cache
def _version_of(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


@cache
def commit() -> str:
    """Return the commit of the clone, 12 hex digits, with ``-dirty`` if files were changed; empty without a clone."""
    if not (ROOT / ".git").exists():  # otherwise git would describe a repository that contains this folder
        return ""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--exclude=*", "--abbrev=12", "--dirty"]
    try:
        described = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return described.stdout.strip()
