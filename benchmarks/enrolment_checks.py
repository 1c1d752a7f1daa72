"""Measure how often the checks before enrolment warn of ordinary recordings, and of copies with a fault.

python benchmarks/enrolment_checks.py --data_dir data/LibriSpeech/dev-clean
"""

import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
from numpy.typing import NDArray

from audio import SpeechDetector, measure_level, read_audio, write_audio
from command_line import EXIT_DONE, run
from config import LogLevel, ScriptConfig
from corpora import Corpus, Utterance, load_corpus
from encoders import Encoder, load_encoder
from files import format_percent, format_table
from verification import SpeakerStore, SpeakerVerifier, check_recordings, enroll_rows
from verification.check_recordings import MAX_CLIPPED, MIN_RMS

Samples = NDArray[np.float32]
RATE = 16_000
# Kinds of warnings, and words that only they have.
KINDS = {
    "little speech": "speech",
    "clipped": "clipped",
    "quiet": "quiet",
    "two voices": "two voices",
    "no match": "does not match",
    "sounds like": "sounds like",
}


@dataclass(frozen=True, kw_only=True)
class EnrolmentChecksBenchmark(ScriptConfig):
    """Settings of the measurement."""

    data_dir: Path
    """Folder of the corpus."""
    n_speakers: int = 10
    """Number of speakers in the store; they are enrolled with three recordings each."""
    n_recordings: int = 20
    """Number of recordings of each kind that are checked."""
    n_levels: int = 250
    """Number of recordings, as they are, whose level alone is measured."""
    log_level: LogLevel = "error"
    """Lowest level of the messages that are logged."""


@dataclass(frozen=True)
class Voices:
    """Recordings of the enrolled speakers: three that each is enrolled with, and one more; and those of others."""

    enrolled: list[list[Utterance]]
    own: list[Utterance]
    others: list[Utterance]


def main(config: EnrolmentChecksBenchmark) -> int:
    """Print the share of recordings of each kind that have each warning."""
    torch.set_num_threads(1)
    corpus = load_corpus(config.data_dir)
    print(describe_levels(corpus, config.n_levels))
    voices = draw(corpus, config)
    encoder, detector = load_encoder("campplus", device="cpu"), SpeechDetector()
    lines = []
    with (
        tempfile.TemporaryDirectory() as folder,
        SpeakerStore.create(Path(folder) / "speakers.db", SpeakerVerifier.ready()) as store,
    ):
        enroll_rows(store, list(store.verifier.embed([each for own in voices.enrolled for each in own], encoder)))
        for kind, make in faults().items():
            path, counts, n_checked = Path(folder) / "copy.wav", dict.fromkeys(KINDS, 0), 0
            for name, samples in islice(make(voices), config.n_recordings):
                write_audio(path, torch.from_numpy(np.clip(samples, -1, 1)), RATE)
                for warned in warnings(store, name, path, encoder=encoder, detector=detector):
                    counts[warned] += 1
                n_checked += 1
            lines.append([kind, str(n_checked), *(format_percent(count / n_checked) for count in counts.values())])
    print(f"Recordings with each warning, in percent: {config.data_dir.name}, {len(voices.enrolled)} speakers enrolled")
    print(format_table(["recordings", "number", *KINDS], lines, "<" + ">" * (len(KINDS) + 1)))
    return EXIT_DONE


def describe_levels(corpus: Corpus, count: int) -> str:
    """Return the shares of recordings, as they are, that are clipped and too quiet."""
    chosen = np.random.default_rng(1).permutation(len(corpus))[:count].tolist()
    given = [corpus.utterances[number] for number in chosen]
    levels = [measure_level(each.path, each.start, each.duration, channel=each.channel) for each in given]
    clipped = np.mean([level.clipped > MAX_CLIPPED for level in levels])
    quiet = np.mean([level.rms < MIN_RMS for level in levels])
    rms = np.quantile([level.rms for level in levels], (0.01, 0.5, 0.99))
    return (
        f"{len(levels)} recordings as they are: {format_percent(float(clipped))} % clipped, "
        f"{format_percent(float(quiet))} % too quiet; RMS {rms[1]:.0f} dBFS (98 %: {rms[0]:.0f} to {rms[2]:.0f})"
    )


def warnings(
    store: SpeakerStore, name: str, path: Path, *, encoder: Encoder, detector: SpeechDetector
) -> Iterator[str]:
    """Yield the kinds of the warnings of a recording; those of one that cannot be enrolled are none."""
    rows = list(store.verifier.embed([Utterance(path, name, session="")], encoder))
    [checked] = check_recordings(store, name, rows, encoder=encoder, detector=detector)
    for kind, words in KINDS.items():
        if any(words in sentence for sentence in checked.warnings):
            yield kind


def draw(corpus: Corpus, config: EnrolmentChecksBenchmark) -> Voices:
    """Return randomly chosen recordings."""
    random = np.random.default_rng(0)
    by_speaker: dict[str, list[Utterance]] = {}
    for number in random.permutation(len(corpus)).tolist():
        utterance = corpus.utterances[number]
        by_speaker.setdefault(utterance.speaker, []).append(utterance)
    several = [each for each in by_speaker.values() if len(each) > 3]
    # Half of the speakers are left for recordings of other people, if there are few.
    enrolled = several[: min(config.n_speakers, len(several) // 2)]
    own = [each for ranked in zip(*(pad(speaker[3:]) for speaker in enrolled), strict=True) for each in ranked if each]
    known = {each[0].speaker for each in enrolled}
    others = [each for speaker, recordings in by_speaker.items() if speaker not in known for each in recordings]
    chosen = [others[number] for number in random.permutation(len(others)).tolist()]
    return Voices([each[:3] for each in enrolled], own, chosen)


def pad(utterances: Sequence[Utterance], length: int = 40) -> list[Utterance | None]:
    """Return utterances, with None up to a length."""
    return [*utterances, *[None] * length][:length]


def faults() -> dict[str, Callable[[Voices], Iterator[tuple[str, Samples]]]]:
    """Return, for each kind of recording, a function that yields names to enrol with and samples (n,)."""
    return {
        "own, as they are": lambda voices: own(voices, lambda samples: samples),
        "the first 1.5 s": lambda voices: own(voices, lambda samples: samples[: RATE * 3 // 2]),
        "at full scale": lambda voices: own(voices, lambda samples: samples / np.abs(samples).max()),
        "clipped by 6 dB": lambda voices: own(voices, lambda samples: 2 * samples / np.abs(samples).max()),
        "clipped by 12 dB": lambda voices: own(voices, lambda samples: 4 * samples / np.abs(samples).max()),
        "quieter by 20 dB": lambda voices: own(voices, lambda samples: samples / np.float32(10)),
        "quieter by 40 dB": lambda voices: own(voices, lambda samples: samples / np.float32(100)),
        "quieter by 50 dB": lambda voices: own(voices, lambda samples: samples * np.float32(10 ** (-50 / 20))),
        "followed by another": followed,
        "of others, as a new speaker": new,
        "of others, as an enrolled one": wrong,
        "of an enrolled one, as new": hidden,
    }


def read(utterance: Utterance) -> Samples:
    """Return the samples of a recording, at most 5 s."""
    waveform = read_audio(utterance.path, RATE, utterance.start, duration=utterance.duration, max_duration=5.0)
    samples: Samples = waveform.numpy()
    return samples


def own(voices: Voices, change: Callable[[Samples], Samples]) -> Iterator[tuple[str, Samples]]:
    """Yield changed recordings of the enrolled speakers, under their names."""
    for utterance in voices.own:
        yield utterance.speaker, change(read(utterance))


def followed(voices: Voices) -> Iterator[tuple[str, Samples]]:
    """Yield recordings of the enrolled speakers, followed by equally loud and long ones of others."""
    for first, second in zip(voices.own, voices.others, strict=False):
        before, after = read(first), read(second)
        length = min(len(before), len(after), 4 * RATE)
        louder = np.sqrt(np.mean(before[:length] ** 2) / np.mean(after[:length] ** 2))
        yield first.speaker, np.concatenate([before[:length], louder * after[:length]])


def new(voices: Voices) -> Iterator[tuple[str, Samples]]:
    """Yield recordings of people who are not enrolled, under a new name."""
    for utterance in voices.others:
        yield "somebody new", read(utterance)


def wrong(voices: Voices) -> Iterator[tuple[str, Samples]]:
    """Yield recordings of people who are not enrolled, under the name of somebody who is."""
    for first, second in zip(voices.own, voices.others, strict=False):
        yield first.speaker, read(second)


def hidden(voices: Voices) -> Iterator[tuple[str, Samples]]:
    """Yield recordings of the enrolled speakers, under a new name."""
    for utterance in voices.own:
        yield "somebody new", read(utterance)


if __name__ == "__main__":
    run(EnrolmentChecksBenchmark, main)
