"""Command lines of the scripts: flags from a dataclass of `config.py`, logging, exit codes."""

import argparse
import dataclasses
import io
import logging
import os
import re
import shlex
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from datetime import timedelta
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar, get_args, get_type_hints

from config import ScriptConfig
from files import (
    VERSION,
    InputError,
    commit,
    describe_type,
    existing_path,
    missing_requirement,
    other_kind,
    read_text,
    unknown_choice,
)

Config = TypeVar("Config", bound=ScriptConfig)

# What the flag --config expects, for error messages.
SETTINGS_KIND = "a YAML file of settings, with lines like 'epochs: 50'"

NOT_IN_A_FILE = ("config", "version")
# The settings of a file that inputs without a flag replace.
INPUTS = ("data_dir", "audio_path")

# What tyro prints about values that are not of the type of their flag.
WRONG_VALUE = re.compile(r"Error parsing --(?P<name>\w+): [^']*(?P<values>'[^']*'(?:, '[^']*')*)")

YAML_TAG = "tag:yaml.org,2002:"
# YAML reads 010 as 8 and 12:30 as 750; here, numbers are read as a flag reads them.
NUMBER_TAGS = {f"{YAML_TAG}int", f"{YAML_TAG}float"}
# Kinds of YAML values that are read as they are written where a text is expected.
TEXT_TAGS = {f"{YAML_TAG}{kind}" for kind in ("str", "int", "float", "bool", "timestamp", "merge", "value")}

EXIT_DONE = 0
EXIT_ERROR = 1
EXIT_BAD_INPUT = 2
EXIT_SOME_FAILED = 3

# Time after which the store of torchrun cannot be reached.
STORE_TIMEOUT = timedelta(seconds=5)

ROOMS = (
    "files",
    "audio",
    "corpora",
    "encoders",
    "embedding",
    "features",
    "heads",
    "verification",
    "training",
    "evaluation",
    "reports",
    "web",
)


def run(config_class: type[Config], main: Callable[[Config], int]) -> NoReturn:
    """Parse the command line, call `main`, and exit.

    The exit code is that of `main` (0: all done, 3: some files failed), 2 for bad usage or input, which is reported in
    a sentence, and 1 for anything else.
    """
    try:
        code = _run(config_class, main)
    except ModuleNotFoundError as error:
        message = missing_requirement(error.name or "")
        if message is None:
            raise
        _refuse(message)
    except BrokenPipeError:  # the reader of the pipe, such as head, has closed it; output files are complete
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = EXIT_ERROR
    sys.exit(code)


def _run(config_class: type[Config], main: Callable[[Config], int]) -> int:
    config = parse(config_class, sys.argv[1:])
    logging.basicConfig(format="%(levelname)s %(message)s", stream=sys.stderr)
    signal.signal(signal.SIGTERM, _interrupt)  # sent by SLURM and torchrun
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) == signal.SIG_DFL:  # a closed terminal, not nohup
        signal.signal(signal.SIGHUP, _interrupt)
    is_one_of_many = config_class.is_joint and "TORCHELASTIC_RUN_ID" in os.environ
    is_silent = is_one_of_many and os.environ.get("RANK") != "0"
    for room in ROOMS:  # this project's rooms only: other libraries log a lot at this level
        logging.getLogger(room).setLevel("ERROR" if is_silent else config.log_level.upper())
    # The terminal's encoding may lack characters of the names of files and speakers.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        config.check_outputs()
        return main(config)
    except InputError as error:
        _report(f"ERROR {error}{_order_advice(config)}", is_one_of_many)
        return EXIT_BAD_INPUT
    except PermissionError as error:
        advice = "check the permissions of the file and its folder."
        _report(f"ERROR {error.filename}: {error.strerror}; {advice}", is_one_of_many)
        return EXIT_BAD_INPUT
    except KeyboardInterrupt:
        _report(f"Interrupted. {config_class.after_interrupt}".rstrip(), is_one_of_many)
        return EXIT_ERROR


def _report(sentence: str, is_one_of_many: bool) -> None:
    """Print why the script ends; of the processes that torchrun started, only the first one that ends prints it."""
    if not is_one_of_many or _is_first_to_end():
        print(sentence, file=sys.stderr)


def _is_first_to_end() -> bool:
    """Return whether no other process of torchrun has ended with a sentence; they count in the store of torchrun."""
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    try:
        port, attempt = int(os.environ["MASTER_PORT"]), os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        store = TCPStore(os.environ["MASTER_ADDR"], port, is_master=False, timeout=STORE_TIMEOUT)
        return bool(store.add(f"ended in attempt {attempt}", 1) == 1)
    except (KeyError, ValueError, RuntimeError):  # the store cannot be reached
        return True


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def run_one_of(commands: Mapping[str, tuple[type[Any], Callable[[Any], int]]]) -> NoReturn:
    """Run the subcommand that is the first word of the command line, as `run` does."""
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in commands:
        config_class, main = commands[name]
        del sys.argv[1]
        sys.argv[0] += f" {name}"
        run(config_class, main)
    if name == "--version":
        _print_version()
    listing = "\n".join(f"  {each:12}{main.__doc__}" for each, (_, main) in commands.items())
    print(f"usage: {Path(sys.argv[0]).name} COMMAND [--help] [--version] [OPTIONS]\n\n{listing}")
    if name in ("-h", "--help"):
        sys.exit(EXIT_DONE)
    _refuse(unknown_choice("command", name, commands))


def command() -> str:
    """Return the command line of this process."""
    script, _, subcommand = sys.argv[0].rpartition(".py ")
    words = [f"{script}.py", subcommand] if script and "/" not in subcommand else [sys.argv[0]]
    return shlex.join([*words, *sys.argv[1:]])


def parse(config_class: type[Config], arguments: Sequence[str]) -> Config:
    """Make a config from the command line's flags, and from the YAML file that ``--config`` names."""
    if "--version" in arguments:
        _print_version()
    finder = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    finder.add_argument("--config", type=Path)
    known, _ = finder.parse_known_args([part for part in arguments if part != "--config="])
    from_file = _read_settings(existing_path(known.config), config_class) if known.config else {}
    # If a flag occurs twice, the last one counts, so the flags of the command line follow those of the file. The flag
    # between them ends a list, which would otherwise take inputs without a flag as its values.
    between = [f"--config={known.config}"] if known.config else []
    config = _from_flags(config_class, [*_flags_of(from_file), *between, *arguments])
    if any(getattr(config, name) for name in _positional(config_class)):
        from_file = {name: setting for name, setting in from_file.items() if name not in INPUTS}
        config = _from_flags(config_class, [*_flags_of(from_file), *between, *arguments])
    problem = config.problem()
    if problem:
        _refuse(_place_of(problem, from_file, arguments) + problem + _order_advice(config))
    return config


def _from_flags(config_class: type[Config], flags: Sequence[str]) -> Config:
    import tyro

    positional = (tyro.conf.PositionalRequiredArgs, tyro.conf.PositionalMetavarFromFieldName)
    style = positional if config_class.is_positional else ()
    marked = _with_pairs(config_class)
    try:
        with redirect_stderr(io.StringIO()) as printed:
            return config_class(**vars(tyro.cli(marked, args=flags, use_underscores=True, config=style)))
    except SystemExit as stop:
        wrong = WRONG_VALUE.search(" ".join(printed.getvalue().replace("│", " ").split()))
        if stop.code and wrong is not None:
            expected = describe_type(get_type_hints(config_class)[wrong["name"]])
            _refuse(f"--{wrong['name']} is {wrong['values']}; expected {expected}.")
        sys.stderr.write(printed.getvalue())
        raise


def _with_pairs(config_class: type[Any]) -> type[Any]:
    """Return a class whose settings of `bool | None` have the flags --name and --no_name.

    For such a setting, tyro makes a flag with a value, unless it is marked.
    """
    import tyro

    marked = {
        name: Annotated[kind, tyro.conf.DisallowNone]
        for name, kind in get_type_hints(config_class).items()
        if kind == bool | None
    }
    return type(config_class.__name__, (config_class,), {"__annotations__": marked, "__doc__": config_class.__doc__})


def _flags_of(settings: Mapping[str, "_Setting"]) -> list[str]:
    return list(chain.from_iterable(setting.flags for setting in settings.values()))


def _positional(config_class: type[ScriptConfig]) -> list[str]:
    """Return the names of the inputs that are given without a flag; they have no default."""
    fields = dataclasses.fields(config_class) if config_class.is_positional else ()
    return [field.name for field in fields if field.default is dataclasses.MISSING]


def _order_advice(config: ScriptConfig) -> str:
    """Return advice if no input is given, but a list, whose flag may be before the input, ends with a path."""
    inputs = _positional(type(config))
    if not inputs or any(getattr(config, name, None) for name in (*inputs, *INPUTS, "features_path")):
        return ""
    for name, value in vars(config).items():
        if isinstance(value, tuple) and value and Path(str(value[-1])).exists():
            return f" If {value[-1]} is an input, write it before --{name}."
    return ""


def _place_of(problem: str, from_file: Mapping[str, "_Setting"], arguments: Sequence[str]) -> str:
    """Return the place of the setting that a sentence is about; it is empty for a flag of the command line."""
    given = {word.partition("=")[0] for word in arguments}
    names = [name for name in re.findall(r"--(\w+)", problem) if name in from_file and f"--{name}" not in given]
    return f"{from_file[names[0]].place}: " if names else ""


def read_assignments(texts: Sequence[str]) -> dict[str, Any]:
    """Return names and values of ``NAME=VALUE`` words; a value is a number, true, false, none, or otherwise text."""
    return {name: _read_value(value) for name, _, value in (text.partition("=") for text in texts)}


def _read_value(text: str) -> float | int | bool | str | None:
    named: dict[str, bool | None] = {"none": None, "true": True, "false": False}
    if text.lower() in named:
        return named[text.lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


@dataclasses.dataclass(frozen=True)
class _Setting:
    """A setting of a YAML file: its value, the place of the value in the file, and the flag that is equal to it."""

    value: Any
    place: str
    flags: Sequence[str]


def _read_settings(path: Path, config_class: type[ScriptConfig]) -> dict[str, _Setting]:
    """Return the settings of a YAML file by name; each is checked as its flag is."""
    import yaml

    excluded = {*NOT_IN_A_FILE, *_positional(config_class)}
    valid = {field.name: field for field in dataclasses.fields(config_class) if field.name not in excluded}
    types = get_type_hints(config_class)
    settings: dict[str, _Setting] = {}
    try:
        loader = yaml.SafeLoader(read_text(path, SETTINGS_KIND, InputError))
        root = loader.get_single_node()
        if root is not None and not isinstance(root, yaml.MappingNode):
            found = "a list" if isinstance(root, yaml.SequenceNode) else "one value"
            _refuse(other_kind(path, SETTINGS_KIND) or f"{path}: expected lines like 'epochs: 50', found {found}.")
        for name_node, value_node in [] if root is None else root.value:
            is_name = isinstance(name_node, yaml.ScalarNode)
            place = _place(path, name_node.start_mark)
            name = name_node.value if is_name else str(_construct(loader, name_node, is_text=True, place=place))
            if name not in valid:
                unknown = f"{place}: {unknown_choice('setting', name, sorted(valid))}"
                _refuse(other_kind(path, SETTINGS_KIND) or unknown)
            if name in settings:
                _refuse(f"{place}: {name} is given twice; delete one of the lines.")
            place = _place(path, value_node.start_mark)
            value = _construct(loader, value_node, is_text=_takes_text(types[name]), place=f"{place}: {name}")
            settings[name] = _Setting(value, place, _flags(name, value, default=valid[name].default))
    except yaml.MarkedYAMLError as error:
        place = _place(path, error.problem_mark or error.context_mark)
        reason = " ".join(filter(None, (error.context, error.problem)))
        _refuse(other_kind(path, SETTINGS_KIND) or f"{place}: this cannot be read as a YAML file ({reason}).")
    except RecursionError:
        _refuse(f"{path}: its values are nested too deeply; expected lines like 'epochs: 50'.")
    except InputError as error:
        _refuse(str(error))
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        _refuse(other_kind(path, SETTINGS_KIND) or f"{path}: this cannot be read as a YAML file ({reason}).")
    for name, setting in settings.items():
        _check_setting(name, setting, types[name], default=valid[name].default)
    return settings


def _takes_text(annotation: Any) -> bool:
    """Return whether a setting is a text or a path, or a list of them."""
    return annotation in (str, Path) or any(map(_takes_text, get_args(annotation)))


def _construct(loader: Any, node: Any, *, is_text: bool, place: str) -> Any:
    """Return the value of a node; a text as it is written, and a number as a flag, where YAML reads other values."""
    import yaml

    if node.tag == f"{YAML_TAG}seq" and isinstance(node, yaml.SequenceNode):
        return [_construct(loader, each, is_text=is_text, place=place) for each in node.value]
    if is_text and isinstance(node, yaml.ScalarNode) and node.tag in TEXT_TAGS:
        return node.value
    if isinstance(node, yaml.ScalarNode) and node.tag in NUMBER_TAGS:
        return _read_value(node.value)
    try:
        return loader.construct_object(node, deep=True)
    except (yaml.YAMLError, RecursionError):
        raise
    except Exception as error:  # PyYAML raises any error, such as ValueError for a date that does not exist
        _refuse(f"{place} is {getattr(node, 'value', '')!r}, which cannot be read ({error}).")


def _place(path: Path, mark: Any) -> str:
    """Return a place in a YAML file, in words."""
    return str(path) if mark is None else f"{path}, line {mark.line + 1}, column {mark.column + 1}"


def _flags(name: str, value: Any, *, default: Any) -> list[str]:
    if value is None and default is None:
        return []
    if isinstance(value, bool):
        return [f"--{name}" if value else f"--no_{name}"]
    return [f"--{name}", *map(str, value if isinstance(value, list) else [value])]


def _check_setting(name: str, setting: _Setting, annotation: Any, *, default: Any) -> None:
    """Refuse a setting whose value is of another type than its flag."""
    import tyro

    if setting.value is None and type(None) not in get_args(annotation):
        _refuse(f"{setting.place}: {name} is empty; give a value, or delete the line.")
    expected = f"{setting.place}: {name} is {setting.value!r}; expected {describe_type(annotation)}."
    if isinstance(setting.value, dict):  # as a text, it would be valid for some flags
        _refuse(expected)
    # With a default, as for a flag, true and false are written --name and --no_name.
    alone = dataclasses.make_dataclass("Setting", [(name, annotation, dataclasses.field(default=default))])
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            tyro.cli(_with_pairs(alone), args=setting.flags, use_underscores=True)
    except SystemExit:
        _refuse(expected)


def _print_version() -> NoReturn:
    print(f"Voxprobe {VERSION}" + (f" ({commit()})" if commit() else ""))
    sys.exit(EXIT_DONE)


def _refuse(sentence: str) -> NoReturn:
    print(f"ERROR {sentence}", file=sys.stderr)
    sys.exit(EXIT_BAD_INPUT)
