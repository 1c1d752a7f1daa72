"""The recipes: each is read, has the settings of its system, and trains."""

import json
import re
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from command_line import parse
from config import TrainingConfig
from encoders import load_encoder

ROOT = Path(__file__).parents[2]
ALL_RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))
# Those of meetings need pretrained weights; test_meeting_recipes.py has them.
RECIPES = [path for path in ALL_RECIPES if not path.stem.startswith("aishell4")]
# A run that takes seconds: two short steps.
TINY = [
    "--epochs",
    1,
    "--steps_per_epoch",
    2,
    "--batch_size",
    4,
    "--n_frames",
    32,
    "--num_workers",
    0,
    "--device",
    "cpu",
]


def test_there_is_a_recipe_for_each_known_system() -> None:
    assert {path.stem for path in ALL_RECIPES} == {
        "image_ensemble", "scratch_bilstm", "scratch_transformer", "mamba_classifier", "mamba2_classifier",
        "transformer_classifier", "conv1d_classifier", "conv2d_classifier", "aishell4_transfer", "aishell4_baseline",
    }  # fmt: skip
    listed = (ROOT / "recipes/README.md").read_text(encoding="utf-8")
    assert all(f"`{path.stem}`" in listed for path in RECIPES)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_has_the_settings_of_its_system(path: Path) -> None:
    config = parse(TrainingConfig, ["corpus", "--config", str(path)])
    if path.stem == "image_ensemble":
        assert config.network == ("resnet18", "densenet121")
        assert (config.split_by, config.fractions, config.n_frames) == ("utterance", (0.8, 0.1, 0.1), 256)
    elif config.objective == "triplet":
        assert (config.margin, config.miner, config.n_frames, config.lr) == (0.1, "random", 100, 1e-4)
        assert (config.batch_size, config.epochs, config.steps_per_epoch, config.optimizer) == (8, 100, 1000, "adam")
        assert (config.mask_probability, config.mask_features, config.mask_frames) == (0.3, 8, 20)
        assert (config.split_by, config.window) == ("speaker", 100)
    else:
        assert config.network == (path.stem.removesuffix("_classifier"),)
        assert (config.optimizer, config.lr, config.class_weight) == ("adamw", 1e-4, "balanced")
        assert config.max_norm is not None
        assert config.split_by == "mixed"


@pytest.mark.parametrize("path", ALL_RECIPES, ids=lambda path: path.stem)
def test_the_command_in_a_recipe_is_valid(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    text = path.read_text(encoding="utf-8").replace("\\\n#", "")
    commands = re.findall(r"^#   python train_encoder\.py (.*)$", text, re.MULTILINE)
    assert commands
    for words in map(shlex.split, commands):
        config = parse(TrainingConfig, words)
        assert config.config == path.relative_to(ROOT)
        assert config.download or config.data_dir in (Path("LibriSpeech"), Path("voices.csv"), Path("meetings"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_trains(
    path: Path, subsets: Path, call_script: Callable[..., "subprocess.CompletedProcess[str]"], tmp_path: Path
) -> None:
    arguments = [subsets, "--config", path, *TINY, "--output_dir", tmp_path]
    config = parse(TrainingConfig, [str(subsets), "--config", str(path)])
    if config.split_by == "speaker":
        arguments += ["--fractions", 0.5, 0.5, 0]
    done = call_script("train_encoder.py", *arguments)
    assert done.returncode == 0, done.stderr
    for name in config.network:
        assert load_encoder("trained", tmp_path / f"encoder_{name}.pt", device="cpu").dim > 0
    rows = json.loads((tmp_path / "metrics.json").read_text())["rows"]
    validation = [row for row in rows if row["part"] == "validation"]
    expected = [*config.network, "ensemble"] if len(config.network) > 1 else [*config.network]
    assert [row["network"] for row in validation] == expected
    names = ["eer"] if config.objective == "triplet" else ["loss", "accuracy", "macro_f1", "top3", "top5"]
    assert all(row[name] >= 0 for row in validation for name in names)
