"""Results of one model for each session: the figures of all epochs, and the table of all sessions."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from files import Record, Table, count_of, format_percent, write_csv
from metrics import mean_interval

# Figures of which the table has the mean over sessions.
SHARES = ("accuracy", "macro_f1")
SELECTED = "validation selected the epoch, which makes its figures optimistic"
ONE_SESSION = "the split is by utterance: the evaluated utterances are of the same sessions as those of training"


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
        metrics = _read(run / "metrics.json")
        if metrics is None or not metrics["finished"]:
            continue
        epochs += _epochs(session, metrics)
        sessions.append(_selected(session, metrics))
    if sessions:
        write_csv(folder / "metrics.csv", epochs)
        write_csv(folder / "sessions.csv", sessions)
    return sessions


def _read(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # absent, or cut off: the session is trained, or saved again
        return None
    return content if isinstance(content, dict) and content.get("rows") else None


def _epochs(session: str, metrics: dict[str, Any]) -> list[Record]:
    """Return a row for each epoch of a session."""
    of_epoch: dict[int, dict[str, Record]] = {}
    for row in metrics["rows"]:
        of_epoch.setdefault(row["epoch"], {}).setdefault(row["part"], row)
    rows = []
    for epoch, parts in of_epoch.items():
        train, validation = parts.get("train", {}), parts.get("validation", {})
        rows.append(
            {
                "session": session,
                "epoch": epoch,
                "train_loss": train.get("loss"),
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
        "seconds": sum(one["seconds"] or 0.0 for one in metrics["rows"]),
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
        mean, low, high = mean_interval(values)
        text = f"mean {name} of {count_of(len(values), 'session')}: {format_percent(mean)} %"
        if math.isfinite(low):
            text += f", 95 % interval {format_percent(max(low, 0.0))} to {format_percent(min(high, 1.0))} %"
        notes.append(text)
    notes.append(ONE_SESSION)
    if any(row["part"] == "validation" for row in sessions):
        notes.append(SELECTED)
    notes += [f"{session} is not trained: {reason}" for session, reason in skipped.items()]
    return Table(title, header, rows, align="<>><>>>>>>", notes=notes)
