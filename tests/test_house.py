"""The rules of the house: imports between rooms, tasks of scripts and libraries, and the source of choices."""

import ast
import inspect
import typing
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import pytest
import torch

import config
from command_line import parse
from config import ScriptConfig
from configs import training as training_choices
from corpora import LAYOUTS, MD5_SUMS, AudioFormat, find_segments
from encoders import ALIASES, ENCODERS
from evaluation import compare_heads
from features import extract
from files import TableFormat
from files.file_kinds import SETTINGS_NAMES
from heads import HEADS, SCALERS, MinibatchHead
from networks import FRONT_ENDS, NETWORKS, PRETRAINED_NETWORKS
from reports import PictureFormat
from training import train_encoder
from training.settings import HEADS as TRAINING_HEADS
from training.settings import MINERS, OBJECTIVES, OPTIMIZERS, PRECISIONS, SCHEDULES, TrainingSettings
from training.split_parts import KINDS
from verification import BACKENDS

ROOT = Path(__file__).parents[1]
# Data flows from left to right.
ROOMS = [
    "audio", "corpora", "encoders", "embedding", "features", "heads", "verification", "training", "evaluation",
    "reports", "web",
]  # fmt: skip
# Any room may import these; the others import `files` at most.
LEAVES = ["files", "metrics", "networks"]
SCRIPTS = ["config", "configs", "command_line", *(path.stem for path in ROOT.glob("*.py"))]
FILES = [path for room in [*ROOMS, *LEAVES] for path in sorted((ROOT / room).glob("*.py"))]
BY_PATH = pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
# The project's code outside the tests: the rooms, the scripts, and folders such as `benchmarks`.
CODE = sorted(
    path
    for path in [*ROOT.glob("*.py"), *ROOT.glob("[!.]*/*.py")]
    if path.parent == ROOT or path.parent.name not in {"tests", "outputs", "venv"}
)
# Functions whose signature another library prescribes.
PRESCRIBED = {"fit", "_gated_attention", "read_output", "identify_speakers", "who_spoke_when"}


def imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            yield node.module or ""


@BY_PATH
def test_rooms_import_leaves_and_rooms_to_their_left(path: Path) -> None:
    room = path.parent.name
    allowed = {*LEAVES, *ROOMS[: ROOMS.index(room) + 1]} if room in ROOMS else {room, "files"}
    tops = {name.partition(".")[0] for name in imported(ast.parse(path.read_text()))}
    assert tops & {*ROOMS, *LEAVES, *SCRIPTS} <= allowed


@BY_PATH
def test_rooms_import_each_other_through_their_init(path: Path) -> None:
    others = {*ROOMS, *LEAVES} - {path.parent.name}
    names = [name for name in imported(ast.parse(path.read_text())) if name.partition(".")[0] in others]
    assert [name for name in names if "." in name] == []


def test_only_its_script_and_benchmarks_import_training() -> None:
    importers = {
        path.relative_to(ROOT).as_posix()
        for path in CODE
        if path.parent.name not in {"training", "benchmarks"}
        and any(name.partition(".")[0] == "training" for name in imported(ast.parse(path.read_text())))
    }
    assert importers == {"train_encoder.py"}


def test_scripts_import_rooms_through_their_init() -> None:
    for script in ROOT.glob("*.py"):
        names = [name for name in imported(ast.parse(script.read_text())) if name.partition(".")[0] in ROOMS + LEAVES]
        assert [name for name in names if "." in name] == [], script


@BY_PATH
def test_libraries_neither_print_nor_exit(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            assert ast.unparse(node.func) not in {"print", "exit", "sys.exit", "os._exit"}


@BY_PATH
def test_functions_take_at_most_three_positional_arguments(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef) and node.name not in PRESCRIBED:
            names = [argument.arg for argument in [*node.args.posonlyargs, *node.args.args]]
            assert len([name for name in names if name not in ("self", "cls")]) <= 3, node.name


def takes_any_number(node: ast.AST) -> bool:
    """Return whether a definition is a function with an argument such as ``*parts``."""
    return isinstance(node, ast.FunctionDef) and node.args.vararg is not None


def defined_names(trees: Iterable[ast.AST]) -> set[str]:
    """Return the names of functions, methods and classes, without those that take any number of arguments."""
    definitions = [
        node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)
    ]
    return {node.name for node in definitions} - {node.name for node in definitions if takes_any_number(node)}


def crowded_calls(tree: ast.AST, names: set[str]) -> list[str]:
    """Return the calls of `names`, or of ``cls``, with more than three positional arguments.

    Methods are known by their name alone, so those that a tensor has too, such as ``view``, are left out.
    """
    found = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or sum(not isinstance(value, ast.Starred) for value in node.args) <= 3:
            continue
        if isinstance(node.func, ast.Name):
            is_ours = node.func.id in {*names, "cls"} - PRESCRIBED
        else:
            attribute = node.func.attr if isinstance(node.func, ast.Attribute) else ""
            is_ours = attribute in names - PRESCRIBED and not hasattr(torch.Tensor, attribute)
        if is_ours:
            found.append(f"line {node.lineno}: {ast.unparse(node)}")
    return found


@pytest.fixture(scope="module")
def names_of_the_project() -> set[str]:
    return defined_names(ast.parse(path.read_text()) for path in CODE)


@pytest.mark.parametrize("path", CODE, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_calls_with_more_than_three_arguments_name_them(path: Path, names_of_the_project: set[str]) -> None:
    assert crowded_calls(ast.parse(path.read_text()), names_of_the_project) == []


@pytest.mark.parametrize(
    ("call", "is_crowded"),
    [
        ("Recording(path, digest, seconds, vector)", True),
        ("verification.Recording(path, digest, seconds, vector)", True),
        ("cls(path, digest, seconds, vector)", True),
        ("store.enroll_features(features, mode, 5, name)", True),
        ("Recording(path, digest, seconds, vector=vector)", False),
        ("Recording(path, digest, seconds, *rest)", False),
        ("print(path, digest, seconds, vector)", False),
        ("features.view(2, 3, 4, 5)", False),
        ("head.fit(X, y, X_val, y_val)", False),
        ("section(title, text, table, figure)", False),
    ],
)
def test_calls_with_four_positional_arguments_are_found(
    call: str, is_crowded: bool, names_of_the_project: set[str]
) -> None:
    assert bool(crowded_calls(ast.parse(call), names_of_the_project)) == is_crowded


def test_no_two_files_of_the_rooms_share_a_name() -> None:
    # A registry is what it is in any room; an encoder and its network may have the same name.
    encoders = {path.stem for path in FILES if path.parent.name == "encoders"}
    names = [
        path.stem
        for path in FILES
        if path.stem not in {"__init__", "base", "registry"}
        and not (path.parent.name == "networks" and path.stem in encoders)
    ]
    assert {name for name in names if names.count(name) > 1} == set()


def test_choices_of_the_command_lines_are_those_of_the_registries() -> None:
    assert set(typing.get_args(config.Layout)) == {"auto", *LAYOUTS}
    assert set(typing.get_args(config.EncoderName)) == {*ENCODERS, *ALIASES}
    assert set(typing.get_args(config.HeadName)) == {"all", *HEADS}
    assert set(typing.get_args(config.ScalerName)) == set(SCALERS)
    assert set(typing.get_args(config.BackendName)) == set(BACKENDS)
    assert set(typing.get_args(training_choices.NetworkName)) == {*NETWORKS, *PRETRAINED_NETWORKS}
    assert set(typing.get_args(training_choices.FrontEndName)) == set(FRONT_ENDS)
    assert set(typing.get_args(training_choices.Objective)) == set(OBJECTIVES)
    assert set(typing.get_args(training_choices.TrainingHead)) == set(TRAINING_HEADS)
    assert set(typing.get_args(training_choices.Miner)) == set(MINERS)
    assert set(typing.get_args(training_choices.TrainingSplit)) == set(KINDS)
    fields_of_training = typing.get_type_hints(config.TrainingConfig)
    assert set(typing.get_args(fields_of_training["optimizer"])) == set(OPTIMIZERS)
    assert set(typing.get_args(fields_of_training["schedule"])) == set(SCHEDULES)
    assert set(typing.get_args(config.Precision)) == {"auto", *PRECISIONS}
    assert set(typing.get_args(config.LibriSpeechSplit)) == set(MD5_SUMS)
    assert config.AudioFormat == AudioFormat
    assert config.TableFormat == TableFormat
    assert config.PictureFormat == PictureFormat


def test_names_that_identify_a_file_of_settings_are_settings() -> None:
    classes = [each for each in vars(config).values() if isinstance(each, type) and issubclass(each, ScriptConfig)]
    assert set(SETTINGS_NAMES) <= {field.name for each in classes for field in fields(each)}


def test_defaults_of_scripts_and_libraries_agree() -> None:
    of_comparison = ["heads", "scaler", "split_by", "fractions", "seed", "seeds", "ensemble"]
    of_heads = ["epochs", "batch_size", "patience", "device", "class_weight", "balanced_sampling"]
    of_networks = (
        "front_end objective margin miner n_frames window mask_probability mask_features mask_frames epochs "
        "steps_per_epoch optimizer lr weight_decay schedule warmup_steps max_norm patience precision seed start_from"
    )
    of_segments = ["min_duration", "max_duration", "max_overlap", "merge_gap"]
    of_runs = ["objective", "fractions", "start_from", "save_published", "device", "test_every_epoch"]
    for function, config_class, names in (
        (extract, config.ExtractionConfig, ["max_duration"]),
        (compare_heads, config.ComparisonConfig, of_comparison),
        (MinibatchHead, config.ComparisonConfig, of_heads),
        (find_segments, config.SegmentsConfig, of_segments),
        (TrainingSettings, config.TrainingConfig, of_networks.split()),
        (train_encoder, config.TrainingConfig, of_runs),
    ):
        parameters = inspect.signature(function).parameters
        for name in names:
            assert parameters[name].default == getattr(config_class, name), name


def test_required_arguments_have_a_flag_unless_the_config_is_positional() -> None:
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


def test_every_setting_is_within_its_own_range() -> None:
    for config_class in (getattr(config, name) for name in config.__all__ if name.endswith("Config")):
        given = {"audio": (Path("a.wav"), Path("b.wav")), "corpus": (Path("corpus"),), "folder": ()}
        required = {name: value for name, value in given.items() if name in config_class.__dataclass_fields__}
        named = {"name": "anna"} if config_class is config.EnrollConfig else {}
        assert config_class(**required, **named).problem() is None
