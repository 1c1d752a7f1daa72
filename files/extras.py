"""Optional packages: the error message that says how to install an absent one."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from files.errors import InputError

ROOT = Path(__file__).resolve().parents[1]
# Files that list optional packages, each with the options of pip that it needs.
LISTS = {"requirements-extra.txt": "", "requirements-parts.txt": "--no-deps "}
LINE = re.compile(r"(?P<name>[\w.-]+)(?P<version>==\S+)\s+#\s*(?P<purpose>.+)")


@contextmanager
def optional_imports() -> Iterator[None]:
    """Import optional packages within this context, so that an absent one is answered with a pip command.

    Raises
    ------
    InputError
        A package of ``requirements-extra.txt`` or ``requirements-parts.txt`` is absent. The message says what needs it
        and which command installs it.

    Examples
    --------
    >>> with optional_imports():
    ...     import json
    """
    try:
        yield
    except ModuleNotFoundError as error:
        message = _install_message(error.name or "")
        if message is None:
            raise
        raise InputError(message) from error


def _install_message(module: str) -> str | None:
    """Return the message for an absent module, or None if no list has its package."""
    wanted = module.partition(".")[0].replace("_", "-").lower()
    for name, options in LISTS.items():
        for line in (ROOT / name).read_text(encoding="utf-8").splitlines():
            match = LINE.fullmatch(line)
            if match and match["name"].replace("_", "-").lower() == wanted:
                return (
                    f"The package {match['name']} is not installed; it is needed for {match['purpose'].rstrip('.')}. "
                    f"Run: pip install {options}{match['name']}{match['version']}"
                )
    return None
