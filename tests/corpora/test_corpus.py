"""`Utterance` and `Corpus`: ids, order, and the problems that `validate` finds."""

import dataclasses
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from corpora import Corpus, CorpusError, Problem, Utterance, load_corpus

WriteAudio = Callable[..., Path]

ROOT = Path("/data/voices")


def utterance(path: str, speaker: str = "ann", start: float = 0.0, duration: float | None = None) -> Utterance:
    return Utterance(ROOT / path, speaker, speaker, start, duration, root=ROOT)


def kinds(problems: tuple[Problem, ...]) -> list[tuple[str, str]]:
    return [(problem.kind, problem.subject) for problem in problems]


# Utterances and their ids


@pytest.mark.parametrize(
    ("start", "duration", "suffix"),
    [
        (0.0, None, ""),
        (0.0, 2.0, "#0-2"),
        (1.0, None, "#1-"),
        (1.0, 2.0, "#1-2"),
        (100.0, 20.0, "#100-20"),
        (0.5, 0.25, "#0.5-0.25"),
        (1 / 3, 1e-6, "#0.333333-0.000001"),
        (3600.125, 1000000.0, "#3600.125-1000000"),
    ],
)
def test_id_of_segment_has_start_and_duration(start: float, duration: float | None, suffix: str) -> None:
    assert utterance("a b/ü.wav", "ann", start, duration).id == f"a b/ü.wav{suffix}"


@pytest.mark.parametrize(("start", "duration", "suffix"), [(0.0, None, ""), (1.5, 2.0, "#1.5-2"), (1.0, None, "#1-")])
def test_id_of_a_channel_ends_with_its_number(start: float, duration: float | None, suffix: str) -> None:
    whole = utterance("a.wav", "ann", start, duration)
    channels: list[Any] = [None, 0, 12, np.int64(7)]
    assert [dataclasses.replace(whole, channel=channel).id for channel in channels] == [
        f"a.wav{suffix}",
        f"a.wav{suffix}#channel0",
        f"a.wav{suffix}#channel12",
        f"a.wav{suffix}#channel7",
    ]


@pytest.mark.parametrize("channel", [-1, 0.5, "0", "mean"])
def test_a_channel_is_a_number_from_0(channel: Any) -> None:
    with pytest.raises(CorpusError, match=r"a\.wav: the channel is .*; expected a number from 0, or None for the mean"):
        Utterance(ROOT / "a.wav", "ann", "ann", channel=channel)


def test_each_channel_of_a_file_is_validated(tmp_path: Path) -> None:
    voice = np.random.default_rng(0).uniform(-0.5, 0.5, 8_000)
    soundfile.write(tmp_path / "a.wav", np.stack([voice, 0 * voice, voice], axis=1), 8_000)
    utterances = [
        Utterance(tmp_path / "a.wav", speaker, speaker, root=tmp_path, channel=channel)
        for speaker, channel in (("ann", 0), ("ben", 1), ("eva", 2), ("ida", 3))
    ]
    problems = [each for each in Corpus(tuple(utterances), tmp_path, "calls").validate() if each.kind[0] != "s"]
    assert kinds(tuple(problems)) == [
        ("unreadable", "a.wav#channel1"),
        ("unreadable", "a.wav#channel3"),
        ("duplicate", "a.wav#channel0"),
    ]
    assert "all samples of channel 1 are zero" in problems[0].message
    assert "there is no channel 3" in problems[1].message


def test_id_is_relative_to_root_wherever_the_file_is() -> None:
    assert utterance("../other/x.wav").id == "../other/x.wav"
    assert utterance("ann/../bob/./x.wav").id == "bob/x.wav"


def test_id_is_relative_to_relative_root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert Utterance(Path("voices/ann/1.wav"), "ann", "ann", root=Path("voices")).id == "ann/1.wav"
    assert Utterance(tmp_path / "voices/ann/1.wav", "ann", "ann", root=Path("voices")).id == "ann/1.wav"
    assert Utterance(Path("ann/1.wav"), "ann", "ann").id == "ann/1.wav"


@pytest.mark.parametrize(
    ("start", "duration"),
    [(-0.1, None), (float("nan"), None), (float("inf"), None), (0.0, 0.0), (0.0, -1.0), (0.0, float("nan"))],
)
def test_invalid_start_or_duration_is_refused(start: float, duration: float | None) -> None:
    with pytest.raises(CorpusError, match=r"a\.wav: the span starts at"):
        utterance("a.wav", "ann", start, duration)


SPANS = st.tuples(st.integers(0, 10**7), st.none() | st.integers(1, 10**7))  # milliseconds


@settings(deadline=None, max_examples=50)
@given(spans=st.lists(SPANS, min_size=2, max_size=20, unique=True))
def test_different_segments_have_different_ids(spans: list[tuple[int, int | None]]) -> None:
    segments = [
        utterance("a.wav", "ann", start / 1000, None if duration is None else duration / 1000)
        for start, duration in spans
    ]
    assert len(Corpus(tuple(segments), ROOT, "voices").ids) == len(set(spans))


def test_utterances_and_corpora_are_immutable() -> None:
    one = utterance("a.wav")
    corpus = Corpus((one,), ROOT, "voices")
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.speaker = "bob"  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        corpus.name = "faces"  # type: ignore[misc]


# The corpus


def test_paths_of_an_utterance_may_be_strings() -> None:
    utterance = Utterance("voices/ann/1.wav", "ann", "monday", root="voices")  # type: ignore[arg-type]
    assert utterance == Utterance(Path("voices/ann/1.wav"), "ann", "monday", root=Path("voices"))
    assert utterance.id == "ann/1.wav"


def test_corpus_keeps_order_and_has_a_length() -> None:
    listed = tuple(utterance(f"{name}.wav", speaker) for name, speaker in [("z", "bob"), ("a", "Ann"), ("m", "bob")])
    corpus = Corpus(listed, ROOT, "voices")
    assert len(corpus) == 3
    assert tuple(corpus) == corpus.utterances == listed
    assert corpus.ids == ("z.wav", "a.wav", "m.wav")
    assert corpus.speakers == ("Ann", "bob")


def test_empty_corpus() -> None:
    corpus = Corpus((), ROOT, "voices")
    assert len(corpus) == 0
    assert corpus.ids == corpus.speakers == ()
    assert corpus.validate() == ()


def test_unpickled_corpus_is_equal() -> None:
    corpus = Corpus((utterance("a.wav"), utterance("b.wav", "bob", 1.0, 2.0)), ROOT, "voices")
    again = pickle.loads(pickle.dumps(corpus))
    assert again == corpus
    assert again.ids == corpus.ids
    assert hash(again) == hash(corpus)


@pytest.mark.parametrize(
    ("repeated", "message"),
    [
        ([utterance("a.wav"), utterance("a.wav", "bob")], "the utterance a.wav is listed 2 times"),
        ([utterance("a.wav"), utterance("x/../a.wav")], "the utterance a.wav is listed 2 times"),
        ([utterance("a.wav", "ann", 1.0, 2.0)] * 3, "the utterance a.wav#1-2 is listed 3 times"),
    ],
)
def test_utterance_listed_twice_is_refused(repeated: list[Utterance], message: str) -> None:
    listed = (utterance("first.wav"), *repeated, utterance("last.wav"))
    with pytest.raises(CorpusError, match=message) as caught:
        Corpus(listed, ROOT, "voices")
    assert str(ROOT) in str(caught.value)


# validate


@pytest.fixture
def voices(write_audio: WriteAudio, tmp_path: Path) -> Path:
    """Return the folder of a corpus without problems."""
    for seed, name in enumerate(["ann/1.wav", "ann/2.flac", "bob/1.wav", "bob/2.ogg"]):
        write_audio(tmp_path / "voices" / name, seconds=0.3, seed=seed)
    return tmp_path / "voices"


def test_valid_corpus_has_no_problems(voices: Path) -> None:
    assert load_corpus(voices).validate() == ()


def test_each_bad_file_is_a_problem(voices: Path, write_audio: WriteAudio) -> None:
    (voices / "ann/0.wav").write_bytes(b"")
    (voices / "ann/3.wav").symlink_to("gone.wav")
    (voices / "ann/4.mp3").mkdir()  # a folder is not an utterance
    soundfile.write(voices / "ann/5.wav", np.zeros(0), 16_000)
    soundfile.write(voices / "bob/3.wav", np.zeros(1_000), 16_000)
    soundfile.write(voices / "bob/4.wav", np.full(1_000, np.nan), 16_000, subtype="FLOAT")
    (voices / "bob/5.flac").write_text("84-121123-0000 GO\n")
    whole = write_audio(voices / "bob/6.wav", seconds=0.3, seed=6).read_bytes()
    (voices / "bob/6.wav").write_bytes(whole[:-5_000])
    write_audio(voices / "carl/1.wav", seconds=0.3, seed=0)  # equal to ann/1.wav
    problems = load_corpus(voices).validate()
    assert kinds(problems) == [
        ("empty", "ann/0.wav"),
        ("missing", "ann/3.wav"),
        ("empty", "ann/5.wav"),
        ("unreadable", "bob/3.wav"),
        ("unreadable", "bob/4.wav"),
        ("unreadable", "bob/5.flac"),
        ("unreadable", "bob/6.wav"),
        ("duplicate", "ann/1.wav"),
        ("single_utterance", "carl"),
    ]
    for problem in problems:
        assert problem.subject in problem.message
        assert str(voices) not in problem.message  # the id identifies the file
    words = ["0 bytes", "no such file", "no samples", "zero", "NaN", "not audio", "cut off"]
    for problem, word in zip(problems, words, strict=False):
        assert word in problem.message


@pytest.mark.parametrize(("name", "options"), [("9.flac", {}), ("9.aiff", {}), ("9.wav", {"subtype": "PCM_24"})])
def test_same_audio_of_two_speakers_is_duplicate_in_any_container(
    name: str, options: dict[str, str], voices: Path, write_audio: WriteAudio
) -> None:
    samples, rate = soundfile.read(voices / "ann/1.wav", dtype="int16")
    soundfile.write(voices / "bob" / name, samples, rate, **options)
    [problem] = load_corpus(voices).validate()
    assert (problem.kind, problem.subject) == ("duplicate", "ann/1.wav")
    assert "ann/1.wav (speaker ann)" in problem.message
    assert f"bob/{name} (speaker bob)" in problem.message
    samples[1_000] += 1
    soundfile.write(voices / "bob" / name, samples, rate, **options)
    assert load_corpus(voices).validate() == ()


def test_same_audio_of_three_speakers_is_one_problem(voices: Path) -> None:
    samples, rate = soundfile.read(voices / "ann/1.wav", dtype="int16")
    for name in ("bob/9.flac", "carl/1.wav", "carl/2.flac"):
        (voices / name).parent.mkdir(exist_ok=True)
        soundfile.write(voices / name, samples, rate)
    [problem] = load_corpus(voices).validate()
    for listed in ("ann/1.wav (speaker ann)", "bob/9.flac (speaker bob)", "carl/1.wav", "carl/2.flac (speaker carl)"):
        assert listed in problem.message


def test_segments_are_compared_instead_of_files(write_audio: WriteAudio, tmp_path: Path) -> None:
    path = write_audio(tmp_path / "meeting.wav", seconds=2)
    samples, rate = soundfile.read(path, dtype="int16")
    soundfile.write(tmp_path / "copy.flac", samples[rate // 2 : rate], rate)
    rows = ["meeting.wav,ann,0,0.5", "meeting.wav,bob,0.5,0.5", "meeting.wav,ann,1,0.5", "meeting.wav,bob,1.5,0.5"]
    manifest = tmp_path / "manifest.csv"
    manifest.write_text("\n".join(["path,speaker,start,duration", *rows]))
    assert load_corpus(tmp_path).validate() == ()
    manifest.write_text("\n".join(["path,speaker,start,duration", *rows, "copy.flac,ann,,"]))
    assert kinds(load_corpus(tmp_path).validate()) == [("duplicate", "meeting.wav#0.5-0.5")]


def test_segment_outside_its_file_is_unreadable(write_audio: WriteAudio, tmp_path: Path) -> None:
    write_audio(tmp_path / "a.wav", seconds=1)
    (tmp_path / "manifest.csv").write_text("path,speaker,start,duration\na.wav,ann,0,0.5\na.wav,ann,5,1\nb.wav,ann,,\n")
    problems = load_corpus(tmp_path).validate()
    assert kinds(problems) == [("unreadable", "a.wav#5-1"), ("missing", "b.wav")]
    assert "starts at 5 s" in problems[0].message


def test_speakers_with_one_utterance_are_problems(write_audio: WriteAudio, tmp_path: Path) -> None:
    for seed, name in enumerate(["ann/1.wav", "bob/1.wav", "bob/2.wav", "zoë/1.wav"]):
        write_audio(tmp_path / name, seconds=0.2, seed=seed)
    problems = load_corpus(tmp_path).validate()
    assert kinds(problems) == [("single_utterance", "ann"), ("single_utterance", "zoë")]
    assert "zoë" in problems[1].message


@pytest.mark.skipif(os.name != "posix", reason="file names are bytes only on POSIX")
def test_file_name_that_is_not_utf8_is_valid(voices: Path) -> None:
    try:
        (voices / "bob/1.wav").rename(voices / "bob" / os.fsdecode(b"caf\xe9.wav"))
    except OSError:
        pytest.skip("this file system refuses names that are not UTF-8")
    assert load_corpus(voices).validate() == ()


@pytest.mark.parametrize("name", ["jos\u00e9/0.flac", "ann/jos\u00e9.flac", "jos\u00e9/jos\u00e9.flac"])
def test_names_in_two_unicode_forms_are_named(name: str) -> None:
    other = name.replace("\u00e9", "e\u0301", 1)
    with pytest.raises(CorpusError) as refused:
        Corpus((utterance(name), utterance(other)), ROOT, "voices")
    message = str(refused.value)
    assert message.startswith(f"{ROOT}: the names 'jos\\xe9")
    assert "and 'jose\\u0301" in message
    assert (
        f"look the same, but are written in two Unicode forms (NFC and NFD), and both have the utterance {name}"
        in message
    )
