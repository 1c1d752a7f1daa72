"""What a training run learns from, as small tables that the report draws: speakers, durations, levels."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from files import Record, count_of, format_duration, write_csv
from networks import FrontEnd, LogMel
from training.crop_reader import CropReader, CropRequest
from training.data import PARTS, TrainingData

# Training utterances whose log-mel values are measured, and the most frames of each.
SAMPLE, MAX_FRAMES = 300, 1000
# Crops that are read at once.
BATCH = 16
# Number of bins of a histogram.
BINS = 40
# Range below the loudest value that is kept (dB), more than the values can have: quiet ones are not raised.
NO_LIMIT = 1000.0


def part_records(data: TrainingData) -> list[Record]:
    """Return the numbers of speakers, utterances and hours of each part."""
    return [
        {
            "part": part,
            "n_speakers": len(np.unique(data.speaker_numbers[rows])),
            "n_utterances": len(rows),
            "hours": float(data.n_samples[rows].sum()) / data.sample_rate / 3600,
        }
        for part, rows in ((part, data.parts[part]) for part in PARTS)
    ]


def describe_parts(data: TrainingData) -> list[str]:
    """Describe each part in a line."""
    return [
        f"{part['part']}: {count_of(part['n_utterances'], 'utterance')} of {count_of(part['n_speakers'], 'speaker')}, "
        f"{format_duration(3600 * part['hours'])}"
        for part in part_records(data)
    ]


def write_data_charts(
    folder: Path, data: TrainingData, front_end: FrontEnd, *, n_frames: int | None, seed: int
) -> None:
    """Write ``training_speakers.csv`` and ``training_histograms.csv``.

    Parameters
    ----------
    folder : Path
    data : TrainingData
    front_end : FrontEnd
        Its log-mel values, before any limit of the range and normalisation, are measured; if it has none, those of
        `LogMel`.
    n_frames : int or None
        Length of a crop; None measures whole utterances, at most `MAX_FRAMES` frames.
    seed : int
        Seed of the sample of training utterances that is measured.

    Raises
    ------
    OutputError
        A file cannot be written.
    """
    write_csv(folder / "training_speakers.csv", speaker_records(data))
    durations = [("duration", part, data.n_samples[data.parts[part]] / data.sample_rate) for part in PARTS]
    smallest, largest = measure_levels(data, front_end, n_frames=n_frames, seed=seed)
    levels = [("smallest_log_mel", "train", smallest), ("largest_log_mel", "train", largest)]
    records = [*_histograms(durations), *_histograms(levels)]
    write_csv(folder / "training_histograms.csv", records)


def speaker_records(data: TrainingData) -> list[Record]:
    """Count the utterances of each speaker in each part; speakers are sorted by name."""
    counts = {part: Counter(data.utterances[row].speaker for row in data.parts[part].tolist()) for part in PARTS}
    names = sorted(set().union(*counts.values()))
    return [{"speaker": name, **{part: counts[part][name] for part in PARTS}} for name in names]


def measure_levels(
    data: TrainingData, front_end: FrontEnd, *, n_frames: int | None, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the smallest and the largest log-mel value (dB) of crops of a sample of the training utterances."""
    if not isinstance(front_end, LogMel):
        front_end, n_frames = LogMel(), None
        data = replace(data, hop=front_end.hop, unpadded=0)
    random = np.random.default_rng(seed)
    rows = np.sort(random.permutation(data.parts["train"])[:SAMPLE])
    crops = [data.crop(row, random.random(), n_frames or MAX_FRAMES) for row in rows.tolist()]
    reader = CropReader(front_end.sample_rate, front_end.hop, front_end.n_fft)
    log_mel = LogMel(
        front_end.mel.shape[1],
        front_end.n_fft,
        front_end.hop,
        top_db=NO_LIMIT,
        normalize="none",
        sample_rate=front_end.sample_rate,
    )
    found = []
    for first in range(0, len(crops), BATCH):
        batch = reader[CropRequest(tuple(crops[first : first + BATCH]))]
        if len(batch.kept):
            frames = log_mel.frames(batch.inputs, batch.n_frames)
            valid = [one[:n] for one, n in zip(frames, batch.n_frames.tolist(), strict=True)]
            found += [(float(one.min()), float(one.max())) for one in valid]
    smallest, largest = np.array(found, np.float64).reshape(-1, 2).T
    return smallest, largest


def _histograms(series: Sequence[tuple[str, str, NDArray[np.float64]]]) -> list[Record]:
    """Count the values of each series, with its quantity and part, in the same bins."""
    edges = np.histogram_bin_edges(np.concatenate([values for _, _, values in series]), BINS)
    return [
        {"quantity": quantity, "part": part, "low": low, "high": high, "count": count}
        for quantity, part, values in series
        if len(values)
        for low, high, count in zip(
            edges[:-1].tolist(), edges[1:].tolist(), np.histogram(values, edges)[0].tolist(), strict=True
        )
    ]
