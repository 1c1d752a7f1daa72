"""Pictures of error rates and scores."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import norm

from files import Record
from reports.drawing import COLOURS, LINES, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


# Error rates at the edges of a DET plot; points beyond an edge are drawn on it.
RANGE = (0.001, 0.6)


def draw_det_curve(points: Sequence[Record], rows: Sequence[Record]) -> "Figure":
    """Draw the miss rate of each backend over its false-accept rate, on normal-deviate axes; rows have the EERs."""
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
