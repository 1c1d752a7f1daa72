"""Make meetings of six speakers, and compare a frozen CAM++ with heads with one that is fine-tuned on them.

python benchmarks/meetings.py make --data_dir DATA --output_dir outputs/meetings
python benchmarks/meetings.py compare outputs/meetings
python benchmarks/meetings.py channels outputs/meetings

DATA holds speechocean762 and open_voices/manifest.csv.
"""

import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar, Literal, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from benchmarks.simulated_meetings import make_meetings
from command_line import EXIT_DONE, run_one_of
from config import LogLevel, ScriptConfig
from configs.base import Count, InputPath, Probability, Seed
from corpora import SPLITS, Corpus, find_segments, load_corpus, split, write_manifest
from encoders import Encoder, load_encoder
from evaluation import compare_heads
from features import FeatureSet, extract
from files import OutputError, format_percent, format_table
from heads import SpeakerClassifier
from metrics import macro_f1, mean_interval
from training import train_encoder, train_sessions

# Heads that fit a few recordings of each speaker; validation selects one.
HEADS = ("linear", "logistic", "cosine", "centroid", "lda", "plda", "mlp")


@dataclass(frozen=True, kw_only=True)
class MakeMeetings(ScriptConfig):
    """Make meetings from recordings of single speakers, with pauses, overlaps, a room and noise."""

    data_dir: InputPath
    """Folder of the corpora."""
    output_dir: Path = Path("outputs/meetings")
    """Folder for the meetings, as of AISHELL-4."""
    n_meetings: Count = 10
    """Number of meetings."""
    snr: float = 0.0
    """Level of the speech above the noise (dB)."""
    seed: Seed = 0
    """Random seed."""


@dataclass(frozen=True, kw_only=True)
class OfMeetings(ScriptConfig):
    """Settings of the comparisons."""

    is_positional: ClassVar[bool] = True

    meetings: InputPath
    """Folder of the meetings."""
    validation: Probability = 0.1
    """Share of the segments of each speaker that selects the epoch, or the head."""
    test: Probability = 0.3
    """Share of the segments of each speaker that is tested."""
    seed: Seed = 42
    """Random seed of the split and of the training."""
    log_level: LogLevel = "error"
    """Lowest level of the messages that are logged."""


@dataclass(frozen=True, kw_only=True)
class CompareBenchmark(OfMeetings):
    """Compare heads on a frozen CAM++ with fine-tuning, for each meeting and for all meetings."""

    systems: tuple[Literal["frozen", "each", "all"], ...] = ("frozen", "each", "all")
    """What is compared: heads on the frozen encoder, fine-tuning on each meeting, and fine-tuning on all meetings."""
    output_dir: Path | None = None
    """Folder for the training runs, which continue where they were interrupted; by default fine_tuned in that of the
    meetings."""
    epochs: Count = 10
    """Number of epochs of the fine-tuning."""
    lr: float = 1e-4
    """Learning rate of the fine-tuning."""
    batch_size: Count = 16
    """Number of utterances of a step of the fine-tuning."""


@dataclass(frozen=True, kw_only=True)
class ChannelsBenchmark(OfMeetings):
    """Compare the mean of the channels with single channels, for a frozen CAM++ with heads for each meeting."""

    channels: tuple[int, ...] = (0, 4)
    """Numbers of the single channels."""


class System(NamedTuple):
    """A way to name the speakers of the test segments, and what it answered."""

    name: str
    answers: dict[str, str]
    """Id of a test segment -> speaker."""
    minutes: float


def main_make(config: MakeMeetings) -> int:
    """Write the meetings, and print what is in them."""
    if config.output_dir.exists() and any(config.output_dir.iterdir()):
        raise OutputError(f"{config.output_dir}: this folder is not empty; give another --output_dir.")
    make_meetings(config.data_dir, config.output_dir, n_meetings=config.n_meetings, snr=config.snr, seed=config.seed)
    found = find_segments(config.output_dir / "rttm", config.output_dir / "wav")
    alone = find_segments(config.output_dir / "rttm", config.output_dir / "wav", max_overlap=0.0)
    print(format_table(["", "number"], found.summary, "<>"))
    share = 1 - len(alone.segments) / len(found.segments)
    print(f"{format_percent(share)} % of the segments overlap another speaker.")
    return EXIT_DONE


def main_compare(config: CompareBenchmark) -> int:
    """Print the accuracy of each system on each meeting, and the differences."""
    corpus = read_meetings(config)
    print_parts(corpus)
    systems: list[System] = []
    if "frozen" in config.systems:
        features, minutes = embed(corpus, load_encoder("campplus", device="cpu"))
        each, heads = frozen_each(corpus, features, config.seed)
        frozen = [each, *frozen_all(corpus, features, config.seed)]
        systems += [one._replace(minutes=one.minutes + minutes) for one in frozen]
        print("Heads on the frozen encoder, one for each meeting (mean test accuracy, %):")
        print(format_table(["head", "accuracy"], [[name, format_percent(value)] for name, value in heads], "<>"))
    if "each" in config.systems:
        systems.append(fine_tuned_each(corpus, config))
    if "all" in config.systems:
        systems += fine_tuned_all(corpus, config)
    print_systems(corpus, systems)
    return EXIT_DONE


def main_channels(config: ChannelsBenchmark) -> int:
    """Print the accuracy with the mean of the channels and with single channels."""
    systems = []
    encoder = load_encoder("campplus", device="cpu")
    for channel in (None, *config.channels):
        corpus = read_meetings(config, channel)
        features, minutes = embed(corpus, encoder)
        found, _ = frozen_each(corpus, features, config.seed)
        # The ids name the channel; the answers of all channels are compared by the segment.
        answers = {_segment(name): speaker for name, speaker in found.answers.items()}
        name = "mean of the channels" if channel is None else f"channel {channel}"
        systems.append(System(name, answers, found.minutes + minutes))
    print_systems(read_meetings(config), systems)
    return EXIT_DONE


def read_meetings(config: OfMeetings, channel: int | None = None) -> Corpus:
    """Return the segments of the meetings, each with its split: within each meeting, stratified by speaker."""
    found = find_segments(config.meetings / "rttm", config.meetings / "wav", channel=channel)
    with TemporaryDirectory(dir=config.meetings) as folder:
        listed = load_corpus(write_manifest(folder, found.segments))
    whole = [replace(each, path=each.path.resolve(), root=config.meetings.resolve()) for each in listed]
    fractions = (1 - config.validation - config.test, config.validation, config.test)
    utterances = []
    for meeting in sorted({each.session for each in whole}):
        own = [each for each in whole if each.session == meeting]
        parts = split([each.speaker for each in own], fractions=fractions, seed=config.seed)
        named = {row: name for rows, name in zip(parts, SPLITS, strict=True) for row in rows.tolist()}
        utterances += [replace(each, split=named[row]) for row, each in enumerate(own)]
    return Corpus(tuple(utterances), config.meetings.resolve(), "meetings")


def embed(corpus: Corpus, encoder: Encoder) -> tuple[FeatureSet, float]:
    """Return the embeddings of a corpus, and the minutes that they took."""
    started = time.perf_counter()
    with TemporaryDirectory() as folder:
        features = extract(corpus, encoder, Path(folder) / "features.pt", progress=False)
    return features, (time.perf_counter() - started) / 60


def frozen_each(corpus: Corpus, features: FeatureSet, seed: int) -> tuple[System, list[tuple[str, float]]]:
    """Train heads for each meeting, and let the best by validation answer.

    Returns
    -------
    System
    list of (str, float)
        Heads, and their test accuracies, as means over the meetings.
    """
    started = time.perf_counter()
    answers: dict[str, str] = {}
    accuracies: dict[str, list[float]] = {}
    for rows in _rows_of_meetings(corpus).values():
        compared = compare_heads(features.select(rows), HEADS, split_by="given", seed=seed, refit=False)
        for row in compared.summary:
            accuracies.setdefault(row["head"], []).append(row["test_accuracy"])
        answers |= first_answers(compared.classifier, features.select(_tested(corpus, rows)))
    means = sorted(((name, float(np.mean(values))) for name, values in accuracies.items()), key=lambda pair: -pair[1])
    return System("frozen, heads of each meeting", answers, (time.perf_counter() - started) / 60), means


def frozen_all(corpus: Corpus, features: FeatureSet, seed: int) -> list[System]:
    """Train heads for the speakers of all meetings, and let the best by validation answer."""
    started = time.perf_counter()
    compared = compare_heads(features, HEADS, split_by="given", seed=seed, refit=False)
    minutes = (time.perf_counter() - started) / 60
    tested = features.select(_tested(corpus, range(len(corpus))))
    return _of_all("frozen, one head", compared.classifier, tested, minutes=minutes)


def fine_tuned_each(corpus: Corpus, config: CompareBenchmark) -> System:
    """Fine-tune CAM++ on each meeting."""
    folder = _folder(config) / "each"
    done = train_sessions(corpus, "campplus", output_dir=folder, **_settings(config))
    answers: dict[str, str] = {}
    for meeting, rows in _rows_of_meetings(corpus).items():
        trained = done.trained[meeting]
        assert trained.classifier is not None
        features = _embed_by(corpus, _tested(corpus, rows), trained.paths[0])
        answers |= first_answers(SpeakerClassifier.load(trained.classifier), features)
    return System("fine-tuned on each meeting", answers, sum(row["seconds"] for row in done.rows) / 60)


def fine_tuned_all(corpus: Corpus, config: CompareBenchmark) -> list[System]:
    """Fine-tune CAM++ on all meetings."""
    folder = _folder(config) / "all"
    folder.mkdir(parents=True, exist_ok=True)
    trained = train_encoder(corpus, "campplus", output_dir=folder, **_settings(config))
    assert trained.classifier is not None
    features = _embed_by(corpus, _tested(corpus, range(len(corpus))), trained.paths[0])
    minutes = sum(row["seconds"] or 0.0 for row in trained.rows) / 60
    return _of_all("fine-tuned on all", SpeakerClassifier.load(trained.classifier), features, minutes=minutes)


def first_answers(classifier: SpeakerClassifier, features: FeatureSet, *, of_meeting: bool = False) -> dict[str, str]:
    """Return the most probable speaker of each row; with `of_meeting`, among the speakers of its meeting."""
    predictions = classifier.predict_features(features, top_k=len(classifier.speakers))
    sessions = [features.session_names[number] for number in features.sessions.tolist()]
    answers = {}
    for name, session, (speakers, _) in zip(features.ids, sessions, predictions, strict=True):
        answers[name] = next(each for each in speakers if not of_meeting or each.startswith(f"{session}_"))
    return answers


def print_parts(corpus: Corpus) -> None:
    """Print the number of segments and of speakers of each part."""
    lines = []
    for name in SPLITS:
        own = [each for each in corpus if each.split == name]
        hours = sum(each.duration or 0.0 for each in own) / 3600
        lines.append([name, str(len({each.speaker for each in own})), str(len(own)), f"{hours:.2f}"])
    print(format_table(["part", "speakers", "segments", "hours"], lines, "<>>>"))


def print_systems(corpus: Corpus, systems: Sequence[System]) -> None:
    """Print the figures of each system, those of each meeting, and the differences between systems."""
    truth: dict[str, dict[str, str]] = {}
    for each in corpus:
        if each.split == "test":
            truth.setdefault(each.session, {})[each.id] = each.speaker
    accuracy = {
        system.name: [
            float(np.mean([system.answers[name] == speaker for name, speaker in own.items()]))
            for own in truth.values()
        ]
        for system in systems
    }  # fmt: skip
    print("Means over the meetings, and 95 % intervals (%):")
    lines = []
    for system in systems:
        f1 = np.mean([_macro_f1(own, system.answers) for own in truth.values()])
        figures = _interval(accuracy[system.name]), format_percent(float(f1)), f"{system.minutes:.1f}"
        lines.append([system.name, *figures])
    print(format_table(["", "accuracy", "macro-F1", "minutes"], lines, "<>>>"))
    print("Accuracy of each meeting (%):")
    header = ["meeting", "tested", *map(str, range(1, len(systems) + 1))]
    lines = [
        [meeting, str(len(own)), *(format_percent(accuracy[system.name][row]) for system in systems)]
        for row, (meeting, own) in enumerate(truth.items())
    ]
    print(format_table(header, lines, "<" + ">" * (len(header) - 1)))
    print("Differences of the accuracy, paired by meeting (points):")
    lines = []
    for (first, one), (second, other) in combinations(enumerate(systems, start=1), 2):
        pairs = zip(accuracy[one.name], accuracy[other.name], strict=True)
        lines.append([f"{second} - {first}", _interval([b - a for a, b in pairs])])
    print(format_table(["systems", "difference"], lines, "<>"))


def _of_all(name: str, classifier: SpeakerClassifier, features: FeatureSet, *, minutes: float) -> list[System]:
    """Return the answers among the speakers of all meetings, and among those of the meeting."""
    return [
        System(f"{name}, for all speakers", first_answers(classifier, features), minutes),
        System(f"{name}, for the meeting's", first_answers(classifier, features, of_meeting=True), minutes),
    ]


def _folder(config: CompareBenchmark) -> Path:
    return config.meetings / "fine_tuned" if config.output_dir is None else config.output_dir


def _settings(config: CompareBenchmark) -> dict[str, Any]:
    """Return the settings of the fine-tuning."""
    return {
        "init_weights": "published",
        "split_by": "given",
        "epochs": config.epochs,
        "lr": config.lr,
        "batch_size": config.batch_size,
        "seed": config.seed,
        "device": "cpu",
        "progress": False,
    }


def _embed_by(corpus: Corpus, rows: Sequence[int], weights: Path) -> FeatureSet:
    """Return the embeddings of some rows by a trained encoder."""
    part = Corpus(tuple(corpus.utterances[row] for row in rows), corpus.root, corpus.name)
    return embed(part, load_encoder("trained", weights, device="cpu"))[0]


def _rows_of_meetings(corpus: Corpus) -> dict[str, list[int]]:
    rows: dict[str, list[int]] = {}
    for row, each in enumerate(corpus):
        rows.setdefault(each.session, []).append(row)
    return rows


def _tested(corpus: Corpus, rows: Iterable[int]) -> list[int]:
    return [row for row in rows if corpus.utterances[row].split == "test"]


def _segment(name: str) -> str:
    """Return the id of a segment without its channel."""
    return name.split("#channel")[0]


def _macro_f1(truth: dict[str, str], answers: dict[str, str]) -> float:
    numbers = {speaker: number for number, speaker in enumerate(sorted({*truth.values(), *answers.values()}))}
    given = [numbers[answers[name]] for name in truth]
    true = np.array([numbers[speaker] for speaker in truth.values()])
    return macro_f1(true, np.array(given), classes=np.unique(true))


def _interval(values: Sequence[float]) -> str:
    mean, low, high = mean_interval(values)
    return f"{format_percent(mean)} ({format_percent(low)} to {format_percent(high)})"


if __name__ == "__main__":
    run_one_of(
        {
            "make": (MakeMeetings, main_make),
            "compare": (CompareBenchmark, main_compare),
            "channels": (ChannelsBenchmark, main_channels),
        }
    )
