"""Pictures of error rates and scores, as PNG files."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from features import write_atomically
from metrics import equal_error_rate, error_rates
from verification import Trials

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False)
class Scored:
    """Trials with the scores that a backend gives them."""

    backend: str
    trials: Trials
    scores: NDArray[np.float32]


def save_det_curve(path: Path, scored: Sequence[Scored]) -> Path:
    """Draw misses over false accepts, on normal deviates, into a PNG file; returns its path.

    Raises
    ------
    OutputError
        The file cannot be written.
    """
    from matplotlib.figure import Figure  # not pyplot: no window, no state

    figure = Figure(figsize=(6, 6), layout="constrained")
    axes = figure.subplots()
    for number, result in enumerate(scored):
        rates = error_rates(result.trials.labels, result.scores)
        inside = (rates.false_accept > 0) & (rates.miss > 0) & (rates.false_accept < 1) & (rates.miss < 1)
        eer = equal_error_rate(result.trials.labels, result.scores)
        axes.plot(
            norm.ppf(rates.false_accept[inside]), norm.ppf(rates.miss[inside]), ("-", "--", "-.", ":")[number % 4],
            label=f"{result.backend} (EER {100 * eer:.2f} %)",
        )  # fmt: skip
    shares = np.array([0.001, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6])
    limits = norm.ppf(shares[[0, -1]])
    axes.plot(limits, limits, color="0.7", linewidth=0.8)
    for axis, label in ((axes.xaxis, "false accepts (%)"), (axes.yaxis, "misses (%)")):
        axis.set_ticks(norm.ppf(shares), [f"{100 * share:g}" for share in shares])
        axis.set_label_text(label)
    axes.set(xlim=limits, ylim=limits, aspect="equal")
    axes.grid(alpha=0.3)
    axes.legend()
    return save_figure(path, figure)


def save_histogram(path: Path, scored: Sequence[Scored]) -> Path:
    """Draw the scores of targets and nontargets of each backend into a PNG file; returns its path.

    Raises
    ------
    OutputError
        The file cannot be written.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 2.4 * len(scored)), layout="constrained")
    for axes, result in zip(figure.subplots(len(scored), squeeze=False)[:, 0], scored, strict=True):
        scores = result.scores.astype(np.float64)
        edges = np.histogram_bin_edges(scores, bins=80)
        for label, name, hatch in ((True, "same speaker", ""), (False, "two speakers", "///")):
            values = scores[result.trials.labels == label]
            axes.hist(values, edges, density=True, alpha=0.6, label=name, hatch=hatch)
        axes.set(title=result.backend, yticks=[], xlabel="score")
        axes.legend()
    return save_figure(path, figure)


def save_figure(path: Path, figure: "Figure") -> Path:
    """Write a figure of matplotlib to a PNG file, atomically; returns its path.

    Raises
    ------
    OutputError
        The file cannot be written.
    """
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=150)
    return write_atomically(path, lambda file: file.write(image.getvalue()))
