"""Columns of the result tables. The terminal's table, the page's table and the page's glossary use these lists.

To add a figure, compute it where the row is made (`evaluation.outcome` for heads, `evaluation.compare_backends` for
backends, `training.evaluate` for networks in training), and list it here.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from files import format_percent


@dataclass(frozen=True)
class Column:
    """A figure of a results table.

    Attributes
    ----------
    key : str
        Key of the figure in a record.
    heading : str
        Heading of its column; empty for a figure that is in the files only.
    format : {"percent", "number", "count"}
        Format of the values: fractions in percent, numbers, or whole numbers.
    digits : int
        Digits after the decimal point.
    has_deviation : bool
        Whether tables show the standard deviation over seeds.
    has_interval : bool
        Whether the record has a 95 % interval, under ``{key}_low`` and ``{key}_high``.
    meaning : str
        Explanation for the glossary of the page.
    """

    key: str
    heading: str = ""
    format: Literal["percent", "number", "count"] = "number"
    digits: int = 2
    has_deviation: bool = False
    has_interval: bool = False
    meaning: str = ""

    def text(self, record: Mapping[str, Any]) -> str:
        """Format the figure of a record; ``-`` if it has none, as in results of an earlier version."""
        return self._format(record.get(self.key), self.digits)

    def text_with_deviation(self, record: Mapping[str, Any]) -> str:
        """Format the figure and, if it is a mean over several seeds, the standard deviation."""
        mean, deviation = record.get(self.key), record.get(f"{self.key}_std")
        if len(record.get("seeds", ())) < 2 or mean is None or deviation is None or math.isnan(mean):
            return self.text(record)
        return f"{self.text(record)} ±{self._format(deviation, 1)}"

    def interval(self, record: Mapping[str, Any]) -> tuple[str, str]:
        """Format the bounds of the figure's interval."""
        return self._format(record.get(f"{self.key}_low"), 1), self._format(record.get(f"{self.key}_high"), 1)

    def _format(self, value: float | None, digits: int) -> str:
        if self.format == "percent":
            return format_percent(value, digits)
        if value is None or math.isnan(value):
            return "-"
        return f"{value:.0f}" if self.format == "count" else f"{value:.{digits}f}"


# Figures of a comparison of heads.
HEAD_COLUMNS = (
    Column(
        "val_accuracy",
        "val acc",
        "percent",
        has_deviation=True,
        meaning="accuracy on the validation rows (by session, the mean over the sessions of the cross-validation)",
    ),
    Column(
        "test_accuracy",
        "test acc",
        "percent",
        has_deviation=True,
        has_interval=True,
        meaning="accuracy on the test set, with its 95 % interval from a bootstrap over speakers",
    ),
    Column("test_macro_f1", "macro-F1", "percent", meaning="F1 score, averaged over the tested speakers"),
    Column(
        "test_top3", "top-3", "percent", meaning="share of recordings whose speaker is among the three most probable"
    ),
    Column(
        "test_top5", "top-5", "percent", meaning="share of recordings whose speaker is among the five most probable"
    ),
    Column(
        "test_ece",
        "ECE",
        "percent",
        digits=1,
        meaning="expected calibration error, the mean difference between probabilities and accuracy",
    ),
    Column("seconds", "seconds", meaning="time to fit the head"),
    Column("val_log_loss"),
    Column("test_log_loss"),
    Column("n_parameters"),
)

# Figures of a comparison of backends.
BACKEND_COLUMNS = (
    Column("n_target", "targets", "count", meaning="number of trials of the same speaker"),
    Column("n_nontarget", "nontargets", "count", meaning="number of trials of different speakers"),
    Column(
        "eer",
        "EER",
        "percent",
        has_interval=True,
        meaning="equal error rate in percent: the rate of false accepts and of misses at the threshold where both are "
        "equal, with its 95 % interval from a bootstrap over speakers",
    ),
    Column(
        "min_dcf_0.01",
        "minDCF 0.01",
        digits=3,
        meaning="minimum normalised detection cost, if 1 trial in 100 is a target",
    ),
    Column("min_dcf_0.05", "minDCF 0.05", digits=3, meaning="the same, if 5 trials in 100 are targets"),
    Column(
        "cllr",
        "Cllr",
        digits=3,
        meaning="cost of the calibrated log-likelihood ratios (bits); 1 is the cost of having no scores",
    ),
    Column("min_cllr"),
)

# Figures of a training run.
TRAINING_COLUMNS = (
    Column("n_utterances", "utterances", "count", meaning="number of utterances, for train of crops in the epoch"),
    Column("loss", "loss", digits=3, meaning="mean loss (cross entropy in nats, or the triplet loss)"),
    Column("accuracy", "accuracy", "percent", meaning="share of the utterances whose speaker is classified correctly"),
    Column("macro_f1", "macro-F1", "percent", meaning="F1 score, averaged over the speakers"),
    Column("top3", "top-3", "percent", meaning="share of utterances whose speaker is among the three most probable"),
    Column("top5", "top-5", "percent", meaning="share of utterances whose speaker is among the five most probable"),
    Column("eer", "EER", "percent", meaning="equal error rate of the cosines of pairs of utterances, in percent"),
    Column("eer_triplets", "EER, triplets", "percent", meaning="equal error rate of drawn triplets, in percent"),
    Column("min_dcf", "minDCF", digits=3, meaning="minimum normalised detection cost, if 1 pair in 100 is a target"),
)


def shown(columns: tuple[Column, ...]) -> list[Column]:
    """Return the columns that are shown in tables."""
    return [column for column in columns if column.heading]
