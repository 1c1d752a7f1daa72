"""Plug-ins: classes in files and modules of the user, who names them as ``FILE.py:CLASS`` or ``MODULE:CLASS``.

Only what the user names is loaded. A name in a saved file is never passed to these functions.
"""

import hashlib
import sys
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from traceback import extract_tb
from types import ModuleType
from typing import Any

from files.choices import unknown_choice
from files.errors import InputError
from files.paths import existing_path

# Beginning of the names of the modules that are loaded from files.
PREFIX = "voxprobe_plugin_"


def is_reference(name: str) -> bool:
    """Return whether a name has the form ``FILE.py:CLASS`` or ``MODULE:CLASS``.

    Examples
    --------
    >>> is_reference("my_file.py:MyHead"), is_reference("sklearn.svm:SVC"), is_reference("linear")
    (True, True, False)
    """
    source, _, attribute = name.rpartition(":")
    return bool(source) and attribute.isidentifier()


def load_plugin(reference: str, *, error_class: type[InputError]) -> type[Any]:
    """Load a class that the user named; this runs the code of the file or module.

    A file is loaded once, and again if its content has changed. It can import other files of its folder.

    Parameters
    ----------
    reference : str
        ``FILE.py:CLASS`` or ``MODULE:CLASS``.
    error_class : type
        Error to raise.

    Raises
    ------
    InputError
        There is no such file, module or class, or importing it fails.
    """
    source, _, name = reference.rpartition(":")
    is_file = source.endswith(".py")
    module = _load_file(Path(source), error_class) if is_file else _import(source, error_class)
    found = getattr(module, name, None)
    if isinstance(found, type):
        return found
    classes = {key: value for key, value in vars(module).items() if isinstance(value, type) and key[0] != "_"}
    if is_file:  # without those that the file imports
        classes = {key: value for key, value in classes.items() if value.__module__ == module.__name__}
    raise error_class(unknown_choice("class", name, classes, owner=source))


@dataclass(frozen=True)
class PluginFiles:
    """Files that classes were loaded from. A process that unpickles this object loads them.

    Classes of these files are pickled by reference, so put this object before them.
    """

    paths: tuple[str, ...]

    @classmethod
    def loaded(cls) -> "PluginFiles":
        """Return the files that this process has loaded."""
        modules = [module for name, module in list(sys.modules.items()) if name.startswith(PREFIX)]
        return cls(tuple(dict.fromkeys(str(module.__file__) for module in modules)))

    def __reduce__(self) -> tuple[Any, ...]:
        return _load_files, (self.paths,)


def _load_files(paths: tuple[str, ...]) -> PluginFiles:
    for path in paths:
        _load_file(Path(path), InputError)
    return PluginFiles(paths)


def _load_file(given: Path, error_class: type[InputError]) -> ModuleType:
    path = existing_path(given.expanduser().absolute())
    try:
        content = path.read_bytes()
    except OSError as error:
        raise error_class(
            f"{given}: this file cannot be read ({error.strerror}); expected a Python file, as FILE.py:CLASS."
        ) from error
    # The same in all processes, and another one if the content changes.
    digest = hashlib.sha256(str(path).encode("utf-8", "surrogateescape") + b"\0" + content).hexdigest()
    name = f"{PREFIX}{path.stem}_{digest[:12]}"
    if name in sys.modules:
        return sys.modules[name]
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))  # last, so that its files hide no library
    module = ModuleType(name)
    module.__file__ = str(path)
    sys.modules[name] = module  # dataclasses and pickle look the module up while it is loaded
    try:
        exec(compile(content, str(path), "exec", dont_inherit=True), vars(module))
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise error_class(_describe(str(given), error, str(path))) from error
    return module


def _import(name: str, error_class: type[InputError]) -> ModuleType:
    try:
        return import_module(name)
    except (Exception, SystemExit) as error:
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if missing and f"{name}.".startswith(f"{missing}."):
            raise error_class(
                f"There is no module {missing!r}; give an installed module as MODULE:CLASS, or a file as FILE.py:CLASS."
            ) from error
        if not all(name.split(".")):
            raise error_class(
                f"{name!r} is not the name of a module; expected MODULE:CLASS, or FILE.py:CLASS."
            ) from None
        raise error_class(_describe(name, error)) from error


def _describe(source: str, error: BaseException, path: str | None = None) -> str:
    """Describe an error of the user's code with the line that raised it: the last one in `path`, if that is given."""
    frames = [(frame.filename, frame.lineno) for frame in extract_tb(error.__traceback__)]
    if isinstance(error, SyntaxError) and error.filename:
        frames.append((error.filename, error.lineno))
    own = [frame for frame in frames if frame[0] == path] or [frame for frame in frames if "importlib" not in frame[0]]
    file, line = own[-1]
    where = f"{source}, line {line}" if file == path else f"{source}: {file}, line {line}"
    reason = " ".join(str(error.msg if isinstance(error, SyntaxError) else error).split())
    return f"{where}: importing it fails with {type(error).__name__}: {reason or 'no message'}. Fix this line."
