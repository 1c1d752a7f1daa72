"""Sentences about the figures of a comparison, each on a line of the terminal."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from encoders import corpora_with_speakers_of
from evaluation.outcome import Counts, Outcome
from evaluation.summary import key_of, rank_by_validation
from features import FeatureSet
from files import Record, count_of, format_percent
from heads import FittedHead, Head, ScikitLearnHead, WeightedHead, search_space
from metrics import difference_interval

# With fewer speakers no paired test can be significant at 5 %: equal signs for all five have a chance of 2 / 2^5.
MIN_SPEAKERS = 6
SIGNIFICANT, NOT_SIGNIFICANT, TOO_FEW = "significant", "not significant", "too few speakers to test"
# With fewer test utterances, one of them changes the accuracy by more than a point.
MIN_TESTS = 100

# Returns the numbers of correct predictions and of test utterances of each speaker, for a record of the summary.
CountsOf = Callable[[Record], Counts]


def describe_tuning(heads: Sequence[str], budget: int) -> list[str]:
    """State how many settings were tried for each head."""
    if budget == 1:
        return []
    fixed = [name for name in dict.fromkeys(heads) if name != "ensemble" and not search_space(name)]
    exceptions = f" (nothing to tune: {', '.join(fixed)})" if fixed else ""
    return [f"tuned: {budget} settings of each head{exceptions} on each split, selected by validation"]


def describe_unsaved(summary: Sequence[Record], best: Record, *, unsaved: Sequence[str]) -> list[str]:
    """Name the heads that are compared only, and those with a higher validation accuracy than the saved one."""
    compared = {record["head"] for record in summary if record["split_by"] == best["split_by"]}
    names = [name for name in unsaved if name in compared]
    if not names:
        return []
    verb = "is" if len(names) == 1 else "are"
    note = f"{', '.join(names)} {verb} compared only, not saved"
    if compared <= set(names):
        return [f"{note}: there is no classifier; add a head of this project, such as lda, to save one"]
    ranked = rank_by_validation(summary, best["split_by"])
    better = [record["head"] for record in ranked[: ranked.index(best)]]
    if better:
        above = ", ".join(dict.fromkeys(better))
        return [f"{note}; by validation, {above} would be selected before {best['head']}, which is saved"]
    return [note]


def describe_votes(heads: Mapping[str, Head]) -> list[str]:
    """Name the classifiers of scikit-learn that give no score for each speaker."""
    names = [name for name, head in heads.items() if isinstance(head, ScikitLearnHead) and not head.has_scores_]
    if not names:
        return []
    return [f"{', '.join(names)}: votes without scores, so top-3, top-5 and ECE mean little"]


def describe_runner_up(summary: Sequence[Record], best: Record, counts_of: CountsOf) -> list[str]:
    """Compare the test accuracy of the two heads that are best by validation."""
    ranked = rank_by_validation(summary, best["split_by"])
    if len(ranked) < 2 or ranked[1]["seeds"] != best["seeds"]:
        return []
    second = ranked[1]
    hits, counts = counts_of(best)
    other_hits, other_counts = counts_of(second)
    low, high = difference_interval(hits, counts, other_hits=other_hits, other_counts=other_counts)
    difference = 100 * (best["test_accuracy"] - second["test_accuracy"])
    return [
        f"{_name(best, second)} vs {_name(second, best)} (runner-up): {difference:+.1f} points on the test set "
        f"({_interval(low, high)}), {verdict(int((counts > 0).sum()), low, high)}"
    ]


def session_gap(summary: Sequence[Record], best: Record, counts_of: CountsOf) -> Record:
    """Compare the best head's accuracy in known and in new sessions, on the speakers that both splits test.

    Returns
    -------
    dict
        ``known`` and ``new`` (accuracy in known and in new sessions), ``low`` and ``high`` (95 % interval of their
        difference, from a bootstrap over speakers), ``n_speakers``, ``verdict``; empty without both splits.
    """
    alike = {record["split_by"]: record for record in summary if _without_split(record) == _without_split(best)}
    if len(alike) < 2:
        return {}
    hits, counts = counts_of(alike["utterance"])
    session_hits, session_counts = counts_of(alike["session"])
    tested = (counts > 0) & (session_counts > 0)
    if not tested.any():
        return {}
    low, high = difference_interval(
        hits[tested], counts[tested], other_hits=session_hits[tested], other_counts=session_counts[tested]
    )
    return {
        "known": float(hits[tested].sum() / counts[tested].sum()),
        "new": float(session_hits[tested].sum() / session_counts[tested].sum()),
        "low": low,
        "high": high,
        "n_speakers": int(tested.sum()),
        "verdict": verdict(int(tested.sum()), low, high),
    }


def describe_session_gap(gap: Record, best: Record, sizes: Mapping[str, Mapping[str, int]]) -> list[str]:
    """Describe the difference between the best head's accuracy in known and in new sessions."""
    if not gap:
        return []
    notes = [
        f"{best['head']}: {format_percent(gap['new'])} % in new sessions, {format_percent(gap['known'])} % in known "
        f"ones: session gap {100 * (gap['known'] - gap['new']):.1f} points ({_interval(gap['low'], gap['high'])}), "
        f"{gap['verdict']}"
    ]
    trained = [sizes[kind]["train"] for kind in ("session", "utterance")]
    if gap["low"] > 0 and trained[0] < 0.9 * trained[1]:
        notes.append(
            f"part of the gap may be due to fewer training utterances: {trained[0]} by session, "
            f"{trained[1]} by utterance"
        )
    return notes


def describe_layer_weights(members: Sequence[FittedHead]) -> list[str]:
    """Name the layers with the largest weights, for the heads that learn weights of layers."""
    notes = []
    for member in members:
        if isinstance(member.head, WeightedHead):
            weights = member.head.layer_weights_.tolist()
            layers = member.encoder.get("layers") or range(len(weights))
            largest = sorted(zip(weights, layers, strict=True), reverse=True)[:5]
            listing = ", ".join(f"{layer} ({100 * weight:.0f} %)" for weight, layer in largest)
            notes.append(f"largest layer weights of {member.name}: {listing}")
    return notes


def describe_few_rows(summary: Sequence[Record], n_free: int, dim: int) -> list[str]:
    """Warn of covariances that are estimated from few rows for their number of dimensions."""
    heads = [name for name in ("lda", "plda") if any(record["head"] == name for record in summary)]
    if not heads or n_free >= 2 * dim:
        return []
    return [
        f"{' and '.join(heads)}: a covariance of {dim} dimensions is estimated with only {n_free} degrees of freedom "
        "(training rows minus speakers), so it may be unreliable; try --head_options shrinkage=0.1"
    ]


def describe_perfect_test(outcomes: Sequence[Outcome]) -> list[str]:
    """State the error rate that a test without errors does not exclude, if utterances are independent."""
    n_tests = len(np.unique(np.concatenate([outcome.rows for outcome in outcomes])))
    if not n_tests or any((outcome.ranks > 0).any() for outcome in outcomes):
        return []
    bound = 100 * (1 - 0.05 ** (1 / n_tests))
    return [f"no errors in {n_tests} test utterances: the error rate may be up to {bound:.1f} % (95 % confidence)"]


def describe_small_test(best: Record, sizes: Mapping[str, Mapping[str, int]]) -> list[str]:
    """Warn of a test set so small that one utterance changes the accuracy much."""
    n_tests = sizes[best["split_by"]]["test"]
    if n_tests >= MIN_TESTS:
        return []
    return [f"small test set: one of its {n_tests} utterances changes the accuracy by {100 / n_tests:.1f} points"]


def describe_untested(untested: Mapping[str, Sequence[str]]) -> list[str]:
    """Name the speakers that a split does not test."""
    notes = []
    for kind, names in untested.items():
        if names:
            listing = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
            notes.append(f"not tested by the split by {kind}: {count_of(len(names), 'speaker')} ({listing})")
    return notes


def describe_seen_speakers(features: FeatureSet) -> list[str]:
    """Warn of speakers who trained the encoder, or of a corpus that did: on them, figures are optimistic.

    Where the encoder knows its speakers, these are compared: they are the same if they have the same name in a corpus
    of the same name.
    """
    corpora, speakers = (features.encoder.get(key) for key in ("trained_on", "trained_speakers"))
    if isinstance(corpora, list) and isinstance(speakers, list) and features.corpus in corpora:
        seen = sorted(set(features.speakers) & set(map(str, speakers)))
        if seen:
            listing = ", ".join(seen[:5]) + (", ..." if len(seen) > 5 else "")
            return [
                f"the encoder was trained on {len(seen)} of the {count_of(len(features.speakers), 'speaker')} of "
                f"{features.corpus} ({listing}), so the figures are optimistic; test it on other speakers"
            ]
    seen_in = ", ".join(corpora_with_speakers_of(features.corpus, features.encoder))
    if not seen_in:
        return []
    trained = "the pretrained weights of the encoder were" if isinstance(speakers, list) else "the encoder was"
    return [
        f"{trained} trained on {seen_in}, so the figures on {features.corpus} may be optimistic; test it on other "
        "speakers"
    ]


def _interval(low: float, high: float) -> str:
    return f"95 % CI {100 * low:.1f} to {100 * high:.1f}"


def verdict(n_speakers: int, low: float, high: float) -> str:
    """Return in words whether a difference with this 95 % interval, from `n_speakers` speakers, is significant."""
    if n_speakers < MIN_SPEAKERS:
        return TOO_FEW
    return SIGNIFICANT if low > 0 or high < 0 else NOT_SIGNIFICANT


def _without_split(record: Record) -> tuple[str, ...]:
    return key_of({**record, "split_by": ""})


def _name(record: Record, other: Record) -> str:
    """Name a record by the parts that differ from another."""
    return " on ".join(record[key] for key in ("head", "encoder") if record[key] != other[key])
