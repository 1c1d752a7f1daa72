"""Names of speakers in corpora: Unicode normal forms, missing and reserved names, and names that look the same."""

import logging
import unicodedata
from collections.abc import Iterable
from pathlib import Path

import pytest

from corpora import Corpus, CorpusError, Utterance, find_recordings, load_corpus

COMPOSED, DECOMPOSED = "Zoë", unicodedata.normalize("NFD", "Zoë")


def lay_out(root: Path, files: Iterable[str]) -> Path:
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).touch()
    return root


def test_folders_in_either_unicode_form_are_one_speaker(tmp_path: Path) -> None:
    root = lay_out(tmp_path / DECOMPOSED, [f"{COMPOSED}/{COMPOSED}/1.wav", f"{DECOMPOSED}/{DECOMPOSED}/2.wav"])
    for given in (root, tmp_path / COMPOSED):
        corpus = load_corpus(given)
        assert corpus.ids == ("Zoë/Zoë/2.wav", "Zoë/Zoë/1.wav")  # in the order of the files
        assert {(each.speaker, each.session) for each in corpus} == {("Zoë", "Zoë")}
        assert all(each.path.exists() for each in corpus)


def test_patterns_in_either_unicode_form_match(tmp_path: Path) -> None:
    root = lay_out(tmp_path, [f"fall{DECOMPOSED}/ann_{DECOMPOSED}_1.wav", f"fall{COMPOSED}/ben_1.wav"])
    for form in (COMPOSED, DECOMPOSED):
        corpus = load_corpus(root, pattern=f"fall{form}/{{speaker}}_*")
        assert sorted(corpus.speakers) == ["ann", "ben"]
    assert load_corpus(root, pattern="*/ann_{speaker}_*").speakers == ("Zoë",)


@pytest.mark.parametrize(("listed", "on_disk"), [(COMPOSED, DECOMPOSED), (DECOMPOSED, COMPOSED)])
def test_manifest_finds_files_in_the_other_unicode_form(listed: str, on_disk: str, tmp_path: Path) -> None:
    root = lay_out(tmp_path, [f"{on_disk}/{on_disk}.wav"])
    (root / "manifest.csv").write_text(f"path,speaker\n{listed}/{listed}.wav,{listed}\n", encoding="utf-8")
    [utterance] = load_corpus(root)
    assert utterance.path.exists()
    assert (utterance.id, utterance.speaker) == ("Zoë/Zoë.wav", "Zoë")
    assert find_recordings(root / listed / f"{listed}.wav")[0].exists()


@pytest.mark.parametrize("name", ["unknown", "Unknown"])
def test_reserved_name_is_refused_with_its_recordings(name: str, tmp_path: Path) -> None:
    lay_out(tmp_path, [f"{name}/{number}.wav" for number in range(5)] + ["ann/1.wav"])
    listed = f"{name}/0.wav, {name}/1.wav, {name}/2.wav, and 2 more"
    for arguments in ({}, {"pattern": "{speaker}/*"}):
        with pytest.raises(CorpusError, match=rf"'{name}' cannot be a speaker's name.* speaker of {listed}\."):
            load_corpus(tmp_path, **arguments)  # type: ignore[arg-type]
    assert load_corpus(tmp_path, allow_unknown=True).speakers == tuple(sorted(["ann", name]))


@pytest.mark.parametrize("name", [None, float("nan"), "", "nan", "None"])
def test_missing_name_is_refused_with_its_recordings(name: str) -> None:
    utterances = [Utterance(Path("a.wav"), "ann", "ann"), Utterance(Path("b.wav"), name, "monday")]
    with pytest.raises(CorpusError, match=r"stands for a missing name; it is the speaker of b\.wav\. Give"):
        Corpus(tuple(utterances), Path(), "made up")


def test_folder_of_a_missing_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"the speaker 'nan' stands for a missing name; .* of nan/1\.wav\."):
        load_corpus(lay_out(tmp_path, ["ann/1.wav", "nan/1.wav", "Nan/1.wav"]))


def test_similar_names_are_warned_of_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    load_corpus(lay_out(tmp_path, ["Ann/1.wav", "ann/1.wav", "ann/2.wav", "ben c/1.wav", "ben  c/1.wav", "eva/1.wav"]))
    [record] = [each for each in caplog.records if each.levelno == logging.WARNING]
    assert "equal except for case and spaces: 'Ann' and 'ann', 'ben  c' and 'ben c'. If" in record.getMessage()
