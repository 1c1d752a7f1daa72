"""Compare encoders on real speech: identification, verification and unknown speakers.

python benchmarks/real_speech.py --data_dir DATA --scratch_weights saved_model.bilstm.mean.all.specaug.gpu100000.pt

DATA holds LibriSpeech/dev-clean, speechocean762 and open_voices/manifest.csv.
"""

import sys
from dataclasses import dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from numpy.typing import NDArray

from benchmarks.enrolment_draws import Recordings, draw, error_counts, open_corpus, recordings_of
from command_line import EXIT_DONE, run
from config import LogLevel, ScriptConfig
from encoders import lazy_encoder
from features import FeatureSet, extract
from files import format_table
from metrics import equal_error_rate
from verification import (
    Conditions,
    SpeakerVerifier,
    all_pairs,
    as_norm,
    create_backend,
    cross_session,
    split_speakers,
)

ENCODERS = ("campplus", "resemblyzer", "scratch", "spectral")
CORPORA = ("dev-clean", "speechocean762", "open_voices")
# Backends are trained, and verifiers calibrated, on this corpus; if it is the test corpus, on half of its speakers.
TRAINING = "open_voices"
BACKENDS = ("cosine", "within", "plda")
RECORDINGS = (1, 3, 10)
DRAWS = 5
SPEAKERS = (5, 20)


@dataclass(frozen=True, kw_only=True)
class RealSpeechBenchmark(ScriptConfig):
    """Settings of the comparison."""

    data_dir: Path
    """Folder of the corpora."""
    scratch_weights: Path
    """Checkpoint for the encoder scratch."""
    features_dir: Path = Path("outputs/real_speech")
    """Folder for the features files, which are kept for the next run."""
    log_level: LogLevel = "error"
    """Lowest level of the messages that are logged."""


def main(config: RealSpeechBenchmark) -> int:
    """Print a table of each task."""
    identified, verified, open_set = [], [], []
    for encoder in ENCODERS:
        weights = config.scratch_weights if encoder == "scratch" else None
        corpora = {
            name: extract(
                open_corpus(config.data_dir, name),
                lazy_encoder(encoder, weights),
                config.features_dir / f"{name}_{encoder}.pt",
            )
            for name in CORPORA
        }
        for name, features in corpora.items():
            train, test = (corpora[TRAINING], features) if name != TRAINING else split_speakers(features)
            identified += identification(encoder, name, features)
            verified += verification(encoder, name, train=train, test=test)
            open_set += unknown_speakers(encoder, name, train=train, test=test)
    counts = [f"{count} rec." for count in RECORDINGS]
    print("Accuracy of the most similar model (cosine), by the number of recordings of each speaker:")
    print(format_table(["corpus", "encoder", "tested in", "speakers", *counts], identified, "<<<>" + ">" * len(counts)))
    print(f"EER, backends trained on {TRAINING} (on half of its speakers for {TRAINING} itself):")
    header = ["corpus", "encoder", "targets", *(f"{name}{end}" for name in BACKENDS for end in ("", " AS-norm"))]
    print(format_table(header, verified, "<<<" + ">" * (len(header) - 3)))
    print(f"Unknown speakers, verifiers trained on {TRAINING}, 3 recordings of each enrolled speaker:")
    header = ["corpus", "encoder", "backend", "speakers", "accepted %", "rejected %", "misnamed %"]
    print(format_table(header, open_set, "<<<>>>>"))
    return EXIT_DONE


def identification(encoder: str, name: str, features: FeatureSet) -> list[list[str]]:
    """Return lines with the accuracy in the sessions of the enrolment, and in other sessions if there are any."""
    corpus = recordings_of(features, create_backend("cosine"))
    lines = []
    for tested in ("any session", "other sessions"):
        ignores_sessions = tested == "any session"
        chosen = replace(corpus, sessions=corpus.speakers) if ignores_sessions else with_several_sessions(corpus)
        line = [name, encoder, tested, str(len(np.unique(chosen.speakers)))]
        for count in RECORDINGS:
            accuracies = []
            for seed in range(DRAWS):
                random = np.random.default_rng(seed)
                found = draw(chosen, random, n_speakers=None, n_recordings=count, enrolled=[0.0], compared=[0.0])
                if found is not None:
                    kept = found.is_used.all(axis=1) & found.is_target.any(axis=1)
                    best = found.scores[kept].argmax(axis=1)
                    accuracies.append(found.is_target[kept][np.arange(len(best)), best].mean())
            line.append(f"{100 * np.mean(accuracies):.1f}" if accuracies and not np.isnan(accuracies).any() else "")
        if any(line[4:]):
            lines.append(line)
    return lines


def with_several_sessions(corpus: Recordings) -> Recordings:
    """Return the rows of speakers with two or more sessions."""
    several = [
        speaker
        for speaker in np.unique(corpus.speakers)
        if len(np.unique(corpus.sessions[corpus.speakers == speaker])) > 1
    ]
    return corpus.select(np.isin(corpus.speakers, several))


def verification(encoder: str, name: str, *, train: FeatureSet, test: FeatureSet) -> list[list[str]]:
    """Return lines with the EER of each backend without and with AS-norm, for all targets and for other sessions."""
    trials = all_pairs(test)
    kinds: dict[str, NDArray[np.bool_]] = {"all": np.ones(len(trials), dtype=bool)}
    across = cross_session(trials, test)
    if (across & trials.labels.astype(bool)).any():
        kinds["other sessions"] = across | ~trials.labels.astype(bool)
    columns: dict[str, list[str]] = {kind: [name, encoder, kind] for kind in kinds}
    for backend_name in BACKENDS:
        backend = create_backend(backend_name).fit(train)
        scores = backend.score_trials(test, trials.first, trials.second)
        mapped, cohort = backend.embed(test.features.float()), backend.embed(train.features.float())
        normed = as_norm(backend, mapped, cohort, first=trials.first, second=trials.second, scores=scores)
        for each in (scores, normed):
            for kind, kept in kinds.items():
                columns[kind].append(f"{100 * equal_error_rate(trials.labels[kept], each[kept]):.1f}")
    return list(columns.values())


def unknown_speakers(encoder: str, name: str, *, train: FeatureSet, test: FeatureSet) -> list[list[str]]:
    """Return lines with the error rates of identification among enrolled speakers."""
    lines = []
    for backend_name in ("cosine", "plda"):
        verifier = SpeakerVerifier.train(train, backend_name)
        corpus = recordings_of(test, verifier.backend)
        for n_speakers in SPEAKERS:
            counts = np.zeros((2, 3))
            for seed in range(DRAWS):
                random = np.random.default_rng(seed)
                found = draw(corpus, random, n_speakers=n_speakers, n_recordings=3, enrolled=[0.0], compared=[0.0])
                if found is not None:
                    kept = found.is_used.all(axis=1)
                    llrs = verifier.calibration.llrs(found.scores[kept], Conditions(3))
                    counts += error_counts(verifier.open_set, llrs, found.is_target[kept])
            if counts[1].all():
                rates = [f"{100 * rate:.1f}" for rate in counts[0] / counts[1]]
                lines.append([name, encoder, backend_name, str(n_speakers), *rates])
    return lines


if __name__ == "__main__":
    run(RealSpeechBenchmark, main)
