"""The result of a comparison, on the terminal and in files."""

import csv
import hashlib
import io
import json
import math
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import sklearn
import torch

from evaluation.layer_curve import mean_by_layer
from evaluation.notes import (
    about_layer_shares,
    about_no_mistake,
    about_second_best,
    about_sessions,
    about_small_tests,
    about_tuning,
    session_gap,
)  # fmt: skip
from evaluation.open_set import about_strangers
from evaluation.outcome import Counts, Outcome, by_speaker, confusion, per_speaker
from evaluation.records import Record, key_of, rank_by_validation
from evaluation.table import WIDTH, format_notes, format_table, shorten
from features import FeatureSet, write_atomically, write_tensors
from heads import SpeakerClassifier
from metrics import ratio_interval

# What the report draws; layers are drawn for each encoder.
PICTURES = re.compile(r"(confusion|speakers|calibration|learning_curves|embedding_map|layer_curve(_\d+)?)\.png")

Outcomes = Mapping[tuple[str, ...], Sequence[Outcome]]


@dataclass(frozen=True, eq=False)
class Comparison:
    """What `compare_heads` found.

    Attributes
    ----------
    rows : list of dict
        One for each encoder, head, split and seed; accuracies are fractions.
    summary : list of dict
        Means and deviations over the seeds, and the 95 % interval of the accuracy, by drawing the speakers again.
    best : dict
        The summary's record with the highest validation accuracy (of equals, the lowest validation log loss) by the
        split asked for.
    classifier : SpeakerClassifier
        The best, fitted by the first seed's split.
    speakers : tuple of str
    outcomes : dict
        By `key_of` a summary's record, the answers to the test rows, one for each seed.
    sizes : dict
        By split, the numbers of utterances for ``train``, ``validation`` and ``test``, of the first seed.
    leaks : list of str
        What the test could know of the training besides the voices.
    untested : dict
        By split, the speakers without a test utterance, of the first seed.
    layers : list of dict
        Rows of the cheap head that chose a layer, one for each layer; empty where there was none to choose.
    tuned : int
        Settings that were tried of each head.
    open_set : dict
        How well the classifier tells strangers (`evaluation.open_set.Rejection`); empty where nobody could be left out.
    ids : sequence of str
        Utterances, by the rows of the outcomes.
    curves : dict
        By head, what was measured of each epoch of the first split.
    origins : list of dict
        Of each encoder its spec, the number of utterances, and a digest of all their audio.
    """

    rows: list[Record]
    summary: list[Record]
    best: Record
    classifier: SpeakerClassifier
    speakers: tuple[str, ...]
    outcomes: Outcomes
    sizes: Mapping[str, Mapping[str, int]]
    leaks: Sequence[str] = ()
    untested: Mapping[str, Sequence[str]] = field(default_factory=dict)
    layers: list[Record] = field(default_factory=list)
    tuned: int = 1
    open_set: Record = field(default_factory=dict)
    ids: Sequence[str] = ()
    curves: Mapping[str, Sequence[Mapping[str, float]]] = field(default_factory=dict)
    origins: Sequence[Record] = ()

    def layer_records(self, encoder: str) -> list[Record]:
        """Return the means over seeds of an encoder's layers, by the split asked for, in the order of the layers."""
        return mean_by_layer(self.layers, encoder, self.best["split_by"])

    def chosen_layer(self, encoder: str) -> int:
        """Return the layer that the cheap head did best on, by validation, over all seeds."""
        return int(rank_by_validation(self.layer_records(encoder), self.best["split_by"])[0]["layer"])

    @cached_property
    def session_gap(self) -> Record:
        """How much of the best head's accuracy was the session, as `evaluation.notes.session_gap` says it."""
        if math.isnan(self.best["test_accuracy"]):
            return {}
        return session_gap(self.summary, self.best, self._counts)

    @cached_property
    def notes(self) -> list[str]:
        """What one has to know beside the table, in sentences."""
        notes = ["* chosen by validation accuracy, of equals by log loss; in percent, 95 % intervals over speakers"]
        notes += [
            f"heads of one vector of {encoder} were given layer {self._layers_of(encoder)}"
            for encoder in dict.fromkeys(record["encoder"] for record in self.layers)
        ]
        notes += about_layer_shares(self.classifier.members)
        notes += about_tuning([row["head"] for row in self.rows], self.tuned)
        if self.tuned > 1:
            chosen = next(row["settings"] for row in self.rows if key_of(row) == key_of(self.best))
            notes.append(f"{self.best['head']} by the first split: {chosen}")
        if not math.isnan(self.best["test_accuracy"]):
            notes += about_second_best(self.summary, self.best, self._counts)
            notes += about_sessions(self.session_gap, self.best, self.sizes)
            notes += about_small_tests(self.best, self.sizes)
            notes += about_no_mistake(self.outcomes[key_of(self.best)])
        notes += about_strangers(self.open_set)
        notes += self.leaks
        for kind, names in self.untested.items():
            if names:
                shown = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
                notes.append(f"not tested by {kind}: {len(names)} speaker{'s' * (len(names) > 1)} ({shown})")
        return notes

    def table(self) -> str:
        """Return the summary as a table in percent, the winner by validation marked with a star, and the notes."""
        header = ["head", "val acc", "test acc", "95 % interval", "macro-F1", "top-3", "top-5", "ECE", "seconds"]
        lines: list[list[str]] = []
        sections: dict[int, str] = {}
        # By split and encoder; within these as they came.
        order = [list(dict.fromkeys(record[key] for record in self.summary)) for key in ("split_by", "encoder")]
        for record in sorted(
            self.summary, key=lambda record: (order[0].index(record["split_by"]), order[1].index(record["encoder"]))
        ):
            section = self._section(record)
            if section not in sections.values():
                sections[len(lines)] = section
            lines.append(self._line(record))
        table = format_table(header, lines, "<>>>>>>>>", sections)
        return f"{table}\n{format_notes(self.notes)}"

    def _section(self, record: Record) -> str:
        sizes = self.sizes[record["split_by"]]
        train = f"{sizes['train']} train, {sizes['validation']} validation"
        if sizes["shared"]:
            train = f"{sizes['train']} train, of them {sizes['validation']} validation first"
        counts = f"{train}, {sizes['test']} test utterances"
        label = f", by {record['split_by']}: {counts}]"
        return f"[{shorten(record['encoder'], WIDTH - 1 - len(label))}{label}"

    def _line(self, record: Record) -> list[str]:
        interval = f"{_percent(record['test_accuracy_low'], 1)} - {_percent(record['test_accuracy_high'], 1)}"
        return [
            record["head"] + (" *" if record is self.best else ""),
            _with_deviation(record, "val_accuracy"),
            _with_deviation(record, "test_accuracy"),
            interval if self.sizes[record["split_by"]]["test"] else "-",
            *(_percent(record[name]) for name in ("test_macro_f1", "test_top3", "test_top5")),
            _percent(record["test_ece"], 1),
            f"{record['seconds']:.2f}",
        ]

    def save(self, folder: Path, corpus: str, command: str) -> list[Path]:
        """Write ``metrics.json``, the CSV files, the classifier and its scaler; returns the paths.

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
            "sizes": self.sizes,
            "untested": self.untested,
            "session_gap": self.session_gap,
            "open_set": self.open_set,
            "speakers": self.speakers,
            "curves": self.curves,
            "origins": self.origins,
            "notes": self.notes,
            "command": command,
            "versions": versions(),
        }
        text = json.dumps(without_nan(content), indent=2, allow_nan=False)
        outcomes = self.outcomes[key_of(self.best)]
        # Of an earlier run, none of it would be of this one; what says that there are results comes last.
        tables = ("metrics.json", "per_speaker.csv", "confusion.csv", "answers.csv", "embedding_map.csv")
        for name in (f"{corpus}_scaler.pt", "report.html", *tables):
            (folder / name).unlink(missing_ok=True)
        for path in [path for path in folder.glob("*.png") if PICTURES.fullmatch(path.name)]:
            path.unlink(missing_ok=True)
        written = [
            self.classifier.save(folder / f"speaker_classifier_{corpus}.pt"),
            write_csv(folder / "metrics.csv", self.rows),
        ]
        members = self.classifier.members
        if len(members) == 1:
            written.append(write_tensors(folder / f"{corpus}_scaler.pt", members[0].scaler.state_dict()))
        if self.sizes[self.best["split_by"]]["test"]:
            written += [
                write_csv(folder / "per_speaker.csv", per_speaker(outcomes, self.speakers)),
                write_csv(folder / "confusion.csv", confusion(outcomes, self.speakers)),
                write_csv(folder / "answers.csv", self._answers(outcomes)),
            ]
        return [*written, write_atomically(folder / "metrics.json", lambda file: file.write(text.encode()))]

    def _answers(self, outcomes: Sequence[Outcome]) -> list[Record]:
        """List the answers of the best to the test recordings of all seeds."""
        return [
            {
                "seed": seed,
                "id": self.ids[row],
                "speaker": self.speakers[label],
                "named": self.speakers[named],
                "right": int(rank == 0),
                "probability": confidence,
            }
            for seed, outcome in zip(self.best["seeds"], outcomes, strict=True)
            for row, label, named, rank, confidence in zip(
                outcome.rows.tolist(), outcome.labels.tolist(), outcome.predictions.tolist(),
                outcome.ranks.tolist(), outcome.confidences.tolist(), strict=True,
            )
        ]  # fmt: skip

    def _layers_of(self, encoder: str) -> str:
        """Name the layers that the splits chose."""
        own = {row["layer"] for row in self.rows if row["encoder"] == encoder and row["layer"] is not None}
        return ", ".join(map(str, sorted(own))) + ", the best by validation" * bool(own) if own else "none"

    def _counts(self, record: Record) -> Counts:
        return by_speaker(self.outcomes[key_of(record)], len(self.speakers))


def add_intervals(summary: list[Record], outcomes: Outcomes, n_speakers: int) -> None:
    """Add ``test_accuracy_low`` and ``test_accuracy_high`` to the records of a summary."""
    for record in summary:
        low, high = ratio_interval(*by_speaker(outcomes[key_of(record)], n_speakers))
        record |= {"test_accuracy_low": low, "test_accuracy_high": high}


def _with_deviation(record: Record, measure: str) -> str:
    has_deviation = len(record["seeds"]) > 1 and not math.isnan(record[measure])
    deviation = f" ±{_percent(record[f'{measure}_std'], 1)}" if has_deviation else ""
    return _percent(record[measure]) + deviation


def _percent(share: float, digits: int = 2) -> str:
    return "-" if math.isnan(share) else f"{100 * share:.{digits}f}"


def write_csv(path: Path, records: Sequence[Record]) -> Path:
    """Write records of the same keys; returns the path."""
    table = io.StringIO()
    writer = csv.DictWriter(table, list(records[0]))
    writer.writeheader()
    writer.writerows(without_nan(list(records)))
    # Names of speakers need not be valid text; they are written back as the bytes that they are.
    return write_atomically(path, lambda file: file.write(table.getvalue().encode("utf-8", "surrogateescape")))


def without_nan(value: Any) -> Any:
    """Replace NaN and infinity, which JSON does not know, by None."""
    if isinstance(value, dict):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def origin_of(name: str, features: FeatureSet) -> Record:
    """Say what vectors were made of: the encoder's spec, and a digest of all the audio."""
    audio = features.audio
    digest = None if audio is None else hashlib.sha256(audio.digest.contiguous().numpy().tobytes()).hexdigest()
    return {"name": name, "spec": features.encoder, "n_utterances": len(features), "audio_sha256": digest}


def versions() -> dict[str, str]:
    """Return the versions of what the figures depend on."""
    return {
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "numpy": np.__version__,
        "scikit-learn": sklearn.__version__,
    }
