"""Pictures of error rates and scores."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from files import Record
from reports.drawing import COLOURS, LINES, legend_below, new_figure, to_svg
from verification import ScoreHistogram

if TYPE_CHECKING:
    from matplotlib.figure import Figure


# Error rates at the edges of a DET plot; points beyond an edge are drawn on it.
RANGE = (0.001, 0.6)
# Maximum width of the picture of a pair on a page. It is drawn for narrow screens, and its text would become too large.
PAIR_WIDTH = "34rem"


def draw_det_curve(points: Sequence[Record], rows: Sequence[Record]) -> "Figure":
    """Draw the miss rate of each backend over its false-accept rate, on normal-deviate axes; rows have the EERs."""
    from scipy.stats import norm  # here, because it takes long to import

    figure = new_figure(6.5, 6.5)
    axes = figure.subplots()
    eers = {row["backend"]: row["eer"] for row in rows if row["trials"] == "all"}
    for number, backend in enumerate(dict.fromkeys(point["backend"] for point in points)):
        own = [point for point in points if point["backend"] == backend]
        accepts, misses = (np.array([float(point[name]) for point in own]) for name in ("false_accept", "miss"))
        look: Record = {"linestyle": LINES[number % len(LINES)], "color": COLOURS[number % len(COLOURS)]}
        label = f"{backend} (EER {100 * eers[backend]:.2f} %)"
        axes.plot(*(norm.ppf(np.clip(rates, *RANGE)) for rates in (accepts, misses)), label=label, **look)
    shares = np.array([RANGE[0], 0.01, 0.02, 0.05, 0.1, 0.2, 0.4, RANGE[1]])
    limits = norm.ppf(RANGE)
    axes.plot(limits, limits, color="0.6", linewidth=0.8)
    for axis, label in ((axes.xaxis, "false accepts (%)"), (axes.yaxis, "misses (%)")):
        axis.set_ticks(norm.ppf(shares), [f"{100 * share:g}" for share in shares])
        axis.set_label_text(label)
    axes.set(xlim=limits, ylim=limits, aspect="equal")
    axes.grid(alpha=0.3)
    axes.legend(framealpha=0)
    return figure


def draw_histogram(bins: Sequence[Record]) -> "Figure":
    """Draw the scores of targets and nontargets of each backend."""
    backends = list(dict.fromkeys(part["backend"] for part in bins))
    figure = new_figure(6.5, 2.3 * len(backends))
    for axes, backend in zip(figure.subplots(len(backends), squeeze=False)[:, 0], backends, strict=True):
        own = [part for part in bins if part["backend"] == backend]
        edges = [float(part["low"]) for part in own] + [float(own[-1]["high"])]
        for name, label, colour, hatch in (
            ("targets", "same speaker", COLOURS[0], ""), ("nontargets", "two speakers", COLOURS[1], "///"),
        ):  # fmt: skip
            counts = np.array([float(part[name]) for part in own])
            axes.stairs(counts / counts.sum(), edges, fill=True, alpha=0.55, label=label, color=colour, hatch=hatch)
        axes.set(title=backend, yticks=[], xlabel="score")
        axes.legend(framealpha=0)
    return figure


def draw_score_histogram(histogram: ScoreHistogram, llr: float) -> "Figure":
    """Draw the pairs that calibrated a verifier, each kind with the same area, and mark the ratio of another pair.

    A ratio outside the histogram is marked at the nearest end, with an arrow.

    Parameters
    ----------
    histogram : ScoreHistogram
    llr : float
        Natural log-likelihood ratio of the pair.
    """
    figure = new_figure(4.4, 2.7)
    axes = figure.subplots()
    for label, shares, colour, line, hatch in (
        ("same speaker", histogram.same, COLOURS[0], "-", ""),
        ("different speakers", histogram.different, COLOURS[1], "--", "///"),
    ):
        look: Record = {"color": colour, "linewidth": 0, "hatch": hatch, "alpha": 0.45, "label": label}
        axes.stairs(shares, histogram.edges, fill=True, **look)
        axes.stairs(shares, histogram.edges, color=colour, linestyle=line, linewidth=1.4)
    low, high = histogram.edges[0], histogram.edges[-1]
    place = min(max(llr, low), high)
    axes.axvline(place, color="black", linewidth=1.8, clip_on=False, gid="pair")
    at_place: Record = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points"}
    if llr != place:
        arrow = {"arrowstyle": "-|>", "color": "black", "linewidth": 1.8}
        axes.annotate("", (place, 0.9), (-28 if llr > place else 28, 0), arrowprops=arrow, gid="outside", **at_place)
    part = (place - low) / (high - low)
    align = "left" if part < 0.25 else "right" if part > 0.75 else "center"
    text = f"this pair: {llr:.2f}".replace("-", "\N{MINUS SIGN}")
    axes.annotate(text, (place, 1), (0, 4), ha=align, va="bottom", fontsize=11, fontweight="bold", **at_place)
    axes.set(yticks=[], xlim=(low, high))
    axes.set_xlabel("log-likelihood ratio", fontsize=11)
    axes.set_ylabel("share of the pairs", fontsize=11)
    axes.spines[["top", "left", "right"]].set_visible(False)
    legend_below(figure, axes)
    return figure


def score_histogram_svg(histogram: ScoreHistogram, llr: float) -> str:
    """Return the picture of `draw_score_histogram` as an ``svg`` element, with its description for screen readers.

    Parameters
    ----------
    histogram : ScoreHistogram
        For example `SpeakerVerifier.score_histogram`.
    llr : float
        Natural log-likelihood ratio of a pair, for example `Verdict.llr`.
    """
    label = f"Log-likelihood ratio of this pair: {llr:.2f}. {histogram.describe(llr)}"
    return to_svg(draw_score_histogram(histogram, llr), "pair_histogram", label=label, max_width=PAIR_WIDTH)
