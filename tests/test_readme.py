"""The examples, commands, flags and links of README.md and of the docs are right."""

import importlib
import importlib.util
import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

import config
from corpora import LAYOUTS, load_corpus
from encoders import load_encoder
from heads import create_head, register_head

ROOT = Path(__file__).parents[1]
PAGES = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in
         [*(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "recipes/README.md")),
          *sorted((ROOT / "docs").glob("*.md"))]}  # fmt: skip
EXAMPLES = {
    name: code
    for text in PAGES.values()
    for name, code in re.findall(r"```python\n# (\w+)\.py\n(.*?)```", text, re.DOTALL)
}
BY_PAGE = pytest.mark.parametrize("page", PAGES)


def load_module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


FLAGS = load_module(ROOT / "docs" / "write_flags.py")


@pytest.fixture(autouse=True)
def _own_registries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget the classes that an example registers."""
    monkeypatch.setattr("encoders.registry.OWN_ENCODERS", {})
    monkeypatch.setattr("heads.registry.OWN_HEADS", {})


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], object]:
    """Return a function that imports one of the examples as a module."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def load(name: str) -> object:
        (tmp_path / f"{name}.py").write_text(EXAMPLES[name], encoding="utf-8")
        monkeypatch.delitem(sys.modules, name, raising=False)
        return importlib.import_module(name)

    return load


def test_readme_is_short() -> None:
    lines = PAGES["README.md"].splitlines()
    assert len(lines) <= 150
    assert [line for line in lines if len(line) > 110] == []


@BY_PAGE
def test_no_placeholder_is_left(page: str) -> None:
    assert not re.findall(r"\b(?:DEMO|TODO|TBD|EXTRACTION|TRAINING|RESULTS|[A-Z]+_TABLE)\b", PAGES[page])


@BY_PAGE
def test_links_lead_to_files_and_headings(page: str) -> None:
    folder = (ROOT / page).parent
    for target in re.findall(r"\]\(([^)\s]+)\)", PAGES[page]):
        if target.startswith("https://"):
            continue
        name, _, anchor = target.partition("#")
        path = (folder / name).resolve() if name else ROOT / page
        assert path.exists(), target
        if anchor:
            titles = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}, target


def commands(text: str) -> list[list[str]]:
    """Return the words of each command line that runs a script of this project."""
    text = text.replace("\\\n", " ")
    found = re.findall(r"(?:^ {4}|`)(?:python |torchrun [^`\n]*?)?((?:\w+)\.py [^`\n]*)", text, re.MULTILINE)
    return [shlex.split(line.partition("  #")[0].rstrip("'")) for line in found]


@BY_PAGE
def test_every_command_has_valid_flags(page: str) -> None:
    for script, *words in commands(PAGES[page]):
        if not (ROOT / script).exists():
            continue
        name = f"{script} {words[0]}" if script in (FLAGS.VERIFICATION, FLAGS.PREPARATION) and words else script
        assert name in FLAGS.COMMANDS, (page, name)
        valid = set(FLAGS.COMMANDS[name].__dataclass_fields__)
        for word in words:
            if word.startswith("--"):
                assert word[2:] in valid, (page, script, word)


@BY_PAGE
def test_every_flag_that_is_named_exists(page: str) -> None:
    known = {name for kind in vars(config).values() for name in getattr(kind, "__dataclass_fields__", {})}
    others = {"nodes", "array", "gpus", "json"}  # of SLURM, in docs/scaling.md, and of curl, in docs/page.md
    for flag in re.findall(r"`--([a-z]\w*)", PAGES[page]):
        assert {flag, flag.removeprefix("no_")} & (known | others), flag


@BY_PAGE
def test_scripts_and_benchmarks_that_are_named_exist(page: str) -> None:
    own = {path.name for path in ROOT.glob("*.py")} | {f"{name}.py" for name in EXAMPLES}
    for name in re.findall(r"`(?:python )?((?:[a-z_]+/)*[a-z_]+\.py)", PAGES[page]):
        assert (ROOT / name).exists() or name in own, name


def test_the_tables_of_flags_are_up_to_date() -> None:
    text = PAGES["docs/usage.md"]
    assert FLAGS.updated_page(text) == text, "run make docs"


def test_all_examples_are_tested() -> None:
    of_the_page = {"ask_page", "ask_page_with_password"}  # tests/web/test_page_docs.py runs them
    assert set(EXAMPLES) == {"notebook", "takes", "loudness", "wide", "own_classes", "load_own_classes", *of_the_page}
    assert sum(text.count("```python") for text in PAGES.values()) == len(EXAMPLES)


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


def test_the_layout_example(example: Callable[[str], object], tmp_path: Path, write_audio: Callable[..., Path]) -> None:
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


def test_the_encoder_example(example: Callable[[str], object], tmp_path: Path) -> None:
    example("loudness")
    encoder = load_encoder(f"{tmp_path}/loudness.py:LoudnessEncoder", quantiles=5, device="cpu")
    waveforms = [torch.randn(length) for length in (1000, 16_000, 7)]
    alone = torch.cat([encoder.encode([waveform]) for waveform in waveforms])
    torch.testing.assert_close(encoder.encode(waveforms, batch_size=3), alone)
    assert alone.shape == (3, 5)
    assert encoder.max_duration is None


def test_the_head_example(
    example: Callable[[str], object], blobs: Callable[..., tuple[torch.Tensor, Any]], tmp_path: Path
) -> None:
    example("wide")
    X, y = blobs(3)
    name = register_head(f"{tmp_path}/wide.py:WideHead")
    head = create_head(name, epochs=20, device="cpu").fit(X, y)
    assert (head.predict(X) == y).mean() > 0.95


def test_the_examples_of_own_classes(
    example: Callable[[str], object],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "sample").symlink_to(ROOT / "sample")
    monkeypatch.chdir(tmp_path)
    for name in ("loudness", "wide", "own_classes"):
        example(name)
    printed = capsys.readouterr().out
    assert "SVC (not saved)" in printed
    assert re.search(r"(lda|WideHead) \*", printed)
    monkeypatch.setattr("encoders.registry.OWN_ENCODERS", {})  # as in a new session
    monkeypatch.setattr("heads.registry.OWN_HEADS", {})
    example("load_own_classes")
    assert re.fullmatch(r"\('90\d\d', .*\)\n", capsys.readouterr().out)
