"""Measure the error rates of open-set identification with the store.

python benchmarks/open_set.py --features_path outputs/librispeech_features_spectral.pt

Two thirds of the speakers train and calibrate a verifier. Half of the others are enrolled with a few recordings each.
Their other recordings, and all recordings of the speakers who are not enrolled, are identified. A speaker with several
sessions is enrolled with one session and identified in the others. Rates are means over draws.
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
from embedding import Row
from features import FeatureSet
from files import format_table
from heads import UNKNOWN
from verification import Recording, SpeakerStore, SpeakerVerifier


@dataclass(frozen=True, kw_only=True)
class OpenSetBenchmark(ScriptConfig):
    """Measure the errors of identification among enrolled speakers."""

    features_path: Path
    """Features file of many speakers."""
    backend: tuple[BackendName, ...] = ("cosine", "whiten", "within", "lda", "plda")
    """Backends that score a pair."""
    recordings: tuple[int, ...] = (1, 3, 10)
    """Numbers of recordings that a speaker is enrolled with."""
    draws: int = 5
    """Number of random draws of the speakers and of their recordings."""
    p_known: float = 0.5
    """Prior probability that the speaker is enrolled."""
    log_level: LogLevel = "error"
    """Lowest level of the messages that are logged."""


def main(config: OpenSetBenchmark) -> int:
    """Print a row for each backend and number of recordings."""
    features = FeatureSet.load(config.features_path)
    lines = []
    for backend in config.backend:
        for count in config.recordings:
            draws = [
                measure(features, backend, count, seed=seed, p_known=config.p_known) for seed in range(config.draws)
            ]
            lines.append([backend, str(count), *(f"{100 * rate:.1f}" for rate in np.mean(draws, axis=0))])
    n_speakers = len(np.unique(features.labels.numpy()))
    n_held_out = n_speakers - 2 * n_speakers // 3
    print(f"{features.corpus}: {n_held_out // 2} speakers enrolled, {n_held_out - n_held_out // 2} unknown speakers")
    header = ["backend", "recordings", "false accepts %", "misses %", "misidentified %"]
    print(format_table(header, lines, "<>>>>"))
    return EXIT_DONE


def measure(features: FeatureSet, backend: str, count: int, *, seed: int, p_known: float) -> tuple[float, float, float]:
    """Return the rates of one draw: false accepts, misses, and enrolled speakers identified as another one."""
    random = np.random.default_rng(seed)
    labels, sessions = features.labels.numpy(), features.sessions.numpy()
    speakers = random.permutation(np.unique(labels))
    trained, held_out = np.split(speakers, [2 * len(speakers) // 3])
    verifier = SpeakerVerifier.train(features.select(np.isin(labels, trained)), backend, seed)
    known = held_out[: len(held_out) // 2]
    excluded: list[int] = []
    with tempfile.TemporaryDirectory() as folder, SpeakerStore.create(Path(folder) / "s.db", verifier) as store:
        for speaker in known.tolist():
            own = np.flatnonzero(labels == speaker)
            several = len(np.unique(sessions[own])) > 1
            one_session = own[sessions[own] == random.choice(sessions[own])] if several else own
            selected = random.permutation(one_session)[:count]
            recordings = [
                Recording(path=str(row), digest=str(row).encode(), seconds=0.0, vector=features.features[row])
                for row in selected
            ]
            store.enroll(features.speakers[speaker], recordings)
            excluded += (one_session if several else selected).tolist()
        probes = np.setdiff1d(np.flatnonzero(np.isin(labels, held_out)), excluded)
        rows = [Row(Utterance(Path(features.ids[row]), "", ""), features.features[row]) for row in probes.tolist()]
        names = np.array([found.speakers[0] for found in store.identify(rows, 1, p_known)])
    is_known, is_accepted = np.isin(labels[probes], known), names != UNKNOWN
    is_wrong = is_accepted & (names != np.array(features.speakers)[labels[probes]])
    false_accepts, misses = float(is_accepted[~is_known].mean()), float((~is_accepted[is_known]).mean())
    return false_accepts, misses, float(is_wrong[is_known].mean())


if __name__ == "__main__":
    run(OpenSetBenchmark, main)
