"""The result of a comparison, on the terminal and in files."""

import csv
import io
import json
import math
import platform
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import sklearn
import torch

from evaluation.table import format_table
from features import write_atomically, write_tensors
from heads import SpeakerClassifier

Record = dict[str, Any]

# What a row is about, and what was measured of it. The summary has a mean over seeds, and a deviation, of each measure.
KEYS = ("features", "encoder", "layer", "head", "scaler", "split_by")
SHARES = ("val_accuracy", "test_accuracy", "test_macro_f1", "test_top3", "test_top5")
MEASURES = (*SHARES, "val_log_loss", "n_parameters", "seconds")


def summarise(rows: list[Record]) -> list[Record]:
    """Average the rows over their seeds: means, and population deviations under the name with ``_std``."""
    groups: dict[tuple[Any, ...], list[Record]] = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in KEYS), []).append(row)
    summary = []
    for group, members in groups.items():
        record: Record = dict(zip(KEYS, group, strict=True)) | {"seeds": [row["seed"] for row in members]}
        for measure in MEASURES:
            values = [float(row[measure]) for row in members]
            record |= {measure: float(np.mean(values)), f"{measure}_std": float(np.std(values))}
        summary.append(record)
    return summary


def choose_best(summary: list[Record], split_by: str) -> Record:
    """Return the record with the highest validation accuracy among those of a protocol.

    Small corpora often have several: of those, the one with the lowest validation log loss.
    """
    asked = [record for record in summary if record["split_by"] == split_by]
    return max(asked, key=lambda record: (record["val_accuracy"], -record["val_log_loss"]))


@dataclass(frozen=True, eq=False)
class Comparison:
    """What `compare_heads` found.

    Attributes
    ----------
    rows : list of dict
        One for each head and seed; accuracies are fractions.
    summary : list of dict
        Means and deviations over the seeds.
    best : dict
        The summary's record with the highest validation accuracy (of equals, the lowest validation log loss).
    classifier : SpeakerClassifier
        The best head, fitted.
    untested : tuple of str
        Speakers without a test utterance.
    layers : list of dict
        Rows of the cheap head that chose a layer, one for each layer; empty where there was none to choose.
    """

    rows: list[Record]
    summary: list[Record]
    best: Record
    classifier: SpeakerClassifier
    untested: tuple[str, ...]
    layers: list[Record] = field(default_factory=list)

    @property
    def chosen_layer(self) -> int:
        """The layer that the cheap head did best on, by validation."""
        return int(choose_best(self.layers, self.layers[0]["split_by"])["layer"])

    def table(self) -> str:
        """Return the summary as a table in percent, the winner by validation marked with a star."""
        header = ["head", "val acc", "test acc", "macro-F1", "top-3", "top-5", "parameters", "seconds"]
        lines = []
        for record in self.summary:
            shares = [_percent(record[measure]) for measure in SHARES]
            mark = " *" if record is self.best else ""
            lines.append([record["head"] + mark, *shares, f"{record['n_parameters']:.0f}", f"{record['seconds']:.2f}"])
        notes = []
        if self.layers and any(record["layer"] is not None for record in self.summary):
            notes.append(f"heads of one vector were given layer {self.chosen_layer}, the best by validation")
        notes += ["* chosen by validation accuracy; shares in percent"]
        if self.untested:
            shown = ", ".join(self.untested[:5]) + (", ..." if len(self.untested) > 5 else "")
            notes.append(f"not tested: {len(self.untested)} speakers ({shown})")
        return "\n".join([format_table(header, lines, "<>>>>>>>"), *notes])

    def save(self, folder: Path, corpus: str, command: str) -> list[Path]:
        """Write ``metrics.json``, ``metrics.csv``, the classifier and its scaler; returns the paths.

        Raises
        ------
        OutputError
            The folder cannot be written.
        """
        content = {
            "rows": self.rows,
            "summary": self.summary,
            "best": self.best,
            **({"layers": self.layers} if self.layers else {}),
            "command": command,
            "versions": _versions(),
        }
        text = json.dumps(_without_nan(content), indent=2, allow_nan=False)
        table = io.StringIO()
        writer = csv.DictWriter(table, list(self.rows[0]))
        writer.writeheader()
        writer.writerows(_without_nan(self.rows))
        return [
            self.classifier.save(folder / f"speaker_classifier_{corpus}.pt"),
            write_tensors(folder / f"{corpus}_scaler.pt", self.classifier.scaler.state_dict()),
            write_atomically(folder / "metrics.json", lambda file: file.write(text.encode())),
            write_atomically(folder / "metrics.csv", lambda file: file.write(table.getvalue().encode())),
        ]


def _percent(share: float) -> str:
    return "-" if math.isnan(share) else f"{100 * share:.2f}"


def _without_nan(value: Any) -> Any:
    """Replace NaN, which JSON does not know, by None."""
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def _versions() -> dict[str, str]:
    return {
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "numpy": np.__version__,
        "scikit-learn": sklearn.__version__,
    }
