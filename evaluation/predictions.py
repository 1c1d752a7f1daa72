"""Predictions as a table for people and as a file for programs."""

import csv
import io
import json
import math
from collections.abc import Sequence
from pathlib import Path

from evaluation.comparison import write_csv
from evaluation.table import format_table
from features import OutputError, write_atomically
from heads import Prediction
from verification import Nearest

# Rows of a table for people; the file has all.
SHOWN = 20


def check_predictions_path(path: Path) -> None:
    """Refuse a name that says neither CSV nor JSON, before any work is done.

    Raises
    ------
    OutputError
    """
    if path.is_dir() or path.suffix.lower() not in (".csv", ".json"):
        raise OutputError(f"{path}: predictions are written to a .csv or .json file; give --output the name of one.")


def predictions_table(predictions: Sequence[Prediction]) -> str:
    """Lay out the files that were judged: speaker, probability (percent), and the runners-up."""
    lines = []
    for prediction in predictions:
        if prediction.error is None:
            pairs = zip(prediction.speakers, prediction.probabilities, strict=True)
            (best, share), *others = [(speaker, _percent(probability)) for speaker, probability in pairs]
            lines.append([str(prediction.path), best, share, ", ".join(map(" ".join, others))])
    return format_table(["file", "speaker", "percent", "then"], lines, "<<><")


def write_predictions(path: Path, predictions: Sequence[Prediction], top_k: int) -> Path:
    """Write predictions, one for each file, to a ``.csv`` or ``.json`` file; returns its path.

    Raises
    ------
    OutputError
        Another suffix, or a folder that cannot be written.
    """
    check_predictions_path(path)
    text = _json(predictions) if path.suffix.lower() == ".json" else _csv(predictions, top_k)
    # Names of files need not be valid text; they are written back as the bytes that they are.
    return write_atomically(path, lambda file: file.write(text.encode("utf-8", "surrogateescape")))


def scores_table(ids: Sequence[str], nearest: Nearest) -> str:
    """Lay out the first `SHOWN` of some utterances, with the speakers that they are likest to."""
    lines = []
    for name, names, scores, llrs in zip(ids[:SHOWN], nearest.names, nearest.scores, nearest.llrs, strict=False):
        lines.append([name, names[0], f"{scores[0]:.4f}", f"{llrs[0]:+.2f}", ", ".join(names[1:])])
    return format_table(["utterance", "speaker", "score", "LLR", "then"], lines, "<<>><")


def write_scores(path: Path, ids: Sequence[str], nearest: Nearest) -> Path:
    """Write the speakers that each utterance is likest to, with scores and log-likelihood ratios, to a ``.csv`` file.

    Raises
    ------
    OutputError
        The file cannot be written.
    """
    records = []
    for name, *best in zip(ids, nearest.names, nearest.scores.tolist(), nearest.llrs.tolist(), strict=True):
        record = {"id": name}
        for rank, (speaker, score, llr) in enumerate(zip(*best, strict=True), start=1):
            suffix = f"_{rank}" if rank > 1 else ""
            record |= {f"speaker{suffix}": speaker, f"score{suffix}": score, f"llr{suffix}": llr}
        records.append(record)
    return write_csv(path, records)


def _json(predictions: Sequence[Prediction]) -> str:
    records = [
        {
            "path": str(prediction.path),
            "predictions": [
                {"speaker": speaker, "probability": None if math.isnan(probability) else probability}
                for speaker, probability in zip(prediction.speakers, prediction.probabilities, strict=True)
            ],
            "error": prediction.error,
        }
        for prediction in predictions
    ]
    return json.dumps(records, indent=2)


def _csv(predictions: Sequence[Prediction], top_k: int) -> str:
    ranks = ["", *(f"_{rank}" for rank in range(2, top_k + 1))]
    table = io.StringIO()
    writer = csv.writer(table)
    writer.writerow(["path", *(f"{name}{rank}" for rank in ranks for name in ("speaker", "probability")), "error"])
    for prediction in predictions:
        pairs = zip(prediction.speakers, prediction.probabilities, strict=True)
        cells = ["" if cell != cell else cell for pair in pairs for cell in pair]
        padding = [""] * (2 * top_k - len(cells))
        writer.writerow([prediction.path, *cells, *padding, prediction.error or ""])
    return table.getvalue()


def _percent(share: float) -> str:
    return "" if math.isnan(share) else f"{100 * share:.1f}"
