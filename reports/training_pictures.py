"""Pictures of a training run."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from files import Record
from reports.comparison_pictures import MAX_NAMED, short_name
from reports.drawing import COLOURS, LINES, clean, legend_below, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PARTS = ("train", "validation", "test")
PART_COLOURS = dict(zip(PARTS, COLOURS, strict=False))
# Figures with a curve: key -> label, and the factor that makes percent.
CURVES = {
    "loss": ("loss", 1),
    "accuracy": ("accuracy (%)", 100),
    "eer": ("EER (%)", 100),
    "learning_rate": ("learning rate", 1),
}
# With more epochs than this, the curves have no markers.
MAX_MARKED = 40
# Maximum number of bars of the histogram of utterances.
MAX_BARS = 40


def draw_training_curves(rows: Sequence[Record], selected: int) -> "Figure":
    """Draw loss, accuracy, EER and learning rate over the epochs, as far as they are known, for each part."""
    from matplotlib.ticker import MaxNLocator

    panels = [key for key in CURVES if any(row[key] is not None for row in rows)]
    figure = new_figure(7.5, 0.5 + 2.6 * math.ceil(len(panels) / 2))
    grid = figure.subplots(math.ceil(len(panels) / 2), 2, squeeze=False).ravel()
    for axes, key in zip(grid, panels, strict=False):
        _draw_curves(axes, rows, key)
        line = axes.axvline(selected, color="0.6", linestyle=":")
        if key == panels[-1]:
            line.set_label(f"selected: epoch {selected}")  # the last one in the legend
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
        axes.grid(alpha=0.3)
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    legend_below(figure, *grid[: len(panels)])
    return figure


def _draw_curves(axes: "Axes", rows: Sequence[Record], key: str) -> None:
    """Draw a figure for each part and network."""
    label, factor = CURVES[key]
    networks = list(dict.fromkeys(row["network"] for row in rows))
    # A later row of the same epoch is of the same weights.
    values = {(row["part"], row["network"], row["epoch"]): row[key] for row in rows if row[key] is not None}
    for part in PARTS:
        for number, network in enumerate(networks):
            points = [(epoch, value) for (*of, epoch), value in values.items() if of == [part, network]]
            if not points:
                continue
            epochs, figures = np.array(points, np.float64).T
            axes.plot(
                epochs,
                factor * figures,
                color=PART_COLOURS[part],
                linestyle=LINES[number % len(LINES)],
                marker="o" if len(points) <= MAX_MARKED else None,
                markersize=3,
                label=clean(f"{part}, {network}" if len(networks) > 1 else part),
            )
    axes.set(xlabel="epoch", ylabel=label)
    if key == "learning_rate":
        axes.set_ylim(bottom=0)


def draw_speaker_counts(records: Sequence[Record], parts: Sequence[str] = PARTS) -> "Figure":
    """Draw the number of utterances of each speaker, with most utterances first, stacked by part.

    The records have the ``speaker`` and, for each part, the number of utterances.
    """
    parts = [part for part in parts if any(int(record[part]) for record in records)]
    ranked = sorted(records, key=lambda record: (-sum(int(record[part]) for part in parts), record["speaker"]))
    counts = np.array([[int(record[part]) for record in ranked] for part in parts])
    edges = np.vstack([np.zeros(len(ranked)), counts.cumsum(0)])
    places = np.arange(len(ranked))
    is_named = len(ranked) <= MAX_NAMED
    figure = new_figure(7.5, 1.4 + 0.15 * len(ranked) if is_named else 3.2)
    axes = figure.subplots()
    for number, part in enumerate(parts):
        look: Record = {"color": PART_COLOURS.get(part, COLOURS[number]), "label": part, "linewidth": 0}
        if is_named:
            axes.barh(places, counts[number], left=edges[number], height=0.7, **look)
        else:
            axes.stairs(edges[number + 1], np.arange(len(ranked) + 1), baseline=edges[number], fill=True, **look)
    if is_named:
        names = [short_name(record["speaker"]) for record in ranked]
        axes.set_yticks(places, names, fontsize=8, parse_math=False)
        axes.set(xlabel="utterances", ylim=(len(ranked) - 0.4, -0.6))
    else:
        axes.set(
            xlabel="speakers, with most utterances first", ylabel="utterances", xlim=(0, len(ranked)), ylim=(0, None)
        )
    axes.set_axisbelow(True)
    axes.grid(axis="x" if is_named else "y", alpha=0.3)
    if len(parts) > 1 or parts[0] in PARTS:
        legend_below(figure, axes)
    return figure


def draw_count_histogram(records: Sequence[Record], parts: Sequence[str] = PARTS) -> "Figure":
    """Draw how many speakers have how many utterances, over all parts; the records are as in `draw_speaker_counts`."""
    from matplotlib.ticker import MaxNLocator

    totals = np.array([sum(int(record[part]) for part in parts) for record in records])
    width = math.ceil((totals.max() - totals.min() + 1) / MAX_BARS)
    edges = np.arange(totals.min(), totals.max() + width + 1, width) - 0.5
    figure = new_figure(7.5, 2.6)
    axes = figure.subplots()
    axes.hist(totals, edges.tolist(), color=COLOURS[0], rwidth=0.9)
    margin = max(width, 3 - len(edges))  # few bars are not wide
    axes.set(xlabel="utterances of a speaker", ylabel="speakers", xlim=(edges[0] - margin, edges[-1] + margin))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
    axes.set_axisbelow(True)
    axes.grid(axis="y", alpha=0.3)
    return figure


def draw_audio_histograms(records: Sequence[Record]) -> "Figure":
    """Draw the durations of the utterances by part, and the smallest and largest log-mel values of the sample."""
    figure = new_figure(7.5, 3.2)
    left, right = figure.subplots(1, 2)
    below: np.ndarray | float = 0.0
    for part in PARTS:
        counts, edges = _bins(records, "duration", part)
        if len(counts):
            left.stairs(
                below + counts, edges, baseline=below, fill=True, color=PART_COLOURS[part], label=part, linewidth=0
            )
            below = below + counts
    left.set(xlabel="duration (s)", ylabel="utterances")
    for key, label, colour in (
        ("smallest_log_mel", "smallest", COLOURS[3]), ("largest_log_mel", "largest", COLOURS[4]),
    ):  # fmt: skip
        counts, edges = _bins(records, key, "train")
        if len(counts):
            right.stairs(counts, edges, fill=True, color=colour, label=label, linewidth=0)
    right.set(xlabel="log-mel value (dB)", ylabel="utterances")
    for axes in (left, right):
        axes.set_axisbelow(True)
        axes.grid(alpha=0.3)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(framealpha=0)
    return figure


def _bins(records: Sequence[Record], quantity: str, part: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the counts (n,) and edges (n + 1,) of a histogram; empty if there is none."""
    own = [record for record in records if (record["quantity"], record["part"]) == (quantity, part)]
    counts = np.array([float(record["count"]) for record in own])
    edges = [float(record["low"]) for record in own] + [float(record["high"]) for record in own[-1:]]
    return counts, np.array(edges)
