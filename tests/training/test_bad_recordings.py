"""Recordings that are short, silent or cannot be read, and speakers with few of them."""

import math
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from audio import read_audio
from corpora import Corpus, Utterance, load_corpus, split
from heads import SpeakerClassifier
from networks import LogMel
from training import TrainedEncoder, TrainingError
from training.crop_reader import CropReader, CropRequest, read_crops
from training.data import TrainingData, measure
from training.training_run import TrainingRun

Train = Callable[..., TrainedEncoder]
SPEAKERS = ("101", "102", "103", "104")


@pytest.fixture
def own_corpus(corpus_root: Path, tmp_path: Path) -> Corpus:
    """Return a copy of the small corpus, whose files a test may change."""
    return load_corpus(shutil.copytree(corpus_root, tmp_path / "corpus"))


def rows_of(corpus: Corpus) -> dict[str, list[int]]:
    """Return the rows of each part, as a run splits the corpus by utterance."""
    parts = split([utterance.speaker for utterance in corpus])
    return {part: rows.tolist() for part, rows in zip(("train", "validation", "test"), parts, strict=True)}


def damage(path: Path) -> None:
    """Overwrite the middle of a FLAC file, which keeps its header."""
    content = bytearray(path.read_bytes())
    content[len(content) // 3 : -len(content) // 3] = bytes(len(content) // 3)
    path.write_bytes(content)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_files_that_cannot_be_decoded_are_skipped_and_listed(
    num_workers: int, train: Train, own_corpus: Corpus
) -> None:
    chosen = [rows[0] for rows in rows_of(own_corpus).values()]
    for row in chosen:
        damage(own_corpus.utterances[row].path)
    trained = train(corpus=own_corpus, num_workers=num_workers, n_frames=None)
    assert [each for each, _ in trained.failures] == sorted(own_corpus.ids[row] for row in chosen)
    assert all("damaged" in reason for _, reason in trained.failures)
    sizes = {row["part"]: row["n_utterances"] for row in trained.rows}
    assert sizes == {"train": 31, "validation": 3, "test": 3}
    assert math.isfinite(trained.figures["loss"])


def test_files_that_vanish_after_their_headers_were_read_are_skipped_and_listed(
    train: Train, own_corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, gone = TrainingRun.fit, [rows[0] for rows in rows_of(own_corpus).values()]

    def lose_and_fit(run: TrainingRun) -> None:
        for row in gone:
            own_corpus.utterances[row].path.unlink()
        original(run)

    monkeypatch.setattr(TrainingRun, "fit", lose_and_fit)
    trained = train(corpus=own_corpus)
    assert [each for each, _ in trained.failures] == sorted(own_corpus.ids[row] for row in gone)
    assert all("no such file" in reason for _, reason in trained.failures)


def test_an_ensemble_survives_a_test_part_that_cannot_be_read(train: Train, own_corpus: Corpus) -> None:
    rows = rows_of(own_corpus)["test"]
    for row in rows:
        damage(own_corpus.utterances[row].path)
    trained = train(["conv1d", "conv2d"], corpus=own_corpus, epochs=1)
    assert len(trained.failures) == len(rows)
    last = [row for row in trained.rows if row["part"] == "test"]
    assert [(row["network"], row["n_utterances"]) for row in last] == [("conv1d", 0), ("conv2d", 0), ("ensemble", 0)]
    assert all(math.isnan(row["accuracy"]) for row in last)


def test_files_without_audio_are_left_out_of_the_parts(train: Train, own_corpus: Corpus) -> None:
    path = own_corpus.utterances[0].path
    path.write_bytes(b"no audio")
    trained = train(corpus=own_corpus, epochs=1)
    assert [each for each, _ in trained.failures] == [own_corpus.ids[0]]
    assert sum(row["n_utterances"] for row in trained.rows) == len(own_corpus) - 1


def test_a_corpus_of_which_nothing_can_be_read_is_refused(train: Train, own_corpus: Corpus) -> None:
    for utterance in own_corpus:
        utterance.path.write_bytes(b"no audio")
    with pytest.raises(TrainingError, match=r"corpus: none of the 40 utterances can be read; the first: .*not"):
        train(corpus=own_corpus)


def test_training_recordings_of_which_none_can_be_decoded_are_refused(train: Train, own_corpus: Corpus) -> None:
    for utterance in own_corpus:
        damage(utterance.path)
    with pytest.raises(TrainingError, match=r"None of the training utterances could be read; the first, .*damaged"):
        train(corpus=own_corpus)


def read_one(path: Path, n_frames: int | None, position: float, front_end: LogMel) -> tuple[Any, list[Any]]:
    """Return the frames of a crop, without those of padding, and the faults."""
    n_samples = np.array([soundfile.info(path).frames])
    data = TrainingData(
        (Utterance(path, "a", "1"),), n_samples, {}, sample_rate=front_end.sample_rate, hop=front_end.hop
    )
    reader = CropReader(front_end.sample_rate, front_end.hop, front_end.n_fft)
    batch = next(iter(read_crops(reader, [CropRequest((data.crop(0, position, n_frames),))], 0)))
    if not len(batch.kept):
        return None, batch.faults
    return front_end.frames(batch.inputs, batch.n_frames)[0, : batch.n_frames[0]], batch.faults


def test_an_utterance_that_is_shorter_than_a_crop_is_whole_and_padded(
    write_audio: Callable[..., Path], tmp_path: Path
) -> None:
    front_end = LogMel()
    short, long = write_audio(tmp_path / "short.wav", 0.3, seed=1), write_audio(tmp_path / "long.wav", 2.0, seed=2)
    data = TrainingData(
        (Utterance(short, "a", "1"), Utterance(long, "b", "1")), np.array([4800, 32_000]), {},
        sample_rate=16_000, hop=front_end.hop,
    )  # fmt: skip
    crops = (data.crop(0, 0.7, 100), data.crop(1, 0.0, 100))
    batch = next(iter(read_crops(CropReader(16_000, front_end.hop, front_end.n_fft), [CropRequest(crops)], 0)))
    frames = front_end.frames(batch.inputs, batch.n_frames)
    alone, n_frames = front_end(read_audio(short, 16_000)[None], torch.tensor([4800]))
    assert batch.n_frames.tolist() == [n_frames.item(), 100] == [31, 100]
    # The FFT of a batch may use another algorithm than that of one frame; both are float32 in dB below 100.
    assert torch.allclose(frames[0, :31], alone[0], atol=1e-3)
    assert not frames[0, 31:].any()


def test_corpus_of_utterances_that_are_shorter_than_a_crop_trains(train: Train) -> None:
    trained = train(n_frames=500)  # five seconds; the recordings last less than one
    assert trained.failures == ()
    assert {row["part"]: row["n_utterances"] for row in trained.rows} == {"train": 32, "validation": 4, "test": 4}


def test_silence_inside_a_recording_is_skipped_without_a_fault(tmp_path: Path) -> None:
    path, voice = tmp_path / "pause.wav", np.random.default_rng(0).normal(0, 0.1, 16_000)
    soundfile.write(path, np.concatenate([voice, np.zeros(32_000), voice]), 16_000)
    front_end = LogMel()
    frames, faults = read_one(path, 50, 0.5, front_end)
    assert frames is None
    assert faults == []
    frames, faults = read_one(path, 50, 0.0, front_end)
    assert torch.isfinite(frames).all()
    assert faults == []
    frames, faults = read_one(path, None, 0.0, front_end)
    assert len(frames) == 401
    assert torch.isfinite(frames).all()


def test_recordings_without_a_signal_are_listed(train: Train, own_corpus: Corpus) -> None:
    chosen = [rows[0] for rows in rows_of(own_corpus).values()]
    for row in chosen:
        soundfile.write(own_corpus.utterances[row].path, np.zeros(9600), 16_000)
    trained = train(corpus=own_corpus, n_frames=100)
    assert [each for each, _ in trained.failures] == sorted(own_corpus.ids[row] for row in chosen)
    assert all("silent" in reason or "no signal" in reason for _, reason in trained.failures)


def one_each(corpus: Corpus, speakers: tuple[str, ...]) -> Corpus:
    """Return the corpus with one utterance of these speakers, and all of the others."""
    first = {speaker: next(each for each in corpus if each.speaker == speaker) for speaker in speakers}
    kept = [each for each in corpus if first.get(each.speaker, each) is each]
    return Corpus(tuple(kept), corpus.root, corpus.name)


def test_speakers_with_one_utterance_are_classified_and_named(train: Train, corpus: Corpus) -> None:
    trained = train(corpus=one_each(corpus, SPEAKERS[2:]), epochs=1)
    assert torch.load(trained.paths[0], weights_only=True)["speakers"] == list(SPEAKERS)
    assert all(re.search(r"no utterance of 2 of the 4 training speakers: 103, 104\.$", note) for note in trained.notes)
    assert len(trained.notes) == 2


def test_speakers_with_one_utterance_are_no_anchors_and_are_named(
    train: Train, corpus: Corpus, caplog: pytest.LogCaptureFixture
) -> None:
    few = one_each(corpus, SPEAKERS[1:])
    trained = train("bilstm", "triplet", corpus=few, split_by="utterance", batch_size=4, epochs=1)
    sizes = {row["part"]: row["n_utterances"] for row in trained.rows}
    assert sizes["train"] == 3 * (len(few) - 3 - sizes["validation"] - sizes["test"])
    assert "3 training speakers with one utterance cannot be anchors of triplets" in caplog.text
    assert "102, 103, 104" in caplog.text


def test_triplets_of_speakers_with_one_utterance_only_are_refused(train: Train, corpus: Corpus) -> None:
    with pytest.raises(TrainingError, match="Triplets need two speakers, one of them with two utterances"):
        train("bilstm", "triplet", corpus=one_each(corpus, SPEAKERS), split_by="utterance")


@pytest.mark.parametrize(
    ("objective", "words"), [("classification", "one training speaker"), ("triplet", "Triplets need two")]
)
def test_one_speaker_is_refused(objective: str, words: str, train: Train, corpus: Corpus) -> None:
    alone = Corpus(tuple(each for each in corpus if each.speaker == "101"), corpus.root, corpus.name)
    with pytest.raises(TrainingError, match=words):
        train(objective=objective, corpus=alone, split_by="utterance")


def test_an_offset_of_a_recording_is_removed_as_in_extraction(train: Train, corpus_root: Path, tmp_path: Path) -> None:
    shutil.copytree(corpus_root, tmp_path / "shifted")
    for path in (tmp_path / "shifted").rglob("*.flac"):
        samples, rate = soundfile.read(path)
        soundfile.write(path, 0.5 * samples + 0.05, rate)
    trained = train(corpus=load_corpus(tmp_path / "shifted"))
    assert trained.classifier is not None
    corpus = load_corpus(tmp_path / "shifted")
    tested = [corpus.utterances[row] for row in split([each.speaker for each in corpus])[2]]
    classifier = SpeakerClassifier.load(trained.classifier)
    answers = classifier.predict([each.path for each in tested], encoder_weights=trained.paths[0], device="cpu")
    losses = [
        -math.log(answer.probabilities[answer.speakers.index(each.speaker)])
        for answer, each in zip(answers, tested, strict=True)
    ]
    assert trained.figures["loss"] == pytest.approx(sum(losses) / len(losses), rel=1e-4)


def test_crops_of_a_channel_are_those_of_a_file_of_its_own(write_audio: Callable[..., Path], tmp_path: Path) -> None:
    path = write_audio(tmp_path / "a.flac", 2.0, channels=3)
    samples, rate = soundfile.read(path, dtype="int16")
    corpus = Corpus(tuple(Utterance(path, "a", "1", channel=channel) for channel in range(4)), tmp_path, "array")
    kept, lengths, faults = measure(corpus, 16_000, progress=False)
    assert list(faults) == [corpus.ids[3]]
    assert "there is no channel 3" in faults[corpus.ids[3]]
    data = TrainingData(kept, lengths, {}, sample_rate=16_000, hop=160)
    crops = tuple(data.crop(row, 0.5, 100) for row in range(3))
    batch = next(iter(read_crops(CropReader(16_000, 160, 400), [CropRequest(crops)], 0)))
    for channel in range(3):
        soundfile.write(tmp_path / f"{channel}.wav", samples[:, channel], rate)
        apart = Utterance(tmp_path / f"{channel}.wav", "a", "1")
        alone = TrainingData((apart,), lengths[:1], {}, sample_rate=16_000, hop=160).crop(0, 0.5, 100)
        found = next(iter(read_crops(CropReader(16_000, 160, 400), [CropRequest((alone,))], 0)))
        assert torch.equal(batch.inputs[channel], found.inputs[0])


def test_silent_recordings_are_said_to_be_silent(train: Train, tmp_path: Path) -> None:
    for speaker in ("a", "b"):
        (tmp_path / "silent" / speaker).mkdir(parents=True)
        for number in range(6):
            soundfile.write(tmp_path / "silent" / speaker / f"{number}.wav", np.zeros(16_000), 16_000)
    with pytest.raises(TrainingError, match=r"The training utterances are silent\. Export them again"):
        train(corpus=load_corpus(tmp_path / "silent"))


def test_a_single_crop_without_variance_ends_the_run_in_a_sentence(train: Train) -> None:
    with pytest.raises(
        TrainingError,
        match=r"Step 1 of epoch 1 has a single crop that is too short .* conv1d\. Give a larger --batch_size",
    ):
        train(batch_size=1, n_frames=1)
