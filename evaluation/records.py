"""The rows of a comparison, and their means over seeds."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

Record = dict[str, Any]

# What a row is about, and what was measured of it. The summary has a mean over seeds, and a deviation, of each measure.
KEYS = ("features", "encoder", "head", "scaler", "split_by")
MEASURES = (
    "val_accuracy", "val_log_loss", "test_accuracy", "test_macro_f1", "test_top3", "test_top5", "test_log_loss",
    "test_ece", "n_parameters", "seconds",
)  # fmt: skip


def key_of(record: Record) -> tuple[str, ...]:
    """Return what a row shares with those of other seeds."""
    return tuple(record[key] for key in KEYS)


def summarise(rows: Sequence[Record]) -> list[Record]:
    """Average the rows over their seeds: means, and population deviations under the name with ``_std``.

    The layer is the one that most seeds chose.
    """
    groups: dict[tuple[str, ...], list[Record]] = {}
    for row in rows:
        groups.setdefault(key_of(row), []).append(row)
    summary = []
    for group, members in groups.items():
        layer = Counter(row["layer"] for row in members).most_common(1)[0][0]
        record: Record = dict(zip(KEYS, group, strict=True)) | {
            "layer": layer,
            "seeds": [row["seed"] for row in members],
        }
        for measure in MEASURES:
            values = [float(row[measure]) for row in members]
            record |= {measure: float(np.mean(values)), f"{measure}_std": float(np.std(values))}
        summary.append(record)
    return summary


def rank_by_validation(summary: Sequence[Record], split_by: str) -> list[Record]:
    """Order the records of a protocol by validation accuracy, the best first.

    Small corpora often have equals: of those the one with the lowest validation log loss comes first. Records that lack
    seeds, because a head could not be fitted for all of them, come last.
    """
    asked = [record for record in summary if record["split_by"] == split_by]
    return sorted(
        asked, key=lambda record: (-len(record.get("seeds", ())), -record["val_accuracy"], record["val_log_loss"])
    )
