"""Results of one model for each session: the figures of all epochs, and the table of all sessions."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from files import Record, Table, count_of, format_percent, write_csv
from metrics import mean_interval
from training.session_folders import SESSIONS, read_results

# Figures of which the table has the mean over sessions.
SHARES = ("accuracy", "macro_f1")
# Fewest sessions whose mean has an interval: that of two says nothing.
MIN_SESSIONS = 3
SELECTED = "validation selected the epoch, which makes its figures optimistic"
ONE_SESSION = "the evaluated utterances are of the same sessions as those of training"


def write_session_results(folder: Path, runs: Mapping[str, Path]) -> list[Record]:
    """Write ``metrics.csv``, a row for each session and epoch, and ``sessions.csv``, a row for each session.

    Parameters
    ----------
    folder : Path
        Folder for the two files.
    runs : mapping
        Folder of the run of each session; sessions whose run is not finished are left out.

    Returns
    -------
    list of dict
        The rows of ``sessions.csv``.

    Raises
    ------
    OutputError
        A file cannot be written.
    """
    epochs, sessions = [], []
    for session, run in runs.items():
        metrics = read_results(run)
        if metrics is None or not metrics["finished"]:
            continue
        epochs += _epochs(session, metrics)
        sessions.append(_selected(session, metrics))
    if sessions:
        write_csv(folder / "metrics.csv", epochs)
        write_csv(folder / SESSIONS, sessions)
    return sessions


def _epochs(session: str, metrics: dict[str, Any]) -> list[Record]:
    """Return a row for each epoch of a session; of several networks, the figures of the ensemble."""
    rows = []
    for epoch in dict.fromkeys(row["epoch"] for row in metrics["rows"]):
        own = [row for row in metrics["rows"] if row["epoch"] == epoch]
        validation: Record = next((row for row in reversed(own) if row["part"] == "validation"), {})
        rows.append(
            {
                "session": session,
                "epoch": epoch,
                "train_loss": np.mean([row["loss"] for row in own if row["part"] == "train"]).item(),
                "validation_loss": validation.get("loss"),
                "validation_accuracy": validation.get("accuracy"),
                "validation_macro_f1": validation.get("macro_f1"),
                "selected": int(epoch == metrics["selected_epoch"]),
            }
        )
    return rows


def _selected(session: str, metrics: dict[str, Any]) -> Record:
    """Return the row of a session: its size, and the figures of its test part or else of validation."""
    own = [row for row in metrics["rows"] if row["epoch"] == metrics["selected_epoch"] and row["part"] != "train"]
    row = own[-1] if own else {}
    parts = {part["part"]: part for part in metrics["parts"]}
    return {
        "session": session,
        "speakers": parts["train"]["n_speakers"],
        "train_utterances": parts["train"]["n_utterances"],
        "part": row.get("part"),
        "utterances": row.get("n_utterances"),
        "epoch": metrics["selected_epoch"],
        "loss": row.get("loss"),
        **{name: row.get(name) for name in SHARES},
        # The rows of all networks have the time of all of them.
        "seconds": sum(one["seconds"] or 0.0 for one in metrics["rows"] if one["network"] == metrics["networks"][0]),
    }


def sessions_table(title: str, sessions: list[Record], skipped: Mapping[str, str]) -> Table:
    """Make the table of all sessions, with the mean and its 95 % interval over sessions, in percent.

    Parameters
    ----------
    title : str
    sessions : list of dict
        What `write_session_results` returned.
    skipped : mapping
        Sessions that were not trained -> the reason.
    """
    header = ["session", "speakers", "train", "part", "utterances", "epoch", "loss", "accuracy", "macro-F1", "minutes"]
    rows = [
        [
            str(row["session"]),
            str(row["speakers"]),
            str(row["train_utterances"]),
            row["part"] or "-",
            str(row["utterances"] or "-"),
            str(row["epoch"]),
            "-" if row["loss"] is None else f"{row['loss']:.3f}",
            *(format_percent(row[name]) for name in SHARES),
            f"{row['seconds'] / 60:.1f}",
        ]
        for row in sessions
    ]
    notes = []
    for name, key in (("accuracy", "accuracy"), ("macro-F1", "macro_f1")):
        values = [row[key] for row in sessions if row[key] is not None]
        if not values:
            continue
        mean, low, high = mean_interval(values)
        text = f"mean {name} of {count_of(len(values), 'session')}: {format_percent(mean)} %"
        if math.isfinite(low) and len(values) >= MIN_SESSIONS:
            text += f", 95 % interval {format_percent(max(low, 0.0))} to {format_percent(min(high, 1.0))} %"
        notes.append(text)
    notes.append(ONE_SESSION)
    if any(row["part"] == "validation" for row in sessions):
        notes.append(SELECTED)
    notes += [f"{session} is not trained: {reason}" for session, reason in skipped.items()]
    return Table(title, header, rows, align="<>><>>>>>>", notes=notes)
