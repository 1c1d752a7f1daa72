"""Measure how often enrolment warns of a recording of another person, with and without such a recording.

python benchmarks/doubtful_recordings.py --features_path outputs/librispeech_features_campplus.pt
"""

import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
from numpy.typing import NDArray

from command_line import EXIT_DONE, run
from config import LogLevel, ScriptConfig
from features import FeatureSet
from files import format_percent, format_table
from verification import SpeakerStore, SpeakerVerifier, enroll_feature_set

Rows = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class DoubtfulBenchmark(ScriptConfig):
    """Settings of the measurement."""

    features_path: Path
    """Features file of campplus."""
    sizes: tuple[int, ...] = (2, 3, 5)
    """Numbers of recordings that each speaker is enrolled with."""
    max_speakers: int = 20
    """Maximum number of speakers in a store."""
    draws: int = 20
    """Number of stores for each number of recordings."""
    without: str | None = None
    """Name of a speaker that is left out."""
    log_level: LogLevel = "error"
    """Lowest level of the messages that are logged."""


def main(config: DoubtfulBenchmark) -> int:
    """Print the shares of speakers with a warning."""
    features = FeatureSet.load(config.features_path)
    if config.without is not None:
        features = features.select(features.labels != features.speakers.index(config.without))
    lines, warned = [], Counter[str]()
    for size in config.sizes:
        random = np.random.default_rng(0)
        counts = np.sum(
            [draw(features, config, size, random=random, warned=warned) for _ in range(config.draws)], axis=0
        )
        lines.append([str(size), str(counts[0]), *(format_percent(count / counts[0]) for count in counts[1:])])
    print("Speakers with a warning, in percent: new speakers, and speakers with one more recording")
    header = ["recordings", "speakers", "own, new", "own, added", "one of another, new", "of another, added"]
    print(format_table(header, lines, ">>>>>>"))
    print(f"Warnings of speakers with own recordings only: {dict(warned.most_common(5))}")
    return EXIT_DONE


def draw(
    features: FeatureSet, config: DoubtfulBenchmark, size: int, *, random: np.random.Generator, warned: Counter[str]
) -> Rows:
    """Return the number of speakers of a draw, and the numbers of those with a warning of each kind."""
    labels = features.labels.numpy()
    numbers = np.arange(len(features.speakers))
    speakers = random.permutation(numbers[np.bincount(labels, minlength=len(numbers)) > size])[: config.max_speakers]
    own = [random.permutation(np.flatnonzero(labels == speaker))[: size + 1] for speaker in speakers]
    others = random.permutation(np.setdiff1d(np.arange(len(labels)), np.concatenate(own)))
    wrong: list[int] = []  # a recording of another speaker, each once: a store refuses copies
    for speaker in speakers:
        wrong.append(next(row for row in others.tolist() if labels[row] != speaker and row not in wrong))
    first, more = [rows[:size] for rows in own], [rows[size:] for rows in own]
    mixed = [np.append(rows[: size - 1], row) for rows, row in zip(own, wrong, strict=True)]
    alone, added = doubtful(features, speakers, [first, more])
    warned.update(sentence.partition(":")[0] for sentence in alone)
    [found] = doubtful(features, speakers, [mixed])
    _, found_added = doubtful(features, speakers, [first, [np.array([row]) for row in wrong]])
    return np.array([len(speakers), len(alone), len(added), len(found), len(found_added)])


def doubtful(features: FeatureSet, speakers: Rows, parts: Sequence[Sequence[Rows]]) -> list[tuple[str, ...]]:
    """Enrol speakers with their rows, one part after the other; return the warnings of each part."""
    found = []
    with (
        tempfile.TemporaryDirectory() as folder,
        SpeakerStore.create(Path(folder) / "speakers.db", SpeakerVerifier.ready()) as store,
    ):
        for rows in parts:
            names = np.repeat(speakers, [len(each) for each in rows])
            given = replace(features.select(np.concatenate(rows)), labels=torch.from_numpy(names))
            found.append(enroll_feature_set(store, given, "add").doubtful)
    return found


if __name__ == "__main__":
    run(DoubtfulBenchmark, main)
