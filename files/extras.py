"""Absent packages: the error messages that say how to install them."""

import os
import re
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from files.errors import InputError

ROOT = Path(__file__).resolve().parents[1]
# Files that list optional packages, each with what pip installs of it; packages of training are needed together.
LISTS = {
    "requirements-extra.txt": "{package}",
    "requirements-training.txt": "-r {file}",
    "requirements-parts.txt": "--no-deps {package}",
}
# Modules that do not have the name of their package.
PACKAGES = {"sklearn": "scikit-learn", "webrtcvad": "webrtcvad-wheels", "yaml": "PyYAML"}
LINE = re.compile(r"(?P<name>[\w.-]+)(?P<version>==\S+)\s+#\s*(?P<purpose>.+)")


@contextmanager
def optional_imports() -> Iterator[None]:
    """Import optional packages within this context, so that an absent one is answered with a pip command.

    Raises
    ------
    InputError
        A package of one of the `LISTS` is absent. The message says what needs it and which command installs it.

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
    top = module.partition(".")[0]
    wanted = PACKAGES.get(top, top).replace("_", "-").lower()
    for name, arguments in LISTS.items():
        for line in (ROOT / name).read_text(encoding="utf-8").splitlines():
            match = LINE.fullmatch(line)
            if match and match["name"].replace("_", "-").lower() == wanted:
                given = arguments.format(package=match["name"] + match["version"], file=_from_here(ROOT / name))
                return (
                    f"The package {match['name']} is not installed; it is needed for {match['purpose'].rstrip('.')}. "
                    f"Run: pip install {given}"
                )
    return None


def require(file_name: str, purpose: str) -> None:
    """Check that all packages of a list of requirements are installed, without importing them.

    Parameters
    ----------
    file_name : str
        Name of the list, such as ``requirements-training.txt``.
    purpose : str
        What the packages are needed for.

    Raises
    ------
    InputError
        Some are absent. The message names them and the command that installs the list.
    """
    names = re.findall(r"^([\w.-]+)==", (ROOT / file_name).read_text(encoding="utf-8"), re.MULTILINE)
    modules = {package: module for module, package in PACKAGES.items()}
    absent = [name for name in names if find_spec(modules.get(name, name.replace("-", "_"))) is None]
    if absent:
        packages = f"packages {', '.join(absent)} are" if len(absent) > 1 else f"package {absent[0]} is"
        raise InputError(
            f"The {packages} not installed, which {purpose} needs. Run: pip install -r {_from_here(ROOT / file_name)}"
        )


def missing_requirement(module: str, environment: Path = ROOT / ".venv") -> str | None:
    """Return the message for an absent module of a package that the scripts need; None if it is of this project.

    The message says which environment to activate, or else how to install the requirements.

    Parameters
    ----------
    module : str
        Name of the absent module.
    environment : Path
        Folder of the environment that ``make`` installs.

    Examples
    --------
    >>> missing_requirement("sklearn.svm").partition(";")[0]
    'The package scikit-learn is not installed'
    >>> missing_requirement("corpora.no_such_file")
    """
    top = module.partition(".")[0]
    if not top or (ROOT / top).exists() or (ROOT / f"{top}.py").exists():
        return None
    optional = _install_message(module)
    if optional is not None:
        return optional
    missing = f"The package {PACKAGES.get(top, top)} is not installed; the Python that runs is {sys.executable}."
    activate = environment / ("Scripts" if os.name == "nt" else "bin") / "activate"
    if activate.is_file() and Path(sys.prefix).resolve() != environment.resolve():
        return f"{missing} Activate the environment first: {_activation(activate)}"
    install = f"pip install -r {_from_here(ROOT / 'requirements.txt')}"
    if sys.prefix != sys.base_prefix:  # another environment is active
        return f"{missing} Install the requirements: {install}"
    make = f"{'py' if os.name == 'nt' else 'python3'} -m venv {_from_here(environment)}"
    return f"{missing} Make an environment: {make} && {_activation(activate)} && {install}"


def _activation(script: Path) -> str:
    """Return the command that activates an environment."""
    return _from_here(script) if os.name == "nt" else f"source {_from_here(script)}"


def _from_here(path: Path) -> str:
    """Return a path for a command line: relative if it is below the current folder."""
    here = Path.cwd()
    return shlex.quote(str(path.relative_to(here) if path.is_relative_to(here) else path))
