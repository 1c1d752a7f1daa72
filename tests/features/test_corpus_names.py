"""Names of folders become names of corpora, and parts of the names of files."""

import os
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from config import ComparisonConfig
from corpora import Corpus, CorpusError, load_corpus
from encoders import Encoder
from features import FeatureSet, default_file_name
from files import is_utf8

# Names that a folder can have; bytes that are not valid UTF-8 are surrogates.
LETTERS = st.characters(exclude_characters="/\0", exclude_categories=["Cs"]) | st.sampled_from(["\udc80", "\udcff"])
NAMES = st.text(LETTERS, min_size=1, max_size=255).filter(
    lambda name: name not in (".", "..") and len(os.fsencode(name)) <= 255
)


@settings(max_examples=60, deadline=None)
@given(name=NAMES | st.sampled_from([".calls", "back\\slash", "...", "\\", "x" * 255, "ä" * 127, " ", "a\nb"]))
@example(name="caf\udce9")
@example(name="\udcff" * 255)
def test_files_of_any_corpus_load_again(name: str, made_up: Callable[..., FeatureSet], spectral: Encoder) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, name)
        (root / "anna").mkdir(parents=True)
        (root / "anna" / "0.wav").touch()  # no audio is opened
        corpus = load_corpus(root)
        ComparisonConfig(corpus=(), output_dir=Path(folder, "outputs")).check_outputs(corpus=corpus.name)
        features = replace(made_up(2, 4), corpus=corpus.name)
        assert is_utf8(corpus.name)
        file_name = default_file_name(corpus.name, spectral, 3.0, store_dtype="fp16")
        for suffix in (".pt", ".npz"):
            saved = features.save(Path(folder, "outputs", file_name).with_suffix(suffix))
            assert saved.parent == Path(folder, "outputs")
            loaded = FeatureSet.load(saved)
            assert (loaded.corpus, loaded.ids) == (corpus.name, features.ids)


@pytest.mark.parametrize("name", ["", ".calls", "a/b", "a\\b", "../x"])
def test_a_corpus_with_another_name_is_refused(name: str, corpus: Corpus) -> None:
    with pytest.raises(CorpusError, match="cannot be used in a file name; give another name"):
        replace(corpus, name=name)


def test_a_changed_name_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    for name, expected in ((".calls", "calls"), ("calls", "calls"), ("caf\udce9", "caf_")):
        caplog.clear()
        (tmp_path / name / "anna").mkdir(parents=True)
        (tmp_path / name / "anna" / "0.wav").touch()
        assert load_corpus(tmp_path / name).name == expected
        logged = [text for text in caplog.messages if "in the names of files" in text]
        assert logged == (
            [f"{tmp_path / name}: the corpus is called {expected!r} in the names of files"] * (name != expected)
        )
