"""The layouts of VoxCeleb, VCTK, AISHELL-1, TIMIT and Common Voice: speakers, given splits, and files left out."""

import logging
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
import soundfile

from audio import read_audio
from corpora import Corpus, CorpusError, load_corpus

Row = tuple[str, str, str, str | None]


def lay_out(root: Path, files: Iterable[str]) -> Path:
    for file in files:
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"not audio")
    return root


def rows_of(corpus: Corpus) -> list[Row]:
    return [(utterance.id, utterance.speaker, utterance.session, utterance.split) for utterance in corpus]


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


# VoxCeleb


def test_voxceleb_development_set_is_the_training_split(tmp_path: Path) -> None:
    lay_out(tmp_path, ["dev/wav/id10001/vid/00001.wav", "test/wav/id10270/vid/00001.wav", "wav/id10002/v/00001.wav"])
    assert [(speaker, split) for _, speaker, _, split in rows_of(load_corpus(tmp_path))] == [
        ("id10001", "train"),
        ("id10270", "test"),
        ("id10002", None),
    ]


def test_voxceleb_identification_list_gives_the_splits(tmp_path: Path) -> None:
    lay_out(tmp_path, [f"wav/id10001/v{number}/00001.wav" for number in range(4)])
    lines = [f"{number + 1} id10001/v{number}/00001.wav\n" for number in range(3)]
    (tmp_path / "iden_split.txt").write_text("".join(lines))
    assert [split for *_, split in rows_of(load_corpus(tmp_path))] == ["train", "validation", "test", None]
    (tmp_path / "iden_split.txt").write_text("train id10001/v0/00001.wav\n")
    with pytest.raises(CorpusError, match=r"iden_split\.txt, line 1: found 'train id10001.*expected 1 \(training\)"):
        load_corpus(tmp_path)


def test_folder_of_a_voxceleb_speaker_is_that_speaker(tmp_path: Path) -> None:
    root = lay_out(tmp_path / "id10270", ["5r0dWxy17C8/00001.wav"])
    corpus = load_corpus(root)
    assert rows_of(corpus) == [("5r0dWxy17C8/00001.wav", "id10270", "5r0dWxy17C8", None)]
    assert corpus.name == "voxceleb"


# VCTK


@pytest.mark.parametrize("layout_name", ["auto", "vctk"])
@pytest.mark.parametrize("above", ["", "VCTK-Corpus/wav48/"])
def test_vctk(above: str, layout_name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    lay_out(tmp_path, [f"{above}p225/p225_001.wav", f"{above}p225/p225_002.wav", f"{above}s5/s5_001.wav"])
    corpus = load_corpus(tmp_path, layout_name)
    assert rows_of(corpus) == [
        (f"{above}p225/p225_001.wav", "p225", "p225", None),
        (f"{above}p225/p225_002.wav", "p225", "p225", None),
        (f"{above}s5/s5_001.wav", "s5", "s5", None),
    ]
    assert corpus.name == "vctk"
    assert warnings_of(caplog) == []


def test_vctk_uses_one_microphone_of_each_utterance(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = "wav48_silence_trimmed/p225"
    names = ["p225_001_mic1", "p225_001_mic2", "p225_002_mic2", "p225_003_mic1", "p225_003_mic2"]
    lay_out(tmp_path, [f"{folder}/{name}.flac" for name in names])
    used = [Path(utterance_id).stem for utterance_id in load_corpus(tmp_path).ids]
    assert sorted(used) == ["p225_001_mic1", "p225_002_mic2", "p225_003_mic1"]
    (warning,) = warnings_of(caplog)
    assert "skipped 2 audio files that the layout vctk leaves out, because another file in the same folder" in warning
    assert f"{folder}/p225_001_mic2.flac, {folder}/p225_003_mic2.flac" in warning


@pytest.mark.parametrize(
    "files",
    [
        ["wav48/p225/p225_001.wav", "wav48_silence_trimmed/p225/p225_001_mic1.flac"],
        ["wav16/p225/p225_001.wav", "wav48/p225/p225_001.wav"],
        ["timit/TRAIN/DR1/FCJF0/SA1.WAV", "ntimit/TRAIN/DR1/FCJF0/SA1.WAV"],
        ["TRAIN/DR1/FCJF0/SA1.WAV", "TEST/DR1/FCJF0/SA1.WAV"],
    ],
)
def test_files_in_different_folders_are_different_utterances(
    files: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert set(load_corpus(lay_out(tmp_path, files)).ids) == set(files)
    (warning,) = warnings_of(caplog)
    assert (
        f"found 1 utterance in several folders, such as {' and '.join(sorted(files))}; all of them are used" in warning
    )


def test_vctk_files_without_folders_are_different_utterances(tmp_path: Path) -> None:
    assert load_corpus(lay_out(tmp_path, ["p225_001.wav", "p226_001.wav"])).speakers == ("p225", "p226")


def test_vctk_has_the_splits_of_the_folders_above(tmp_path: Path) -> None:
    lay_out(tmp_path, ["VV/train/p225/p225_001.wav", "VV/test/wav48/p225/p225_002.wav", "VV/p226/p226_001.wav"])
    assert sorted(rows_of(load_corpus(tmp_path)), key=str) == [
        ("VV/p226/p226_001.wav", "p226", "p226", None),
        ("VV/test/wav48/p225/p225_002.wav", "p225", "p225", "test"),
        ("VV/train/p225/p225_001.wav", "p225", "p225", "train"),
    ]


def test_innermost_folder_gives_the_split(tmp_path: Path) -> None:
    lay_out(tmp_path, ["test/train/S0002/BAC009S0002W0122.wav", "train/wav/test/S0764/BAC009S0764W0121.wav"])
    assert [utterance.split for utterance in load_corpus(tmp_path, "aishell1")] == ["train", "test"]


# AISHELL-1


@pytest.mark.parametrize("layout_name", ["auto", "aishell1"])
@pytest.mark.parametrize("above", ["", "wav/", "data_aishell/wav/"])
def test_aishell1(above: str, layout_name: str, tmp_path: Path) -> None:
    files = ["dev/S0724/BAC009S0724W0121.wav", "test/S0764/BAC009S0764W0121.wav", "train/S0002/BAC009S0002W0122.wav"]
    corpus = load_corpus(lay_out(tmp_path, [above + file for file in files]), layout_name)
    assert rows_of(corpus) == [
        (f"{above}{files[0]}", "S0724", "S0724", "validation"),
        (f"{above}{files[1]}", "S0764", "S0764", "test"),
        (f"{above}{files[2]}", "S0002", "S0002", "train"),
    ]
    assert corpus.name == "aishell1"


def test_aishell1_file_in_the_folder_of_another_speaker_is_listed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    wrong = "train/S0003/BAC009S0002W0123.wav"
    lay_out(tmp_path, ["train/S0002/BAC009S0002W0121.wav", "train/S0002/BAC009S0002W0122.wav", wrong])
    assert len(load_corpus(tmp_path)) == 2
    assert warnings_of(caplog) == [
        f"{tmp_path}: skipped 1 audio file that the layout aishell1 does not recognise: {wrong}"
    ]


# TIMIT


@pytest.mark.parametrize("layout_name", ["auto", "timit"])
@pytest.mark.parametrize("case", [str.upper, str.lower])
def test_timit(case: Callable[[str], str], layout_name: str, tmp_path: Path) -> None:
    files = [case(f"timit/{name}") for name in ("TEST/DR1/FAKS0/SX3.WAV", "TRAIN/DR1/FCJF0/SA1.WAV")]
    corpus = load_corpus(lay_out(tmp_path, files), layout_name)
    assert rows_of(corpus) == [(files[0], "FAKS0", "FAKS0", "test"), (files[1], "FCJF0", "FCJF0", "train")]
    assert corpus.name == "timit"


def test_timit_copies_in_another_format_are_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    lay_out(tmp_path, ["TRAIN/DR1/FCJF0/SA1.WAV", "TRAIN/DR1/FCJF0/SA1.WAV.wav", "TRAIN/DR1/FCJF0/SA2.WAV.wav"])
    assert load_corpus(tmp_path).ids == ("TRAIN/DR1/FCJF0/SA1.WAV", "TRAIN/DR1/FCJF0/SA2.WAV.wav")
    (warning,) = warnings_of(caplog)
    assert warning.endswith(
        "because another file in the same folder has the same utterance: TRAIN/DR1/FCJF0/SA1.WAV.wav"
    )


def test_sphere_file_with_the_suffix_of_a_wav_file_is_read(write_audio: Callable[..., Path], tmp_path: Path) -> None:
    path = write_audio(tmp_path / "TRAIN/DR1/FCJF0/SA1.WAV", 0.5, format="NIST", subtype="PCM_16")
    assert path.read_bytes().startswith(b"NIST_1A")
    (utterance,) = load_corpus(tmp_path)
    assert len(read_audio(utterance.path, None)) == soundfile.info(path).frames == 8000


# Common Voice


@pytest.fixture
def common_voice(tmp_path: Path) -> Path:
    """Return a corpus of two speakers whose sentences have quotation marks, which a reader of CSV would join."""
    root = lay_out(tmp_path / "cv-corpus/de", [f"clips/common_voice_de_{number}.mp3" for number in range(6)])
    rows = [("ann", 0, '"Ja'), ("ann", 1, 'sagte "sie'), ("bob", 2, "ok"), ("bob", 3, 'nein"'), ("ann", 4, "")]
    write_table(root / "validated.tsv", rows)
    write_table(root / "train.tsv", rows[:2])
    write_table(root / "dev.tsv", rows[2:3])
    write_table(root / "test.tsv", rows[3:4])
    return root


def write_table(path: Path, rows: Iterable[tuple[str, int, str]], suffix: str = ".mp3") -> None:
    lines = [f"{speaker}\tcommon_voice_de_{number}{suffix}\t{text}\t2\n" for speaker, number, text in rows]
    path.write_text("client_id\tpath\tsentence\tup_votes\n" + "".join(lines), encoding="utf-8")


@pytest.mark.parametrize("layout_name", ["auto", "commonvoice"])
@pytest.mark.parametrize("above", ["", "de/", "cv-corpus/de/"])
def test_common_voice(above: str, layout_name: str, common_voice: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = common_voice if not above else common_voice.parents[above.count("/") - 1]
    corpus = load_corpus(root, layout_name)
    owners = [("ann", "train"), ("ann", "train"), ("bob", "validation"), ("bob", "test"), ("ann", None)]
    assert rows_of(corpus) == [
        (f"{above}clips/common_voice_de_{number}.mp3", speaker, speaker, split)
        for number, (speaker, split) in enumerate(owners)
    ]
    assert corpus.name == "commonvoice"
    (warning,) = warnings_of(caplog)
    assert warning.endswith(
        f"skipped 1 audio file that validated.tsv does not list: {above}clips/common_voice_de_5.mp3"
    )


def test_common_voice_clips_that_are_missing_are_named(common_voice: Path, caplog: pytest.LogCaptureFixture) -> None:
    for number in (0, 2):
        (common_voice / f"clips/common_voice_de_{number}.mp3").unlink()
    assert len(load_corpus(common_voice)) == 3
    missing = "clips/common_voice_de_0.mp3, clips/common_voice_de_2.mp3"
    assert f"skipped 2 audio files that validated.tsv lists, but the folder clips lacks: {missing}" in caplog.text


def test_common_voice_without_validated_tsv_has_the_splits(common_voice: Path) -> None:
    (common_voice / "validated.tsv").unlink()
    assert [split for *_, split in rows_of(load_corpus(common_voice))] == ["train", "train", "validation", "test"]


def test_common_voice_paths_without_suffix_are_those_of_mp3_files(common_voice: Path) -> None:
    write_table(common_voice / "validated.tsv", [("ann", 0, ""), ("bob", 1, "")], suffix="")
    assert load_corpus(common_voice).speakers == ("ann", "bob")


@pytest.mark.parametrize("suffix", [".mp3", ""])
def test_common_voice_clips_that_were_converted_are_found(
    suffix: str, common_voice: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for clip in (common_voice / "clips").iterdir():
        clip.rename(clip.with_suffix(".wav"))
    (common_voice / "clips/common_voice_de_1.mp3").touch()  # preferred, because the table lists it
    write_table(common_voice / "validated.tsv", [("ann", 0, ""), ("bob", 1, "")], suffix=suffix)
    assert rows_of(load_corpus(common_voice)) == [
        ("clips/common_voice_de_0.wav", "ann", "ann", "train"),
        ("clips/common_voice_de_1.mp3", "bob", "bob", "train"),
    ]
    (warning,) = warnings_of(caplog)
    assert "skipped 5 audio files that validated.tsv does not list" in warning


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("client_id,path\nann,a.mp3\n", r"validated\.tsv: its columns are .*expected client_id and path"),
        ("client_id\tpath\nann\ta.mp3\n\tb.mp3\n", r"validated\.tsv, line 3: client_id or path is empty"),
        ("client_id\tpath\nann\n", r"validated\.tsv, line 2: client_id or path is empty"),
    ],
)
def test_invalid_table_of_common_voice_is_refused(text: str, message: str, common_voice: Path) -> None:
    (common_voice / "validated.tsv").write_text(text)
    with pytest.raises(CorpusError, match=message):
        load_corpus(common_voice)
