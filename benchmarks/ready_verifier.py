"""Calibrate the ready verifier on several corpora, and test it on each corpus that is left out in turn.

python benchmarks/ready_verifier.py --data_dir DATA --write

DATA holds LibriSpeech/dev-clean, LibriSpeech/train-clean-100, speechocean762, ami_clips and open_voices/manifest.csv.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from numpy.typing import NDArray

from audio import span_seconds
from benchmarks.enrolment_draws import (
    DRAWS,
    MIN_OPEN_SET,
    WHOLE,
    Draw,
    Recordings,
    Trials,
    draw,
    error_counts,
    figures,
    flatten,
    join,
    open_corpus,
    open_set_draws,
    recordings_of,
)
from command_line import EXIT_DONE, run
from config import LogLevel, ScriptConfig
from corpora import Corpus
from encoders import lazy_encoder
from features import FeatureSet, extract, learned_bandwidth
from files import VERSION, format_table
from metrics import cllr
from verification import (
    Calibration,
    Conditions,
    ScoreHistogram,
    SelfCalibration,
    SpeakerVerifier,
    UnknownScores,
    create_backend,
)
from verification.verifier import READY

# Lengths of the parts of recordings that are embedded besides the whole recordings (seconds).
LENGTHS = (0.5, 1.0, 2.0, 3.0, 5.0, 10.0)
RECORDINGS = (1, 3, 10)
# Corpora that are left out in turn. LibriSpeech's train-clean-100 has one recording for each speaker, so it gives pairs
# of different speakers only, and is left out together with dev-clean.
CORPORA = ("open_voices", "speechocean762", "dev-clean", "AMI")
# Share of the difference between the scores of different speakers that shifts the calibration, and number of speakers
# with which half of it is used, from a search over a few values on corpora that were left out.
SHARE, PRIOR_SPEAKERS = 0.5, 10.0
# Subtracted from the log-likelihood ratio of enrolled against unknown speakers. Without it, the ratio is too high on
# some corpora that were left out, and more than 3 % of the recordings of unknown speakers are accepted.
MARGIN = 1.5
# False-accept rates in the table of identification.
FALSE_ACCEPT_RATES = (0.01, 0.05)
# Numbers of enrolled speakers.
SPEAKERS = (5, 20, 100)
# Maximum number of trials of a corpus with one number of recordings and two lengths; all targets are used.
MAX_NONTARGETS = 4_000


@dataclass(frozen=True, kw_only=True)
class ReadyVerifierBenchmark(ScriptConfig):
    """Settings of the calibration."""

    data_dir: Path
    """Folder of the corpora."""
    features_dir: Path = Path("outputs/ready_verifier")
    """Folder for the features files, which are kept for the next run."""
    write: bool = False
    """Write the calibration on all corpora into the repository."""
    log_level: LogLevel = "error"
    """Lowest level of the messages that are logged."""


BACKEND = create_backend("cosine")


def main(config: ReadyVerifierBenchmark) -> int:
    """Print how well the calibration fits each corpus that was left out, and write the calibration on all."""
    corpora = {name: read_corpus(config, name) for name in (*CORPORA, "train-clean-100")}
    trials = {name: draw_trials(corpus, seed=1) for name, corpus in corpora.items()}
    pair_lines, length_lines, open_lines, errors = [], [], [], []
    for name in CORPORA:
        calibrated_on = [other for other in CORPORA if other not in (name, "AMI")]
        verifier = calibrate({other: trials[other] for other in names_of(calibrated_on)}, corpora, calibrated_on)
        own = Calibration.fit(trials[name].labels, trials[name].scores, trials[name].conditions, groups=0)
        lines, rates = pair_table(name, verifier, own=own, corpus=corpora[name])
        pair_lines += lines
        errors.append(rates)
        length_lines += length_table(name, verifier, trials[name])
        open_lines += open_set_table(name, verifier, corpora[name])
    print("Scores against one speaker, by the number of enrolled speakers whose scores adapt the calibration:")
    header = ["corpus left out", "speakers", "Cllr", "min Cllr", "own Cllr", "EER %", "false acc. %", "false rej. %"]
    print(format_table(header, pair_lines, "<>>>>>>>"))
    print("The same without adaptation, by the length of the compared recording and the number of recordings:")
    header = ["corpus left out", "seconds", "recordings", "targets", "Cllr", "min Cllr", "EER %", "acc. %", "rej. %"]
    print(format_table(header, length_lines, "<>>>>>>>>"))
    print(
        "Identification, 3 recordings of at least 3 s for each speaker, with the default prior or a false-accept rate:"
    )
    header = ["corpus left out", "speakers", "flag", "unknown accepted %", "enrolled rejected %", "misnamed %"]
    print(format_table(header, open_lines, "<><>>>"))
    if config.write:
        calibrated_on = [name for name in CORPORA if name != "AMI"]
        names = names_of(calibrated_on)
        verifier = calibrate({name: trials[name] for name in names}, corpora, calibrated_on)
        verifier.training["bandwidth"] = narrowest_bandwidth([features_path(config, name) for name in names])
        verifier.training["errors"] = errors
        verifier.training["score_histogram"] = pair_histogram(verifier, [trials[name] for name in names]).content()
        READY.write_text(json.dumps({**verifier.content(), "created_with": {"voxprobe": VERSION}}, indent=1) + "\n")
        print(f"Saved {READY.name}")
    return EXIT_DONE


def names_of(corpora: Sequence[str]) -> list[str]:
    """Return the names of the corpora with train-clean-100, which belongs to dev-clean."""
    return [*corpora, *(["train-clean-100"] if "dev-clean" in corpora else [])]


def read_corpus(config: ReadyVerifierBenchmark, name: str) -> Recordings:
    """Embed a corpus: whole recordings, and one part of each length at a random place."""
    corpus = open_corpus(config.data_dir, name)
    random, parts, origin = np.random.default_rng(0), [], {}
    for number, whole in enumerate(corpus):
        total = span_seconds(whole.path, whole.start, whole.duration, channel=whole.channel)
        origin[whole.id] = (number, WHOLE)
        parts.append(whole)
        for length in LENGTHS:
            if total > 1.05 * length:
                start = round(whole.start + random.uniform(0, total - length), 2)
                part = replace(whole, start=start, duration=length)
                origin[part.id] = (number, length)
                parts.append(part)
    embedded = Corpus(tuple(parts), corpus.root, name)
    features = extract(embedded, lazy_encoder("campplus"), features_path(config, name))
    return recordings_of(features, BACKEND, origin)


def features_path(config: ReadyVerifierBenchmark, name: str) -> Path:
    """Return the path of the features file of a corpus."""
    return config.features_dir / f"{name}.pt"


def narrowest_bandwidth(paths: Sequence[Path]) -> float | None:
    """Return the bandwidth of the corpus with the narrowest recordings (Hz)."""
    widths = [learned_bandwidth(FeatureSet.load(path)) for path in paths]
    return min((width for width in widths if width is not None), default=None)


def draw_trials(corpus: Recordings, seed: int) -> Trials:
    """Compare recordings of all lengths with models of whole recordings and of 3 s, by numbers of recordings."""
    random, parts = np.random.default_rng(seed), []
    for n_recordings in RECORDINGS:
        for enrolled in (WHOLE, 3.0):
            for compared in (WHOLE, *LENGTHS):
                found = draw(
                    corpus, random, n_speakers=None, n_recordings=n_recordings, enrolled=[enrolled], compared=[compared]
                )
                if found is not None:
                    parts.append(flatten(found, random, MAX_NONTARGETS))
    return join(parts)


def calibrate(
    trials: dict[str, Trials], corpora: dict[str, Recordings], calibrated_on: Sequence[str]
) -> SpeakerVerifier:
    """Learn the calibration, the expected scores of different speakers, and the detection of unknown speakers."""
    joined = join(list(trials.values()))
    # train-clean-100 is in the group of dev-clean: it has no targets of its own.
    owners = {name: calibrated_on.index("dev-clean" if name == "train-clean-100" else name) for name in trials}
    groups = np.concatenate([np.full(len(each.labels), owners[name]) for name, each in trials.items()])
    calibration = Calibration.fit(joined.labels, joined.scores, joined.conditions, groups=groups)
    self_calibration = fit_self_calibration(joined, groups)
    verifier = SpeakerVerifier(
        backend=BACKEND,
        calibration=calibration,
        open_set=Calibration(1.0, 0.0),
        encoder=lazy_encoder("campplus").spec,
        crop=None,
        training={
            "corpus": ", ".join(names_of(calibrated_on)),
            "backend": "cosine",
            "trained_on": [],
            "calibrated_on": [],
            "most_speakers": max(SPEAKERS),
        },
        self_calibration=self_calibration,
    )
    open_set, unknown_scores = fit_open_set(verifier, [corpora[name] for name in calibrated_on])
    return replace(verifier, open_set=open_set, unknown_scores=unknown_scores)


def pair_histogram(verifier: SpeakerVerifier, trials: Sequence[Trials]) -> ScoreHistogram:
    """Return the histogram of the calibration trials that compare two recordings, with the ratios of `verify`."""
    joined = join(trials)
    kept = np.asarray(joined.conditions.counts) == 1
    seconds = [np.asarray(each)[kept] for each in (joined.conditions.enrolled_seconds, joined.conditions.seconds)]
    return ScoreHistogram.measure(joined.labels[kept], verifier.calibration.pair_llrs(joined.scores[kept], *seconds))


def fit_self_calibration(trials: Trials, groups: NDArray[np.int64]) -> SelfCalibration:
    """Learn the expected scores of different speakers, with the same weight for each corpus."""
    kept = ~trials.labels
    weights = 1 / np.bincount(groups[kept])[groups[kept]]
    conditions = Conditions(
        *(np.asarray(getattr(trials.conditions, name))[kept] for name in ("counts", "enrolled_seconds", "seconds"))
    )
    return SelfCalibration.fit(
        trials.scores[kept], conditions, weights=weights, share=SHARE, prior_speakers=PRIOR_SPEAKERS
    )


def fit_open_set(verifier: SpeakerVerifier, corpora: Sequence[Recordings]) -> tuple[Calibration, UnknownScores]:
    """Learn the log-likelihood ratio of enrolled against unknown speakers from the highest ratio of a recording.

    Measure it for recordings of unknown speakers, on the corpus where it is highest.
    """
    is_known, best, n_speakers, groups = [], [], [], []
    for number, corpus in enumerate(corpora):
        for found in open_set_draws(corpus, (1, 2, *SPEAKERS), RECORDINGS, seed=2):
            known, llrs, _ = identify(verifier, found)
            is_known.append(known)
            best.append(llrs.max(1))
            n_speakers.append(np.full(len(llrs), llrs.shape[1]))
            groups.append(np.full(len(llrs), 1000 * number + llrs.shape[1]))
    is_target, conditions = np.concatenate(is_known), Conditions(np.concatenate(n_speakers))
    fitted = Calibration.fit(is_target, np.concatenate(best), conditions, groups=np.concatenate(groups))
    open_set = replace(fitted, offset=fitted.offset - MARGIN)
    of_all, owner = open_set.llrs(np.concatenate(best), conditions), np.concatenate(groups) // 1000
    parts = []
    for number, corpus in enumerate(corpora):
        kept = ~is_target & (owner == number)
        parts.append(UnknownScores.measure(of_all[kept], np.asarray(conditions.counts)[kept], n_long(corpus)))
    return open_set, UnknownScores.highest(parts)


def n_long(corpus: Recordings) -> int:
    """Return the number of recordings that `open_set_draws` uses."""
    return len(np.unique(corpus.recordings[corpus.seconds >= MIN_OPEN_SET]))


def identify(
    verifier: SpeakerVerifier, found: Draw
) -> tuple[NDArray[np.bool_], NDArray[np.float64], NDArray[np.bool_]]:
    """Return which probes are of enrolled speakers (n,), the log-likelihood ratios (n, N) and the targets (n, N).

    The calibration is adapted as a store adapts it. Probes that cannot be compared with their own speaker are left out.
    """
    kept = np.asarray(found.is_used.all(axis=1))
    llrs = adapted(verifier, found).llrs(found.scores, found.conditions)[kept]
    is_target = found.is_target[kept]
    return np.asarray(is_target.any(axis=1)), llrs, is_target


def adapted(verifier: SpeakerVerifier, found: Draw) -> Calibration:
    """Return the calibration of a store that holds the enrolled speakers of a draw."""
    assert verifier.self_calibration is not None
    n_speakers = found.scores.shape[1]
    shift = verifier.self_calibration.shift(found.own_scores, found.own_conditions, n_speakers=n_speakers)
    return verifier.calibration.shifted(shift)


def pair_table(
    name: str, verifier: SpeakerVerifier, *, own: Calibration, corpus: Recordings
) -> tuple[list[list[str]], dict[str, Any]]:
    """Return lines for 0, 5, 20 and 100 enrolled speakers, and the error rates for 0, which are without adaptation."""
    lines: list[list[str]] = []
    rates: dict[str, Any] = {}
    for n_speakers in (0, *SPEAKERS):
        random = np.random.default_rng(3)
        labels, llrs, own_llrs = [], [], []
        for _ in range(DRAWS if n_speakers else 1):
            for n_recordings in RECORDINGS:
                found = draw(
                    corpus,
                    random,
                    n_speakers=n_speakers or None,
                    n_recordings=n_recordings,
                    enrolled=(WHOLE, 3.0),
                    compared=(WHOLE, *LENGTHS[1:]),
                )
                if found is None:
                    continue
                trials = flatten(found, random, 20_000)
                calibration = adapted(verifier, found) if n_speakers else verifier.calibration
                labels.append(trials.labels)
                llrs.append(calibration.llrs(trials.scores, trials.conditions))
                own_llrs.append(own.llrs(trials.scores, trials.conditions))
        if labels and np.concatenate(labels).any():
            is_target = np.concatenate(labels)
            cost, least, eer, accepted, rejected = figures(is_target, np.concatenate(llrs))
            rates = rates or {"corpus": name, "false_accept": accepted, "miss": rejected, "eer": eer}
            own_cost = cllr(is_target, np.concatenate(own_llrs))
            shares = [f"{100 * share:.1f}" for share in (eer, accepted, rejected)]
            lines.append([name, str(n_speakers), *(f"{value:.3f}" for value in (cost, least, own_cost)), *shares])
    return lines, rates


def length_table(name: str, verifier: SpeakerVerifier, trials: Trials) -> list[list[str]]:
    """Return lines by the length of the compared recording and the number of enrolment recordings."""
    lines = []
    counts, seconds = np.asarray(trials.conditions.counts), np.asarray(trials.conditions.seconds)
    llrs = verifier.calibration.llrs(trials.scores, trials.conditions)
    for length in (0.5, 1.0, 2.0, 5.0, 10.0):
        for n_recordings in RECORDINGS:
            kept = (np.abs(seconds - length) < 0.02) & (counts == n_recordings)
            n_targets = int(trials.labels[kept].sum())
            if n_targets >= 20:
                cost, least, *shares = figures(trials.labels[kept], llrs[kept])
                values = [f"{cost:.3f}", f"{least:.3f}", *(f"{100 * share:.1f}" for share in shares)]
                lines.append([name, f"{length:g}", str(n_recordings), str(n_targets), *values])
    return lines


def open_set_table(name: str, verifier: SpeakerVerifier, corpus: Recordings) -> list[list[str]]:
    """Return lines by the number of enrolled speakers and the flag that sets the threshold."""
    lines = []
    for n_speakers in SPEAKERS:
        rates = {f"--far {far:g}": verifier.prior_for(far, n_speakers) for far in FALSE_ACCEPT_RATES}
        priors = {"--p_known 0.5": 0.5} | rates
        draws = [identify(verifier, found) for found in open_set_draws(corpus, (n_speakers,), (3,), seed=4)]
        for flag, p_known in priors.items():
            counts = np.zeros((2, 3))
            for _, llrs, is_target in draws:
                counts += error_counts(verifier.open_set, llrs, is_target, p_known=p_known)
            if counts[1].all():
                shares = [f"{100 * share:.1f}" for share in counts[0] / counts[1]]
                lines.append([name, str(n_speakers), flag, *shares])
    return lines


if __name__ == "__main__":
    run(ReadyVerifierBenchmark, main)
