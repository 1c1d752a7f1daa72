"""Paired differences of test accuracy: the selected head against the others, and encoders against each other."""

import math
from collections.abc import Iterable, Sequence
from itertools import combinations

from evaluation.notes import CountsOf, verdict
from evaluation.summary import rank_by_validation
from files import Record
from metrics import difference_interval

# With more encoders than this, only the best one is compared with the others.
MAX_ENCODERS_IN_PAIRS = 4


def head_differences(summary: Sequence[Record], best: Record, counts_of: CountsOf) -> list[Record]:
    """Compare the selected head with each other one, of the same split and with the same seeds, best ones first.

    Returns
    -------
    list of dict
        ``head`` and ``encoder`` of the first one, ``other_head`` and ``other_encoder``, ``split_by``, ``difference``
        (test accuracy of the first minus that of the other, a fraction), ``low`` and ``high`` (its 95 % interval from a
        paired bootstrap over speakers), ``n_speakers``, ``verdict``; empty without a test set.
    """
    others = [record for record in rank_by_validation(summary, best["split_by"]) if record is not best]
    return _differences(((best, other) for other in others), counts_of)


def encoder_differences(summary: Sequence[Record], best: Record, counts_of: CountsOf) -> list[Record]:
    """Compare the encoders, each with its best head by validation: all pairs, or the best with each if there are many.

    Returns
    -------
    list of dict
        As `head_differences`; empty if there is one encoder.
    """
    # An ensemble of several encoders is none of them.
    single = [record for record in summary if " + " not in record["encoder"]]
    ranked = rank_by_validation(single, best["split_by"])
    # The first record of each encoder; the selected one is the first of all.
    first = {record["encoder"]: record for record in reversed([best, *ranked])}
    firsts = sorted(first.values(), key=lambda record: -1 if record is best else ranked.index(record))
    pairs = list(combinations(firsts, 2))
    if len(firsts) > MAX_ENCODERS_IN_PAIRS:
        pairs = [pair for pair in pairs if pair[0] is best]
    return _differences(pairs, counts_of)


def describe_encoders(differences: Sequence[Record]) -> list[str]:
    """Describe the differences between encoders."""
    return [
        f"{found['head']} on {found['encoder']} vs {found['other_head']} on {found['other_encoder']}: "
        f"{100 * found['difference']:+.1f} points on the test set (95 % CI {100 * found['low']:.1f} to "
        f"{100 * found['high']:.1f}), {found['verdict']}"
        for found in differences
    ]


def _differences(pairs: Iterable[tuple[Record, Record]], counts_of: CountsOf) -> list[Record]:
    found = []
    for one, other in pairs:
        difference = one["test_accuracy"] - other["test_accuracy"]
        if math.isnan(difference) or one["seeds"] != other["seeds"]:
            continue
        hits, counts = counts_of(one)
        other_hits, other_counts = counts_of(other)
        low, high = difference_interval(hits, counts, other_hits=other_hits, other_counts=other_counts)
        n_speakers = int((counts > 0).sum())
        names = {"head": one["head"], "encoder": one["encoder"]}
        names |= {"other_head": other["head"], "other_encoder": other["encoder"], "split_by": one["split_by"]}
        figures = {"difference": difference, "low": low, "high": high, "n_speakers": n_speakers}
        found.append({**names, **figures, "verdict": verdict(n_speakers, low, high)})
    return found
