"""The rows of a comparison of heads, and their means over seeds."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from evaluation.table_columns import HEAD_COLUMNS
from files import Record

# Keys that identify the rows of one head and split; the figures of a row are those of `HEAD_COLUMNS`.
KEYS = ("features", "encoder", "head", "scaler", "split_by")


def key_of(record: Record) -> tuple[str, ...]:
    """Return the values of `KEYS`, which are the same in the rows of all seeds."""
    return tuple(record[key] for key in KEYS)


def summarise(rows: Sequence[Record]) -> list[Record]:
    """Average the rows over their seeds.

    Population standard deviations have ``_std`` after the name of the figure. The layer is the one that most seeds
    selected.
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
        for column in HEAD_COLUMNS:
            values = [float(row[column.key]) for row in members]
            record |= {column.key: float(np.mean(values)), f"{column.key}_std": float(np.std(values))}
        summary.append(record)
    return summary


def rank_by_validation(summary: Sequence[Record], split_by: str) -> list[Record]:
    """Sort the records of a split by validation, the best first.

    By utterance, the validation accuracy decides; ties, which are frequent on small corpora, are broken by the
    validation log loss. By session, the cross-validated log loss decides, since accuracies of few sessions are often
    equal. Records that lack seeds, because a head could not be fitted for all of them, come last.
    """

    def key(record: Record) -> tuple[float, ...]:
        accuracy = 0.0 if split_by == "session" else -record["val_accuracy"]
        return -len(record.get("seeds", ())), accuracy, record["val_log_loss"]

    return sorted((record for record in summary if record["split_by"] == split_by), key=key)


def describe_selection(sizes: Mapping[str, int]) -> str:
    """Return how the head was selected in words, from the sizes of the split (`SplitRows.sizes`)."""
    if "by_session" not in sizes:  # also in results of earlier versions, whatever the split
        return "selected by validation accuracy (ties broken by log loss)"
    return f"selected by cross-validated log loss {'over' if sizes['by_session'] else 'within known'} sessions"


def mean_by_layer(rows: Sequence[Record], encoder: str, split_by: str) -> list[Record]:
    """Return the means over seeds for each layer of an encoder, in the order of the layers.

    Figures that are None, as files have in place of NaN, or that an earlier version did not compute are NaN.
    """
    missing: Record = {column.key: math.nan for column in HEAD_COLUMNS}
    own = [
        missing | {key: value for key, value in row.items() if value is not None}
        for row in rows
        if row["encoder"] == encoder and row["split_by"] == split_by
    ]
    numbers = sorted({row["layer"] for row in own})
    return [summarise([row for row in own if row["layer"] == number])[0] for number in numbers]
