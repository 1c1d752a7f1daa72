"""`Prediction`: the most probable speakers of a file, and predictions as a table, CSV or JSON."""

import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from files import OutputError, PathLike, format_percent, format_table, without_nan, write_atomically


@dataclass(frozen=True)
class Prediction:
    """The most probable speakers of one file.

    Attributes
    ----------
    path : Path
        The file.
    speakers : tuple of str
        The most probable speakers, best first; empty if the file could not be read.
    probabilities : tuple of float
        Their probabilities among the known speakers; NaN for `UNKNOWN`.
    error : str or None
        Reason why the file could not be read.
    score, threshold : float or None
        Score of the most probable known speaker, and the score below which the speaker is `UNKNOWN`, if that is how
        unknown speakers are found.
    channel : int or None
        Number of the channel that was read, from 0; None for the mean of all.
    """

    path: Path
    speakers: tuple[str, ...] = ()
    probabilities: tuple[float, ...] = ()
    error: str | None = None
    score: float | None = field(default=None, kw_only=True)
    threshold: float | None = field(default=None, kw_only=True)
    channel: int | None = field(default=None, kw_only=True)

    @property
    def name(self) -> str:
        """Path of the file, plus ``#channelN`` for a channel."""
        return str(self.path) if self.channel is None else f"{self.path}#channel{self.channel}"


def check_predictions_path(path: PathLike) -> None:
    """Refuse a file name that ends in neither .csv nor .json, before any work is done.

    Raises
    ------
    OutputError
        The path is a folder, or has another suffix.
    """
    path = Path(path)
    if path.is_dir() or path.suffix.lower() not in (".csv", ".json"):
        raise OutputError(
            f"{path}: predictions are written to a .csv or .json file; give --output the name of such a file."
        )


def predictions_table(predictions: Sequence[Prediction]) -> str:
    """Lay out the predictions of the files that could be read: speaker, probability (percent), and the runners-up.

    If there are scores, the score and the threshold follow the probability.
    """
    read = [prediction for prediction in predictions if prediction.error is None]
    has_scores, lines = _has_scores(read), []
    for prediction in read:
        pairs = zip(prediction.speakers, prediction.probabilities, strict=True)
        (best, share), *others = [(speaker, format_percent(share, missing="")) for speaker, share in pairs]
        scores = [f"{value:+.2f}" for value in (prediction.score, prediction.threshold) if value is not None]
        lines.append([prediction.name, best, share, *scores, ", ".join(map(" ".join, others))])
    if has_scores:
        return format_table(["file", "speaker", "percent", "score", "threshold", "then"], lines, "<<>>><")
    return format_table(["file", "speaker", "percent", "then"], lines, "<<><")


def _extra(predictions: Sequence[Prediction]) -> list[str]:
    """Return the names of the values that only some predictions have, such as those of an open set."""
    scores = ["score", "threshold"] if _has_scores(predictions) else []
    return [*scores, *(["channel"] if any(prediction.channel is not None for prediction in predictions) else [])]


def _has_scores(predictions: Sequence[Prediction]) -> bool:
    return any(prediction.score is not None for prediction in predictions)


def write_predictions(path: PathLike, predictions: Sequence[Prediction], top_k: int) -> Path:
    """Write predictions, one row per file, to a ``.csv`` or ``.json`` file; return its path.

    Parameters
    ----------
    path : path-like
        File to write.
    predictions : sequence of Prediction
        Predictions, in the order of the rows.
    top_k : int
        Number of speakers per row of the CSV file.

    Raises
    ------
    OutputError
        The file name has another suffix, or the folder cannot be written.
    """
    check_predictions_path(path)
    text = _json(predictions) if Path(path).suffix.lower() == ".json" else _csv(predictions, top_k)
    # A file name need not be valid UTF-8; its bytes are written unchanged.
    return write_atomically(path, lambda file: file.write(text.encode("utf-8", "surrogateescape")))


def _json(predictions: Sequence[Prediction]) -> str:
    extra = _extra(predictions)
    records = [
        {
            "path": str(prediction.path),
            "predictions": [
                {"speaker": speaker, "probability": None if math.isnan(probability) else probability}
                for speaker, probability in zip(prediction.speakers, prediction.probabilities, strict=True)
            ],
            "error": prediction.error,
            **{name: getattr(prediction, name) for name in extra},
        }
        for prediction in predictions
    ]
    return json.dumps(without_nan(records), indent=2)


def _csv(predictions: Sequence[Prediction], top_k: int) -> str:
    ranks = ["", *(f"_{rank}" for rank in range(2, top_k + 1))]
    table = io.StringIO()
    writer = csv.writer(table)
    # These columns come last: readers of this file may count on the places of the others.
    names = _extra(predictions)
    columns = (f"{name}{rank}" for rank in ranks for name in ("speaker", "probability"))
    writer.writerow(["path", *columns, "error", *names])
    for prediction in predictions:
        cells: list[str | float] = []
        for speaker, probability in zip(prediction.speakers, prediction.probabilities, strict=True):
            cells += [speaker, "" if math.isnan(probability) else probability]
        padding = [""] * (2 * top_k - len(cells))
        scores = [getattr(prediction, name) for name in names]
        writer.writerow([prediction.path, *cells, *padding, prediction.error or "", *scores])
    return table.getvalue()
