"""What the figures of a comparison mean, in sentences that a line of 100 columns holds."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from evaluation.outcome import Counts, Outcome
from evaluation.records import Record, key_of, rank_by_validation
from heads import HEADS, FittedHead
from heads.registry import search_space
from heads.weighted import WeightedHead
from metrics import difference_interval

# Speakers below which no paired test of two sides can come out at 5 %: one sign for all has a chance of 2 / 2^5.
FEWEST_SPEAKERS = 6
MORE, NO_MORE, TOO_FEW = "more than chance", "no more than chance", "too few speakers to tell"
# Test utterances below which one answer moves the accuracy by more than a point.
FEWEST_TESTS = 100

# From a record of the summary to the right answers and the test utterances of each speaker.
CountsOf = Callable[[Record], Counts]


def about_tuning(heads: Sequence[str], budget: int) -> list[str]:
    """State the settings that each head was given to choose from."""
    if budget == 1:
        return []
    fixed = [name for name in dict.fromkeys(heads) if name in HEADS and not search_space(name)]
    but = f" (nothing to tune: {', '.join(fixed)})" if fixed else ""
    return [f"tuned: {budget} settings of each head{but} on each split, chosen by validation"]


def about_second_best(summary: Sequence[Record], best: Record, counts_of: CountsOf) -> list[str]:
    """Say whether the two best heads by validation differ on the test by more than chance."""
    ranked = rank_by_validation(summary, best["split_by"])
    if len(ranked) < 2 or ranked[1]["seeds"] != best["seeds"]:
        return []
    second = ranked[1]
    hits, counts = counts_of(best)
    low, high = difference_interval(hits, counts, *counts_of(second))
    verdict = _verdict(int((counts > 0).sum()), low, high)
    return [
        f"{_name(best, second)} against {_name(second, best)}, the second best: "
        f"{_points(best['test_accuracy'] - second['test_accuracy'])} on the test "
        f"({_points(low)} to {_points(high)}), {verdict}"
    ]


def session_gap(summary: Sequence[Record], best: Record, counts_of: CountsOf) -> Record:
    """Measure how much of the best head's accuracy was the session, on the speakers that both splits test.

    Returns
    -------
    dict
        ``known`` and ``new`` (accuracies), ``low`` and ``high`` (95 % interval of their difference, by drawing the
        speakers again), ``n_speakers``, ``verdict``; empty where there are not both splits.
    """
    alike = {record["split_by"]: record for record in summary if _without_split(record) == _without_split(best)}
    if len(alike) < 2:
        return {}
    hits, counts = counts_of(alike["utterance"])
    session_hits, session_counts = counts_of(alike["session"])
    tested = (counts > 0) & (session_counts > 0)
    if not tested.any():
        return {}
    low, high = difference_interval(hits[tested], counts[tested], session_hits[tested], session_counts[tested])
    return {
        "known": float(hits[tested].sum() / counts[tested].sum()),
        "new": float(session_hits[tested].sum() / session_counts[tested].sum()),
        "low": low,
        "high": high,
        "n_speakers": int(tested.sum()),
        "verdict": _verdict(int(tested.sum()), low, high),
    }


def about_sessions(gap: Record, best: Record, sizes: Mapping[str, Mapping[str, int]]) -> list[str]:
    """Say how much of the best head's accuracy was the session."""
    if not gap:
        return []
    notes = [
        f"{best['head']}: {100 * gap['known']:.1f} in known sessions, {100 * gap['new']:.1f} in new ones: "
        f"{_points(gap['known'] - gap['new'])} ({_points(gap['low'])} to {_points(gap['high'])}), {gap['verdict']}"
    ]
    trained = [sizes[kind]["train"] for kind in ("session", "utterance")]
    if gap["low"] > 0 and trained[0] < 0.9 * trained[1]:
        notes.append(f"by session {trained[0]} utterances train instead of {trained[1]}, which may be some of it")
    return notes


def about_layer_shares(members: Sequence[FittedHead]) -> list[str]:
    """Tell which layers the heads that learned it weigh most."""
    notes = []
    for member in members:
        if isinstance(member.head, WeightedHead):
            shares = member.head.layer_weights_.tolist()
            layers = member.encoder.get("layers") or range(len(shares))
            most = sorted(zip(shares, layers, strict=True), reverse=True)[:5]
            listing = ", ".join(f"{layer} {100 * share:.0f} %" for share, layer in most)
            notes.append(f"{member.name} weighs most the layers {listing}")
    return notes


def about_few_rows(summary: Sequence[Record], n_free: int, dim: int) -> list[str]:
    """Warn of covariances of more dimensions than there are rows to learn them from."""
    heads = [name for name in ("lda", "plda") if any(record["head"] == name for record in summary)]
    if not heads or n_free >= 2 * dim:
        return []
    return [f"{' and '.join(heads)} learned {dim} dimensions from {n_free} rows: try --head_options shrinkage=0.1"]


def about_no_mistake(outcomes: Sequence[Outcome]) -> list[str]:
    """Say which error rate a test without a mistake leaves open, if utterances were independent."""
    n_tests = len(np.unique(np.concatenate([outcome.rows for outcome in outcomes])))
    if not n_tests or any((outcome.ranks > 0).any() for outcome in outcomes):
        return []
    bound = 100 * (1 - 0.05 ** (1 / n_tests))
    return [f"no mistake in {n_tests} test utterances: at 95 % confidence up to {bound:.1f} % of such may be wrong"]


def about_small_tests(best: Record, sizes: Mapping[str, Mapping[str, int]]) -> list[str]:
    """Warn of a test in which one answer weighs much."""
    n_tests = sizes[best["split_by"]]["test"]
    if n_tests >= FEWEST_TESTS:
        return []
    return [f"a small test: each of its {n_tests} utterances is {100 / n_tests:.1f} points of the accuracy"]


def _verdict(n_speakers: int, low: float, high: float) -> str:
    if n_speakers < FEWEST_SPEAKERS:
        return TOO_FEW
    return MORE if low > 0 or high < 0 else NO_MORE


def _without_split(record: Record) -> tuple[str, ...]:
    return key_of({**record, "split_by": ""})


def _name(record: Record, other: Record) -> str:
    """Name a record by what it does not share with another."""
    return " of ".join(record[key] for key in ("head", "encoder") if record[key] != other[key])


def _points(share: float) -> str:
    return f"{100 * share:+.1f}"
