"""How often the store names a stranger, and how often it takes an enrolled speaker for one.

python benchmarks/open_set.py --features_path outputs/librispeech_features_spectral.pt

Two thirds of the speakers train and calibrate a verifier. Half of the others are enrolled by some recordings each; the
rest of their recordings, and all of those who are not enrolled, are identified. Who has several sessions is enrolled by
one and heard in the others. Rates are means over draws.
"""

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from command_line import EXIT_DONE, run
from config import BackendName, LogLevel, ScriptConfig
from corpora import Utterance
from evaluation import format_table
from features import FeatureSet, Row
from heads import UNKNOWN
from verification import Recording, SpeakerStore, SpeakerVerifier


@dataclass(frozen=True, kw_only=True)
class OpenSetBenchmark(ScriptConfig):
    """Measure the errors of identification among enrolled speakers."""

    features_path: Path
    """Features file of many speakers."""
    backend: tuple[BackendName, ...] = ("cosine", "whiten", "within", "lda", "plda")
    """What scores a pair."""
    recordings: tuple[int, ...] = (1, 3, 10)
    """By how many a speaker is enrolled."""
    draws: int = 5
    """Draws of the speakers and of their recordings."""
    p_known: float = 0.5
    """How probable an enrolled speaker is before anything is heard."""
    log_level: LogLevel = "error"
    """How much is told of the work."""


def main(config: OpenSetBenchmark) -> int:
    """Print a row for each backend and number of recordings."""
    features = FeatureSet.load(config.features_path)
    lines = []
    for backend in config.backend:
        for count in config.recordings:
            draws = [measure(features, backend, count, seed, config.p_known) for seed in range(config.draws)]
            lines.append([backend, str(count), *(f"{100 * rate:.1f}" for rate in np.mean(draws, axis=0))])
    present = len(np.unique(features.labels.numpy()))
    n_held_out = present - 2 * present // 3
    print(f"{features.corpus}: {n_held_out // 2} speakers enrolled, {n_held_out - n_held_out // 2} strangers")
    header = ["backend", "enrolled by", "strangers named", "known called unknown", "known misnamed"]
    print(format_table(header, lines, "<>>>>"))
    return EXIT_DONE


def measure(features: FeatureSet, backend: str, count: int, seed: int, p_known: float) -> tuple[float, float, float]:
    """Return the rates of one draw."""
    random = np.random.default_rng(seed)
    labels, sessions = features.labels.numpy(), features.sessions.numpy()
    speakers = random.permutation(np.unique(labels))
    trained, held_out = np.split(speakers, [2 * len(speakers) // 3])
    verifier = SpeakerVerifier.train(features.select(np.isin(labels, trained)), backend, seed)
    known = held_out[: len(held_out) // 2]
    not_heard: list[int] = []
    with tempfile.TemporaryDirectory() as folder, SpeakerStore.create(Path(folder) / "s.db", verifier) as store:
        for speaker in known.tolist():
            own = np.flatnonzero(labels == speaker)
            several = len(np.unique(sessions[own])) > 1
            one = own[sessions[own] == random.choice(sessions[own])] if several else own
            chosen = random.permutation(one)[:count]
            recordings = [Recording(str(row), str(row).encode(), 0.0, features.features[row]) for row in chosen]
            store.enroll(features.speakers[speaker], recordings)
            not_heard += (one if several else chosen).tolist()
        probes = np.setdiff1d(np.flatnonzero(np.isin(labels, held_out)), not_heard)
        heard = [Row(Utterance(Path(features.ids[row]), "", ""), features.features[row]) for row in probes.tolist()]
        names = np.array([found.speakers[0] for found in store.identify(heard, 1, p_known)])
    is_known, is_named = np.isin(labels[probes], known), names != UNKNOWN
    wrong = is_named & (names != np.array(features.speakers)[labels[probes]])
    return float(is_named[~is_known].mean()), float((~is_named[is_known]).mean()), float(wrong[is_known].mean())


if __name__ == "__main__":
    run(OpenSetBenchmark, main)
