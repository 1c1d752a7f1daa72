"""The features file of a corpus: its own, or one beside that of another corpus of the same name."""

import logging
import shutil
from pathlib import Path

import pytest

from corpora import Corpus, load_corpus
from encoders import Encoder
from features import FeaturesError, FeatureSet, check_stored, choose_path, extract
from features.sources import part_of


@pytest.fixture
def libri(corpus_root: Path, tmp_path: Path) -> Path:
    """Return a LibriSpeech with two splits of two speakers each."""
    root = tmp_path / "LibriSpeech"
    for split, speakers in (("dev-clean", ("101", "102")), ("test-other", ("103", "104"))):
        for speaker in speakers:
            shutil.copytree(corpus_root / speaker, root / split / speaker)
    return root


def place(path: Path, split: Path) -> tuple[Corpus, Path]:
    corpus = load_corpus(split)
    return corpus, choose_path(path, corpus, split)


def test_a_second_corpus_has_a_file_of_its_own(
    libri: Path, spectral: Encoder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "librispeech_features_spectral.pt"
    beside = tmp_path / "librispeech_features_spectral_test-other.pt"
    clean, other = libri / "dev-clean", libri / "test-other"
    caplog.set_level(logging.INFO)
    for split, expected in ((clean, path), (other, beside), (clean, path), (other, beside)):
        corpus, chosen = place(path, split)
        assert chosen == expected
        assert extract(corpus, spectral, chosen, progress=False).ids == corpus.ids
    assert sum(f"{path} has other utterances" in text for text in caplog.messages) == 2
    # One utterance in common is enough: the root above has them all.
    assert place(path, libri)[1] == path
    # The file beside it is found, and continued, also if the first file is gone.
    path.unlink()
    assert place(path, other)[1] == beside
    assert place(path, clean)[1] == path
    # A corpus that was moved has other ids and the same files.
    moved = Path(shutil.copytree(other, tmp_path / "moved" / "x", dirs_exist_ok=True)).parent
    assert place(beside, moved)[1] == beside


def test_files_of_interrupted_runs_and_third_corpora(libri: Path, spectral: Encoder, tmp_path: Path) -> None:
    path = tmp_path / "librispeech_features_spectral.pt"
    corpus, _ = place(path, libri / "dev-clean")
    extract(corpus, spectral, path, progress=False)
    # The rows of dev-clean are only in a part file, as after a run that was killed.
    rest = Corpus(corpus.utterances[:1], corpus.root, corpus.name)
    extract(rest, spectral, path, progress=False)
    path.unlink()
    assert place(path, libri / "test-other")[1].name == "librispeech_features_spectral_test-other.pt"
    assert place(path, libri / "dev-clean")[1] == path
    # Another folder of the same name.
    again = tmp_path / "again" / "dev-clean"
    shutil.move(libri / "test-other" / "103", again / "103")
    name = "librispeech_features_spectral_test-other.pt"
    extract(load_corpus(libri / "test-other"), spectral, tmp_path / name, progress=False)
    assert place(tmp_path / name, again)[1].name == "librispeech_features_spectral_test-other_dev-clean.pt"
    third = tmp_path / "third" / "test-other"
    shutil.copytree(again, third)
    extract(load_corpus(libri / "dev-clean"), spectral, path, progress=False)
    assert place(path, third)[1].name == "librispeech_features_spectral_test-other_2.pt"


def test_subsets_of_one_manifest_do_not_replace_each_other(libri: Path, spectral: Encoder, tmp_path: Path) -> None:
    path, subsets = tmp_path / "calls_features_spectral.pt", {}
    for name, split in (("all", libri), ("train", libri / "dev-clean"), ("test", libri / "test-other")):
        subsets[name] = libri.parent / f"{name}.csv"
        rows = [f"{each.path},{each.speaker}" for each in load_corpus(split)]
        subsets[name].write_text("\n".join(["path,speaker", *rows]))
    beside = path.with_name("calls_features_spectral_test.pt")
    for name, expected in (("all", path), ("train", path), ("test", beside), ("train", path), ("all", path)):
        corpus, chosen = place(path, subsets[name])
        assert chosen == expected, name
        assert extract(corpus, spectral, chosen, progress=False).ids == corpus.ids
    assert FeatureSet.load(beside).ids == load_corpus(subsets["test"]).ids


def test_equal_ids_with_other_audio_are_another_corpus(corpus_root: Path, spectral: Encoder, tmp_path: Path) -> None:
    path, roots = tmp_path / "rec_features_spectral.pt", []
    for parent, speakers in (("x", ("101", "102")), ("y", ("103", "104"))):
        roots.append(tmp_path / parent / "rec")
        for name, speaker in zip(("ann", "ben"), speakers, strict=True):
            for number, file in enumerate(sorted((corpus_root / speaker).rglob("*.flac"))):
                target = roots[-1] / name / f"{number}.flac"
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(file, target)
    (corpus, first), (other, second) = (place(path, root) for root in roots)
    assert (corpus.ids, first, second) == (other.ids, path, path)
    extract(corpus, spectral, path, progress=False)
    assert place(path, roots[1])[1] == path.with_name("rec_features_spectral_y.pt")
    # A file that was touched, and one recording that is left, are enough to find the file again.
    for file in roots[0].rglob("*.flac"):
        file.touch()
    assert place(path, roots[0])[1] == path
    for file in sorted(roots[0].rglob("*.flac"))[:-1]:
        shutil.copy(roots[1] / file.relative_to(roots[0]), file)
    assert place(path, roots[0])[1] == path


def test_rows_that_are_set_aside_are_logged(
    libri: Path, spectral: Encoder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "named.pt"
    caplog.set_level(logging.INFO)
    extract(load_corpus(libri / "dev-clean"), spectral, path, progress=False)
    assert not any("not in the corpus" in text for text in caplog.messages)
    for split, n_aside in (("test-other", 20), ("test-other", 20), ("dev-clean", 20)):
        caplog.clear()
        extract(load_corpus(libri / split), spectral, path, progress=False)
        expected = f"{path}: {n_aside} rows of utterances that are not in the corpus kept in {path}.parts"
        assert expected in caplog.messages


def test_the_part_distinguishes_corpora_of_one_name(tmp_path: Path) -> None:
    manifest = tmp_path / "calls" / "test.csv"
    manifest.parent.mkdir()
    manifest.touch()
    assert part_of(manifest, "calls") == "test"
    assert part_of(tmp_path / "calls", "calls") == tmp_path.name
    assert part_of("/", "calls") == "other"


def test_check_stored_refuses_what_cannot_be_continued(features_path: Path, spectral: Encoder, tmp_path: Path) -> None:
    check_stored(tmp_path / "none.pt", spectral)
    check_stored(features_path, spectral)
    with pytest.raises(FeaturesError, match=r"max_duration is 10\.0 there, 2\.0 here"):
        check_stored(features_path, spectral, max_duration=2.0)
    with pytest.raises(FeaturesError, match="store_dtype is"):
        check_stored(features_path, spectral, store_dtype="fp16")
