"""The rules of the house: who may import whom, what the libraries leave to the scripts, and where choices come from."""

import ast
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import config
from command_line import parse
from config import ScriptConfig
from corpora import LAYOUTS
from encoders import ALIASES, ENCODERS
from features import extract
from heads import HEADS, SCALERS
from verification import BACKENDS

ROOT = Path(__file__).parents[1]
ROOMS = ["audio", "corpora", "encoders", "features", "heads", "verification", "evaluation"]
FILES = [path for room in [*ROOMS, "metrics"] for path in sorted((ROOT / room).glob("*.py"))]


def imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            yield node.module or ""


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_room_imports_rooms_to_its_left_and_metrics_alone(path: Path) -> None:
    room = path.parent.name
    allowed = {"metrics", *ROOMS[: ROOMS.index(room) + 1]} if room in ROOMS else {"metrics"}
    tops = {name.partition(".")[0] for name in imported(ast.parse(path.read_text()))}
    assert tops & {*ROOMS, "metrics", "config", "command_line", "extract_features"} <= allowed


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_libraries_neither_print_nor_exit(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            assert ast.unparse(node.func) not in {"print", "exit", "sys.exit", "os._exit"}


def test_the_choices_of_the_command_lines_are_those_of_the_registries() -> None:
    assert set(typing.get_args(config.Layout)) == {"auto", *LAYOUTS}
    assert set(typing.get_args(config.EncoderName)) == {*ENCODERS, *ALIASES}
    assert set(typing.get_args(config.HeadName)) == {"all", *HEADS}
    assert set(typing.get_args(config.ScalerName)) == set(SCALERS)
    assert set(typing.get_args(config.BackendName)) == set(BACKENDS)


def test_defaults_of_scripts_and_libraries_agree() -> None:
    import inspect

    from corpora.download import DEV_CLEAN
    from evaluation import compare_heads
    from heads.minibatch import MinibatchHead

    of_comparison = ["heads", "scaler", "split_by", "fractions", "seed", "seeds", "ensemble"]
    of_training = ["epochs", "batch_size", "patience", "device", "class_weight", "balanced_sampling"]
    for function, config_class, names in (
        (extract, config.ExtractionConfig, ["max_duration"]),
        (compare_heads, config.ComparisonConfig, of_comparison),
        (MinibatchHead, config.ComparisonConfig, of_training),
    ):
        parameters = inspect.signature(function).parameters
        for name in names:
            assert parameters[name].default == getattr(config_class, name), name
    assert config.ComparisonConfig.download_url == DEV_CLEAN


def test_what_is_required_has_a_flag_unless_it_is_said_to_be_positional() -> None:
    """The benchmarks and the commands of verification."""

    @dataclass(frozen=True, kw_only=True)
    class Flagged(ScriptConfig):
        features_path: Path
        """File."""

    @dataclass(frozen=True, kw_only=True)
    class Positional(ScriptConfig):
        is_positional = True
        features_path: Path
        """File."""

    assert parse(Flagged, ["--features_path", "x.pt"]).features_path == Path("x.pt")
    assert parse(Positional, ["x.pt"]).features_path == Path("x.pt")
    with pytest.raises(SystemExit):
        parse(Flagged, ["x.pt"])
