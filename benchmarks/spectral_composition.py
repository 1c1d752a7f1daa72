"""Compare compositions of the encoder `spectral`; its default was selected with this measurement.

python benchmarks/spectral_composition.py --librispeech LibriSpeech/dev-clean --folder speechocean762
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, pstdev
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from command_line import EXIT_DONE, run
from config import LogLevel, ScriptConfig, SplitBy
from corpora import Corpus, load_corpus
from encoders import load_encoder
from encoders.spectral import SpectralOptions
from evaluation import compare_heads
from features import FeatureSet, extract
from files import format_table

DEFAULT = SpectralOptions()
COMPOSITIONS = tuple(
    SpectralOptions(*numbers)
    for numbers in (
        (40, 20, 0),
        (64, 20, 20),
        (64, 30, 30),
        (64, 40, 0),
        (64, 40, 20),
        (64, 40, 40),
        (80, 40, 20),
        (80, 40, 40),
    )
)
HEADS = ("linear", "lda")
# A larger test set than by default, because the differences between compositions are small.
FRACTIONS = (0.8, 0.0, 0.2)


@dataclass(frozen=True, kw_only=True)
class CompositionConfig(ScriptConfig):
    """Measure the accuracy of heads on compositions of the encoder spectral."""

    librispeech: Path
    """Folder of a corpus in LibriSpeech's layout; its speakers need several chapters."""
    folder: Path
    """Folder of a corpus with one folder per speaker."""
    seeds: int = 5
    """Number of splits (and initial weights) over which the accuracies are averaged."""
    log_level: LogLevel = "error"
    """Lowest level of the messages that are logged."""


def main(config: CompositionConfig) -> int:
    """Print a table with one line for each composition."""
    chapters, folder = load_corpus(config.librispeech, "librispeech"), load_corpus(config.folder, "folder")
    seeds = range(config.seeds)
    lines = [_line(composition, chapters, folder, seeds=seeds) for composition in COMPOSITIONS]
    columns = [f"{part} {head}" for part in ("utterance", "session", "folder") for head in HEADS]
    print(format_table(["mels/MFCC/deltas", "dim", *columns], lines, "<>" + ">" * len(columns)))
    print("* the default. Test accuracy in percent, mean and standard deviation over seeds; 80 % train, 20 % test.")
    print(f"utterance, session: {_size(chapters)}, split by utterance and by session; folder: {_size(folder)}.")
    single = [speaker for speaker in chapters.speakers if len(_sessions(chapters, speaker)) == 1]
    print(f"Speakers with one session, not tested by session: {', '.join(single) or 'none'}.")
    return EXIT_DONE


def _line(composition: SpectralOptions, chapters: Corpus, folder: Corpus, *, seeds: Sequence[int]) -> list[str]:
    encoder = load_encoder("spectral", device="cpu", **vars(composition))
    with TemporaryDirectory() as cache:
        by_chapter = extract(chapters, encoder, Path(cache) / "chapters.pt")
        by_folder = extract(folder, encoder, Path(cache) / "folder.pt")
    cells = [
        *_accuracies(by_chapter, "utterance", seeds),
        *_accuracies(by_chapter, "session", seeds),
        *_accuracies(by_folder, "utterance", seeds),
    ]
    name = "/".join(map(str, vars(composition).values())) + (" *" if composition == DEFAULT else "")
    return [name, str(encoder.dim), *cells]


def _accuracies(features: FeatureSet, split_by: SplitBy, seeds: Sequence[int]) -> list[str]:
    """Return the test accuracy of each head (percent): mean and standard deviation over the seeds."""
    shares: dict[str, list[float]] = {head: [] for head in HEADS}
    for seed in seeds:
        comparison = compare_heads(features, HEADS, split_by=split_by, fractions=FRACTIONS, seed=seed)
        for row in comparison.rows:
            shares[row["head"]].append(100 * row["test_accuracy"])
    return [f"{fmean(values):.2f} ±{pstdev(values):5.2f}" for values in shares.values()]


def _sessions(corpus: Corpus, speaker: str) -> set[str]:
    return {utterance.session for utterance in corpus if utterance.speaker == speaker}


def _size(corpus: Corpus) -> str:
    return f"{corpus.name} ({len(corpus)} utterances, {len(corpus.speakers)} speakers)"


if __name__ == "__main__":
    run(CompositionConfig, main)
