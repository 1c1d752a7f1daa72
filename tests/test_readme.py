"""The examples of README.md work as they are printed there."""

import importlib
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from corpora import LAYOUTS, load_corpus
from encoders import ENCODERS, load_encoder
from heads import HEADS, create_head

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
EXAMPLES = dict(re.findall(r"```python\n# (\w+)\.py\n(.*?)```", TEXT, re.DOTALL))


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], object]:
    """Return a function that imports one of the examples as a module of its own."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def load(name: str) -> object:
        (tmp_path / f"{name}.py").write_text(EXAMPLES[name], encoding="utf-8")
        monkeypatch.delitem(sys.modules, name, raising=False)
        return importlib.import_module(name)

    return load


def test_no_figure_is_left_open() -> None:
    assert not re.findall(r"\b(?:DEMO|TODO|TBD|EXTRACTION|TRAINING|RESULTS)\b", TEXT)


def test_all_examples_are_tested() -> None:
    assert set(EXAMPLES) == {"notebook", "takes", "loudness", "wide"}
    assert TEXT.count("```python") == len(EXAMPLES)


def test_the_notebook_example(
    example: Callable[[str], object],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "sample").symlink_to(ROOT / "sample")
    monkeypatch.chdir(tmp_path)
    example("notebook")
    printed = capsys.readouterr().out
    assert "lda *" in printed or "linear *" in printed
    assert re.search(r"9001_1\.flac \('9001', ", printed)


def test_the_layout_example(
    example: Callable[[str], object], tmp_path: Path, write_audio: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("corpora.layouts.LAYOUTS", LAYOUTS)
    try:
        example("takes")
        for name in ("anna_monday_01.wav", "anna_friday_01.wav", "ben_monday_01.wav"):
            write_audio(tmp_path / "data" / name, seconds=0.1)
        corpus = load_corpus(tmp_path / "data", "takes")
        assert corpus.speakers == ("anna", "ben")
        assert [utterance.session for utterance in corpus] == ["friday", "monday", "monday"]
        assert corpus.name == "takes"
    finally:
        LAYOUTS.pop("takes", None)


def test_the_encoder_example(example: Callable[[str], object], monkeypatch: pytest.MonkeyPatch) -> None:
    example("loudness")
    monkeypatch.setitem(ENCODERS, "loudness", "loudness:LoudnessEncoder")
    encoder = load_encoder("loudness", quantiles=5, device="cpu")
    waveforms = [torch.randn(length) for length in (1000, 16_000, 7)]
    alone = torch.cat([encoder.encode([waveform]) for waveform in waveforms])
    torch.testing.assert_close(encoder.encode(waveforms, batch_size=3), alone)
    assert alone.shape == (3, 5)


def test_the_head_example(
    example: Callable[[str], object], monkeypatch: pytest.MonkeyPatch, blobs: Callable[..., tuple[torch.Tensor, Any]]
) -> None:
    example("wide")
    monkeypatch.setitem(HEADS, "wide", "wide:WideHead")
    X, y = blobs(3)
    head = create_head("wide", epochs=20, device="cpu").fit(X, y)
    assert (head.predict(X) == y).mean() > 0.95


def test_every_command_of_the_readme_has_valid_flags() -> None:
    import config

    flags = {name for kind in vars(config).values() for name in getattr(kind, "__dataclass_fields__", {})}
    for line in TEXT.splitlines():
        if line.startswith(("    python speaker_", "| `--")):
            for flag in re.findall(r"--(\w+)", line.split("|")[1] if line.startswith("|") else line):
                assert flag in flags, line
