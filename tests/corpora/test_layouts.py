"""`load_corpus`: the utterances of each layout, the detection of the layout, and errors."""

import logging
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpora import LAYOUTS, Corpus, CorpusError, Utterance, load_corpus
from corpora.layout_registry import layout

LIBRISPEECH = [
    "LibriSpeech/dev-clean/84/121123/84-121123-0000.flac",
    "LibriSpeech/dev-clean/84/121123/84-121123-0001.flac",
    "LibriSpeech/dev-clean/84/121550/84-121550-0000.flac",
    "LibriSpeech/dev-clean/777/126732/777-126732-0000.flac",
    "LibriSpeech/test-clean/61/70968/61-70968-0000.flac",
]
VOXCELEB = ["wav/id10270/5r0dWxy17C8/00001.wav", "wav/id10270/OmSWVqpb-N0/00001.wav", "wav/id10271/1gtz/00002.wav"]


def lay_out(root: Path, files: Iterable[str]) -> Path:
    """Write files without audio, which is enough because readers open no audio."""
    for file in files:
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"not audio")
    return root


def rows_of(corpus: Corpus) -> list[tuple[str, str, str]]:
    return [(utterance.id, utterance.speaker, utterance.session) for utterance in corpus]


def write_manifest(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "manifest.csv").write_bytes(text.encode(encoding))
    return folder


# LibriSpeech


@pytest.fixture
def librispeech(tmp_path: Path) -> Path:
    lay_out(tmp_path / "data", LIBRISPEECH)
    (tmp_path / "data/LibriSpeech/SPEAKERS.TXT").write_text("; the speakers\n")
    (tmp_path / "data/LibriSpeech/dev-clean/84/121123/84-121123.trans.txt").write_text("84-121123-0000 GO\n")
    return tmp_path / "data"


@pytest.mark.parametrize("layout_name", ["auto", "librispeech"])
@pytest.mark.parametrize(
    "below",
    [
        "",  # a folder above
        "LibriSpeech",  # all splits
        "LibriSpeech/dev-clean",  # one split
        "LibriSpeech/dev-clean/84",  # one speaker
        "LibriSpeech/dev-clean/84/121123",  # one chapter
    ],
)
def test_librispeech_is_read_from_any_of_its_folders(
    below: str, layout_name: str, librispeech: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    corpus = load_corpus(librispeech / below, layout_name)
    expected = sorted(file for file in LIBRISPEECH if file.startswith(below))
    assert corpus.ids == tuple(file[len(below) + 1 if below else 0 :] for file in expected)
    assert [utterance.path for utterance in corpus] == [librispeech / file for file in expected]
    assert [(utterance.speaker, utterance.session) for utterance in corpus] == [
        tuple(file.split("/")[-1].split("-")[:2]) for file in expected
    ]
    assert corpus.name == "librispeech"
    assert corpus.root == librispeech / below
    assert not caplog.records


def test_librispeech_in_the_current_folder(librispeech: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(librispeech / "LibriSpeech/dev-clean/84")
    corpus = load_corpus(".")
    assert corpus.ids == ("121123/84-121123-0000.flac", "121123/84-121123-0001.flac", "121550/84-121550-0000.flac")
    assert corpus.speakers == ("84",)


def test_librispeech_in_other_containers(tmp_path: Path) -> None:
    lay_out(tmp_path, ["84/121123/84-121123-0000.WAV", "84/121123/84-121123-0001.mp3"])
    assert load_corpus(tmp_path).name == "librispeech"


def test_files_outside_librispeech_layout_are_listed(librispeech: Path, caplog: pytest.LogCaptureFixture) -> None:
    extra = [
        "LibriSpeech/dev-clean/84/999/84-121123-0000.flac",  # folder of another chapter
        "LibriSpeech/dev-clean/85/121123/84-121123-0000.flac",  # folder of another speaker
        "LibriSpeech/noise.wav",
        "LibriSpeech/dev-clean/84/121123/84-121123-take2.flac",
    ]
    lay_out(librispeech, extra[:2])
    corpus = load_corpus(librispeech, "librispeech")
    assert corpus.ids == tuple(sorted(LIBRISPEECH))
    assert "skipped 2 audio files that the layout librispeech does not recognise" in caplog.text
    assert all(file in caplog.text for file in extra[:2])
    caplog.clear()
    lay_out(librispeech, extra)
    assert load_corpus(librispeech).ids == tuple(sorted(LIBRISPEECH))
    [record] = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert "4 audio files" in record.getMessage()
    assert "..." in record.getMessage()  # only three names are listed


# VoxCeleb


@pytest.mark.parametrize("layout_name", ["auto", "voxceleb"])
@pytest.mark.parametrize("below", ["", "wav"])
def test_voxceleb(below: str, layout_name: str, tmp_path: Path) -> None:
    lay_out(tmp_path, [*VOXCELEB, "wav/id00012/21Uxsk56VDQ/00001.m4a"])
    corpus = load_corpus(tmp_path / below, layout_name)
    prefix = "" if below else "wav/"
    assert rows_of(corpus) == [
        (f"{prefix}id00012/21Uxsk56VDQ/00001.m4a", "id00012", "21Uxsk56VDQ"),
        (f"{prefix}id10270/5r0dWxy17C8/00001.wav", "id10270", "5r0dWxy17C8"),
        (f"{prefix}id10270/OmSWVqpb-N0/00001.wav", "id10270", "OmSWVqpb-N0"),
        (f"{prefix}id10271/1gtz/00002.wav", "id10271", "1gtz"),
    ]
    assert corpus.name == "voxceleb"


# One folder per speaker


def test_folder_per_speaker(tmp_path: Path) -> None:
    root = lay_out(tmp_path / "my voices", ["Zoë/a.wav", "bob/1.wav", "bob/2.mp3", "ann/x.flac"])
    corpus = load_corpus(root)
    assert rows_of(corpus) == [
        ("Zoë/a.wav", "Zoë", "Zoë"),
        ("ann/x.flac", "ann", "ann"),
        ("bob/1.wav", "bob", "bob"),
        ("bob/2.mp3", "bob", "bob"),
    ]
    assert corpus.name == "my voices"
    assert corpus.speakers == ("Zoë", "ann", "bob")
    assert rows_of(load_corpus(root, "folder")) == rows_of(corpus)


def test_folder_inside_speaker_folder_is_a_session(tmp_path: Path) -> None:
    lay_out(
        tmp_path, ["ann/monday/1.wav", "ann/monday/late/2.wav", "ann/tuesday/1.wav", "ann/3.wav", "bob/monday/1.wav"]
    )
    assert [(speaker, session) for _, speaker, session in rows_of(load_corpus(tmp_path))] == [
        ("ann", "ann"),
        ("ann", "monday"),
        ("ann", "monday"),
        ("ann", "tuesday"),
        ("bob", "monday"),
    ]


def test_files_beside_the_speakers_are_listed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    lay_out(tmp_path, ["ann/1.wav", "ann/2.wav", "bob/1.wav", "jingle.wav"])
    assert load_corpus(tmp_path).ids == ("ann/1.wav", "ann/2.wav", "bob/1.wav")
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    message = f"{tmp_path}: skipped 1 audio file that the layout folder does not recognise: jingle.wav"
    assert record.getMessage() == message


def test_corpus_is_named_after_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = lay_out(tmp_path / "voices", ["ann/1.wav"])
    monkeypatch.chdir(root)
    for spelling in (".", "../voices", "ann/..", str(root) + os.sep):
        assert load_corpus(spelling).name == "voices"
        assert load_corpus(spelling).ids == ("ann/1.wav",)


def test_manifest_takes_precedence_over_folders(librispeech: Path) -> None:
    write_manifest(librispeech, f"path,speaker\n{LIBRISPEECH[0]},ann\n")
    assert rows_of(load_corpus(librispeech)) == [(LIBRISPEECH[0], "ann", "ann")]
    assert load_corpus(librispeech, "librispeech").ids == tuple(sorted(LIBRISPEECH))


# Detection


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (LIBRISPEECH, "layout librispeech, 5 utterances, 3 speakers, 4 sessions; speakers: 61, 777, 84"),
        (VOXCELEB, "layout voxceleb, 3 utterances, 2 speakers, 3 sessions; speakers: id10270, id10271"),
        (
            ["ann/phone/1.wav", "bob/phone/1.wav", "eva/phone/2.wav", "joe/1.wav"],
            "layout folder, 4 utterances, 4 speakers, 2 sessions; speakers: ann, bob, eva, ...",
        ),
    ],
)
def test_detected_layout_is_logged(
    files: Sequence[str], expected: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    load_corpus(lay_out(tmp_path, files))
    [record] = caplog.records
    assert record.levelno == logging.INFO
    assert record.getMessage() == f"{tmp_path}: {expected}"


def test_manifest_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    load_corpus(write_manifest(tmp_path, "path,speaker\na.wav,ann\nb.wav,bob\n"))
    assert f"{tmp_path}: layout manifest, 2 utterances, 2 speakers, 2 sessions" in caplog.text


def test_detected_layout_recognises_more_than_half_of_the_files(tmp_path: Path) -> None:
    lay_out(tmp_path, ["84/1/84-1-0000.flac", "84/1/84-1-0001.flac", "ann/1/x.wav", "ann/1/y.wav"])
    assert load_corpus(tmp_path).speakers == ("84", "ann")
    lay_out(tmp_path, ["84/1/84-1-0002.flac"])
    corpus = load_corpus(tmp_path)
    assert (corpus.name, corpus.speakers) == ("librispeech", ("84",))


def test_files_that_fit_no_layout_are_refused(tmp_path: Path) -> None:
    lay_out(tmp_path, ["a.wav", "b.wav", "ann/c.wav"])
    with pytest.raises(CorpusError, match=r"no layout fits the 3 audio files .*a\.wav.*separate folder.*manifest"):
        load_corpus(tmp_path)


@pytest.mark.parametrize("name", ["librispeech", "voxceleb", "folder"])
def test_requested_layout_that_does_not_fit_is_refused(name: str, tmp_path: Path) -> None:
    lay_out(tmp_path, ["a.wav", "b.wav"])
    with pytest.raises(CorpusError, match=rf"none of the 2 audio files fits the layout '{name}'; try --layout auto"):
        load_corpus(tmp_path, name)


@pytest.mark.parametrize("name", ["auto", *LAYOUTS])
def test_missing_folder_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="gone: no such folder"):
        load_corpus(tmp_path / "gone", name)


@pytest.mark.parametrize("name", ["auto", "librispeech", "voxceleb", "folder"])
def test_folder_without_audio_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "ann").mkdir()
    (tmp_path / "ann/notes.txt").write_text("text")
    with pytest.raises(CorpusError, match="there is no audio in this folder"):
        load_corpus(tmp_path, name)


@pytest.mark.parametrize("name", ["librispeech", "voxceleb", "folder"])
def test_file_given_as_folder_is_refused(name: str, tmp_path: Path) -> None:
    path = lay_out(tmp_path, ["a.wav"]) / "a.wav"
    with pytest.raises(CorpusError, match=r"a\.wav: this is a file"):
        load_corpus(path, name)


def test_recording_given_as_manifest_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(b"RIFF\xff\xff\xff\xffWAVEfmt \x10\x00\x00\x00")
    with pytest.raises(CorpusError, match=r"a\.wav: this is not a manifest .*; it is an audio file"):
        load_corpus(path)


@pytest.mark.parametrize("name", ["libri", "LibriSpeech", "", "aut0"])
def test_unknown_layout_error_lists_valid_layouts(name: str, tmp_path: Path) -> None:
    with pytest.raises(CorpusError) as caught:
        load_corpus(tmp_path, name)
    assert repr(name) in str(caught.value)
    assert all(valid in str(caught.value) for valid in ["auto", *LAYOUTS])


def test_decorator_registers_a_new_layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(LAYOUTS, "initials", LAYOUTS["folder"])  # restored after the test

    @layout("initials")
    def read_initials(root: Path, files: Sequence[str]) -> Iterator[Utterance]:
        """Read files whose first letter is the speaker."""
        for file in files:
            yield Utterance(root / file, file[0], file[0], root=root)

    lay_out(tmp_path, ["a1.wav", "a2.wav", "b1.wav"])
    assert load_corpus(tmp_path, "initials").speakers == ("a", "b")
    assert load_corpus(tmp_path, "initials").name == "initials"


# Ids


NAME = st.text("abcABZäß语 #_-%'\"(),;=+~", min_size=1, max_size=5)


@settings(deadline=None, max_examples=40)
@given(files=st.sets(st.tuples(NAME, NAME, NAME), min_size=1, max_size=6))
def test_ids_are_unique_and_independent_of_the_place(files: set[tuple[str, str, str]]) -> None:
    names = {"/".join(file).casefold(): f"{'/'.join(file)}.wav" for file in files}.values()
    with tempfile.TemporaryDirectory() as folder:
        root = lay_out(Path(folder, "before"), names)
        corpus = load_corpus(root, "folder")
        assert sorted(corpus.ids) == sorted(names)
        moved = root.rename(Path(folder, "after"))
        again = load_corpus(moved, "folder")
        assert again.ids == corpus.ids
        assert all(utterance.path.is_file() for utterance in again)
        link = Path(folder, "link")
        link.symlink_to(moved, target_is_directory=True)
        assert load_corpus(link, "folder").ids == corpus.ids


def test_ids_do_not_depend_on_spelling_of_root(librispeech: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = load_corpus(librispeech).ids
    monkeypatch.chdir(librispeech.parent)
    assert load_corpus("data").ids == expected
    assert load_corpus("./data/../data/").ids == expected
    monkeypatch.chdir(librispeech)
    assert load_corpus(".").ids == expected


# Files that are not audio


def test_no_audio_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lay_out(tmp_path, ["ann/1.wav", "ann/2.flac"])
    monkeypatch.setattr("soundfile.SoundFile", None)
    assert len(load_corpus(tmp_path)) == 2


def test_text_with_audio_suffix_is_kept_and_reported_by_validate(tmp_path: Path) -> None:
    lay_out(tmp_path, ["ann/1.wav", "ann/2.wav"])
    corpus = load_corpus(tmp_path)
    assert corpus.ids == ("ann/1.wav", "ann/2.wav")
    assert [(problem.kind, problem.subject) for problem in corpus.validate()] == [
        ("unreadable", "ann/1.wav"),
        ("unreadable", "ann/2.wav"),
    ]


def test_hidden_files_are_skipped_without_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    lay_out(tmp_path, ["ann/1.wav", "ann/._1.wav", "ann/.git/2.wav", ".cache/ann/3.wav", ".4.wav"])
    assert load_corpus(tmp_path).ids == ("ann/1.wav",)
    assert not caplog.records
