"""Command lines of the scripts: flags from a dataclass of `config.py`, logging, exit codes."""

import argparse
import dataclasses
import io
import logging
import os
import shlex
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar, get_args, get_type_hints

from config import ScriptConfig
from files import VERSION, InputError, commit, missing_requirement, unknown_choice

Config = TypeVar("Config", bound=ScriptConfig)

EXIT_DONE = 0
EXIT_ERROR = 1
EXIT_BAD_INPUT = 2
EXIT_SOME_FAILED = 3

ROOMS = ("files", "audio", "corpora", "encoders", "embedding", "features", "heads", "verification", "evaluation")


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
    sys.exit(code)


def _run(config_class: type[Config], main: Callable[[Config], int]) -> int:
    config = parse(config_class, sys.argv[1:])
    logging.basicConfig(format="%(levelname)s %(message)s", stream=sys.stderr)
    signal.signal(signal.SIGTERM, _interrupt)  # sent by SLURM and torchrun
    for room in ROOMS:  # this project's rooms only: other libraries log a lot at this level
        logging.getLogger(room).setLevel(config.log_level.upper())
    # The terminal's encoding may lack characters of the names of files and speakers.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        return main(config)
    except InputError as error:
        print(f"ERROR {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except PermissionError as error:
        print(
            f"ERROR {error.filename}: {error.strerror}; check the permissions of the file and its folder.",
            file=sys.stderr,
        )
        return EXIT_BAD_INPUT
    except KeyboardInterrupt:
        print(f"Interrupted. {config_class.after_interrupt}".rstrip(), file=sys.stderr)
        return EXIT_ERROR
    except BrokenPipeError:  # the reader of the pipe, such as head, has closed it; output files are complete
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_ERROR


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
    import tyro

    finder = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    finder.add_argument("--config", type=Path)
    known, _ = finder.parse_known_args([part for part in arguments if part != "--config="])
    from_file = _flags(known.config, config_class) if known.config else []
    # If a flag occurs twice, the last one counts, so the flags of the command line follow those of the file.
    positional = (tyro.conf.PositionalRequiredArgs, tyro.conf.PositionalMetavarFromFieldName)
    settings = positional if config_class.is_positional else ()
    config = tyro.cli(config_class, args=[*from_file, *arguments], use_underscores=True, config=settings)
    problem = config.problem()
    if problem:
        _refuse(problem)
    return config


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


def _flags(path: Path, config_class: type[ScriptConfig]) -> list[str]:
    """Return the settings of a YAML file as flags, so that they are checked like flags."""
    import yaml

    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        _refuse(f"{path}: this cannot be read as a YAML file ({reason}).")
    if not isinstance(values, dict):
        _refuse(f"{path}: expected lines like 'epochs: 50', found a {type(values).__name__}.")
    # Positional arguments, which have no default, are given on the command line alone.
    settings = [each for each in dataclasses.fields(config_class) if each.default is not dataclasses.MISSING]
    valid = {each.name for each in settings} - {"config", "version"}
    types = get_type_hints(config_class)
    flags = []
    for key, value in values.items():
        if key not in valid:
            _refuse(f"{path}: {unknown_choice('setting', str(key), sorted(valid))}")
        if value is None and type(None) not in get_args(types[key]):
            _refuse(f"{path}: {key} is empty; give a value, or delete the line.")
        if isinstance(value, bool):
            flags.append(f"--{key}" if value else f"--no_{key}")
        else:
            flags += [f"--{key}", *map(str, value if isinstance(value, list) else [value])]
    return flags


def _print_version() -> NoReturn:
    print(f"Voxprobe {VERSION}" + (f" ({commit()})" if commit() else ""))
    sys.exit(EXIT_DONE)


def _refuse(sentence: str) -> NoReturn:
    print(f"ERROR {sentence}", file=sys.stderr)
    sys.exit(EXIT_BAD_INPUT)
