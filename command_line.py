"""What the scripts share: flags from a dataclass of `config.py`, logging, exit codes."""

import argparse
import dataclasses
import io
import logging
import os
import shlex
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

from config import ScriptConfig

Config = TypeVar("Config", bound=ScriptConfig)

EXIT_DONE = 0
EXIT_ERROR = 1
EXIT_BAD_INPUT = 2
EXIT_SOME_FAILED = 3

ROOMS = ("audio", "corpora", "encoders", "features", "heads", "verification", "evaluation")


def run(config_class: type[Config], main: Callable[[Config], int]) -> None:
    """Parse the command line, do the work, and exit.

    The exit code is what `main` returns (0 all done, 3 some files failed), 2 for bad usage or input, which is told in
    a sentence, and 1 for anything else.
    """
    config = parse(config_class, sys.argv[1:])
    logging.basicConfig(format="%(levelname)s %(message)s", stream=sys.stderr)
    signal.signal(signal.SIGTERM, _interrupt)  # SLURM and torchrun send it
    for room in ROOMS:  # ours alone: other libraries have a lot to say at this level
        logging.getLogger(room).setLevel(config.log_level.upper())
    # Names of files and speakers need not be text that the terminal can show.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        from audio import InputError
    except KeyboardInterrupt:
        sys.exit(EXIT_ERROR)

    try:
        code = main(config)
    except InputError as error:
        print(f"ERROR {error}", file=sys.stderr)
        code = EXIT_BAD_INPUT
    except PermissionError as error:
        print(
            f"ERROR {error.filename}: {error.strerror}; check the rights of the file and its folder.", file=sys.stderr
        )
        code = EXIT_BAD_INPUT
    except KeyboardInterrupt:
        print("Interrupted. The same command goes on from here.", file=sys.stderr)
        code = EXIT_ERROR
    except BrokenPipeError:  # the reader of a pipe, such as head, has seen enough; what was written is complete
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = EXIT_ERROR
    sys.exit(code)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def run_one_of(commands: Mapping[str, tuple[type[Any], Callable[[Any], int]]]) -> None:
    """Do the subcommand that the first word of the command line names, as `run` does it."""
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in commands:
        config_class, main = commands[name]
        del sys.argv[1]
        sys.argv[0] += f" {name}"
        run(config_class, main)
    listing = "\n".join(f"  {each:12}{main.__doc__}" for each, (_, main) in commands.items())
    print(f"usage: {Path(sys.argv[0]).name} COMMAND [--help] [OPTIONS]\n\n{listing}")
    if name in ("-h", "--help"):
        sys.exit(EXIT_DONE)
    near = get_close_matches(name, commands, n=1)
    _refuse(f"There is no command {name!r}; {f'perhaps you meant {near[0]}' if near else 'they are listed above'}.")


def command() -> str:
    """Return the command line as it was given."""
    script, _, subcommand = sys.argv[0].rpartition(".py ")
    words = [f"{script}.py", subcommand] if script and "/" not in subcommand else [sys.argv[0]]
    return shlex.join([*words, *sys.argv[1:]])


def parse(config_class: type[Config], arguments: Sequence[str]) -> Config:
    """Make a config of the command line's flags, and of the YAML file that ``--config`` names."""
    import tyro

    finder = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    finder.add_argument("--config", type=Path)
    known, _ = finder.parse_known_args([part for part in arguments if part != "--config="])
    from_file = _flags(known.config, config_class) if known.config else []
    # The last of two equal flags counts, so the command line's own follow the file's.
    settings = (tyro.conf.PositionalRequiredArgs,) if config_class.is_positional else ()
    config = tyro.cli(config_class, args=[*from_file, *arguments], use_underscores=True, config=settings)
    problem = config.problem()
    if problem:
        _refuse(problem)
    return config


def _flags(path: Path, config_class: type[ScriptConfig]) -> list[str]:
    """Write the values of a YAML file as flags, so that they are checked as flags are."""
    import yaml

    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        _refuse(f"{path}: this cannot be read as a YAML file ({error}).")
    if not isinstance(values, dict):
        _refuse(f"{path}: expected lines like 'epochs: 50', found a {type(values).__name__}.")
    valid = {field.name for field in dataclasses.fields(config_class)} - {"config"}
    types = get_type_hints(config_class)
    flags = []
    for key, value in values.items():
        if key not in valid:
            near = get_close_matches(str(key), valid, n=1)
            hint = f"perhaps you meant {near[0]}" if near else f"valid keys: {', '.join(sorted(valid))}"
            _refuse(f"{path}: there is no setting {key!r}; {hint}.")
        if value is None and type(None) not in get_args(types[key]):
            _refuse(f"{path}: {key} is empty; give a value, or leave the line out.")
        if isinstance(value, bool):
            flags.append(f"--{key}" if value else f"--no_{key}")
        else:
            flags += [f"--{key}", *map(str, value if isinstance(value, list) else [value])]
    return flags


def _refuse(sentence: str) -> Any:
    print(f"ERROR {sentence}", file=sys.stderr)
    sys.exit(EXIT_BAD_INPUT)
