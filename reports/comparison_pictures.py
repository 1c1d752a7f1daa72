"""Pictures of a comparison of heads."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from files import Record
from reports.drawing import COLOURS, LINES, MAX_LABEL, clean, legend_below, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


# Maximum number of speakers that are named on the axes of a picture.
MAX_NAMED = 60
# With more cells than this, a confusion matrix is an image within the drawing.
MAX_VECTOR_CELLS = 5_000
# Markers of speakers on a map, since there are more speakers than colours.
MARKERS = ("o", "^", "s", "D")
BLUE, RED = COLOURS[:2]
# Label, colour and size of points, by prediction: not tested (-1), correct (1), wrong (0).
ANSWERS = {-1: ("not tested", "#999999", 5), 1: ("correct", BLUE, 9), 0: ("wrong", RED, 26)}


def draw_heads(summary: Sequence[Record], best: Record) -> "Figure":
    """Draw the test accuracy of each head with its 95 % interval, in a row for each encoder and head."""
    from matplotlib.ticker import MaxNLocator

    rows = list(dict.fromkeys((record["encoder"], record["head"]) for record in summary))
    splits = list(dict.fromkeys(record["split_by"] for record in summary))
    several = len({encoder for encoder, _ in rows}) > 1
    names = [f"{head} on {encoder}" if several else head for encoder, head in rows]
    selected = rows.index((best["encoder"], best["head"]))
    names[selected] += " *"
    names = [textwrap.fill(short_name(name, len(name)), MAX_LABEL) for name in names]
    n_lines = max(name.count("\n") for name in names) + 1
    figure = new_figure(7.5, 1.1 + max(0.2 + 0.12 * len(splits), 0.18 * n_lines) * len(rows))
    axes = figure.subplots()
    for number, split in enumerate(splits):
        own = [record for record in summary if record["split_by"] == split]
        places = np.array([rows.index((record["encoder"], record["head"])) for record in own], dtype=np.float64)
        places += 0.3 * (number - (len(splits) - 1) / 2)
        means, lows, highs = (
            np.array([math.nan if record.get(key) is None else 100 * record[key] for record in own])
            for key in ("test_accuracy", "test_accuracy_low", "test_accuracy_high")
        )
        axes.hlines(places, lows, highs, color=COLOURS[number], linewidth=2, clip_on=False)
        axes.plot(means, places, "os"[number], color=COLOURS[number], label=f"split by {split}", clip_on=False)
    axes.set_yticks(range(len(rows)), names, parse_math=False)
    axes.set(xlabel="test accuracy (%)", ylim=(len(rows) - 0.4, -0.6))
    axes.set_xlim(right=min(axes.get_xlim()[1], 101))
    axes.xaxis.set_major_locator(MaxNLocator(steps=[1, 2, 5, 10]))
    axes.grid(axis="x", alpha=0.3)
    if len(splits) > 1:
        legend_below(figure, axes)
    return figure


def draw_confusion(cells: Sequence[Record], speakers: Sequence[str]) -> "Figure":
    """Draw the confusion matrix: squares and diamonds whose area grows with the count of correct and wrong ones."""
    from matplotlib.collections import PathCollection

    places = {name: place for place, name in enumerate(speakers)}
    true, predicted = (np.array([places[cell[key]] for cell in cells]) for key in ("speaker", "predicted"))
    counts = np.array([int(cell["count"]) for cell in cells])
    size = len(speakers)
    figure = new_figure(7.5, 7.5)
    axes = figure.subplots()
    axes.set(
        xlabel="predicted speaker",
        ylabel="true speaker",
        aspect="equal",
        xlim=(-0.7, size - 0.3),
        ylim=(size - 0.3, -0.7),
    )
    right = true == predicted
    scale = (250 / size) ** 2 if size <= MAX_NAMED else 24.0
    many = len(cells) > MAX_VECTOR_CELLS
    for kind, mark, colour, label in ((right, "s", BLUE, "correct"), (~right, "D", RED, "wrong")):
        largest = counts.max(initial=1) if size <= MAX_NAMED else counts[kind].max(initial=1)
        sizes = np.maximum(scale * counts[kind] / largest, 4)
        axes.scatter(
            predicted[kind], true[kind], sizes, c=colour, marker=mark, linewidths=0, label=label, rasterized=many
        )
    if size <= MAX_NAMED:
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_ticks(
                range(size),
                [short_name(name) for name in speakers],
                fontsize=max(4, min(9, 300 / size)),
                parse_math=False,
            )
        axes.tick_params("x", rotation=90)
    else:
        axes.set(xlabel="predicted speaker (number)", ylabel="true speaker (number)")
    legend = axes.legend(loc="upper left", bbox_to_anchor=(0, 1.07), ncols=2, framealpha=0)
    for handle in legend.legend_handles:
        if isinstance(handle, PathCollection):
            handle.set_sizes([30.0])  # the same size for both, whatever the counts
    return figure


def draw_speakers(records: Sequence[Record]) -> "Figure":
    """Draw the accuracy of each speaker, the lowest first, or a histogram if there are many speakers."""
    shares = np.array([float(record["accuracy"]) for record in records])
    if len(records) <= MAX_NAMED:
        figure = new_figure(7.5, 1 + 0.15 * len(records))
        axes = figure.subplots()
        axes.barh(range(len(records)), 100 * shares, color=np.where(shares < 1, RED, BLUE), height=0.7)
        names = [short_name(record["speaker"]) for record in records]
        axes.set_yticks(range(len(records)), names, fontsize=8, parse_math=False)
        axes.set(xlabel="accuracy (%)", xlim=(0, 100), ylim=(len(records) - 0.4, -0.6))
    else:
        figure = new_figure(7.5, 3)
        axes = figure.subplots()
        axes.hist(100 * shares, np.linspace(0, 100, 21).tolist(), color=BLUE)
        axes.set(xlabel="accuracy (%)", ylabel="speakers", xlim=(0, 100), yscale="symlog")
    axes.set_axisbelow(True)
    axes.grid(axis="x", alpha=0.3)
    return figure


def draw_curves(curves: Mapping[str, Sequence[Record]]) -> "Figure":
    """Draw training loss and validation accuracy over the epochs of each head."""
    figure = new_figure(7.5, 3.2)
    losses, accuracies = figure.subplots(1, 2)
    for number, (name, history) in enumerate(curves.items()):
        epochs = range(1, len(history) + 1)
        look: Record = {"color": COLOURS[number % 6], "linestyle": LINES[number % len(LINES)], "label": clean(name)}
        losses.plot(epochs, [record["train_loss"] for record in history], **look)
        shares = [record.get("val_accuracy") for record in history]
        accuracies.plot(epochs, [math.nan if share is None else 100 * share for share in shares], **look)
    losses.set(xlabel="epoch", ylabel="training loss", yscale="log")
    accuracies.set(xlabel="epoch", ylabel="validation accuracy (%)")
    for axes in (losses, accuracies):
        axes.grid(alpha=0.3)
    legend_below(figure, losses)
    return figure


def draw_calibration(confidences: NDArray[np.float64], right: NDArray[np.bool_], splits: NDArray[np.int64]) -> "Figure":
    """Draw a reliability diagram for each split and for all splits, and a histogram of the probabilities."""
    figure = new_figure(7.5, 3.4)
    axes, below = figure.subplots(1, 2)
    edges = np.linspace(0, 1, 11)
    axes.plot([0, 100], [0, 100], color="0.5", linewidth=1)
    numbers = np.unique(splits)
    parts = [splits == split for split in numbers] if len(numbers) > 1 else []
    for number, part in enumerate([*parts, np.ones(len(right), bool)]):
        bins = np.clip(np.digitize(confidences[part], edges) - 1, 0, 9)
        counts = np.bincount(bins, minlength=10)
        predicted, actual = (
            np.bincount(bins, values[part], 10)[counts > 0] / counts[counts > 0] for values in (confidences, right)
        )
        look: Record = {"color": BLUE, "marker": "o", "label": "all"}
        if number < len(parts):
            look = {"color": COLOURS[5], "linewidth": 1, "label": "one split" if number == 0 else None}
        axes.plot(100 * predicted, 100 * actual, **look)
    if parts:
        axes.legend(framealpha=0, loc="upper left")
    axes.set(xlabel="probability (%)", ylabel="accuracy (%)", xlim=(0, 102), ylim=(0, 102), aspect="equal")
    below.hist([100 * confidences[right], 100 * confidences[~right]], 100 * edges, stacked=True, color=[BLUE, RED],
               label=["correct", "wrong"])  # fmt: skip
    below.set(xlabel="probability (%)", ylabel="predictions")
    below.legend(framealpha=0, loc="upper left")
    for each in (axes, below):
        each.grid(alpha=0.3)
    return figure


def draw_maps(
    points: Mapping[str, NDArray[np.float64]], speakers: NDArray[np.int64], answers: NDArray[np.int64]
) -> "Figure":
    """Draw maps of the embeddings, coloured by speaker and by prediction: correct (1), wrong (0) or not tested (-1).

    The points of map N are in the groups ``speakers-N-0`` to ``speakers-N-3`` (numbers of `speaker_marker`), and in the
    groups ``answers-N-1``, ``answers-N-0`` and ``answers-N--1`` (numbers of the predictions).
    """
    figure = new_figure(7.5, 7.2)
    grid = figure.subplots(2, len(points), squeeze=False)
    palette = np.array(COLOURS)
    for column, (name, places) in enumerate(points.items()):
        top, bottom = grid[:, column]
        top.set_title(name)
        for kind, mark in enumerate(MARKERS):
            own = speaker_marker(speakers) == kind
            colours = palette[speakers[own] % len(COLOURS)]
            top.scatter(*places[own].T, s=9, c=colours, marker=mark, linewidths=0, gid=f"speakers-{column}-{kind}")
        for kind, (label, colour, size) in ANSWERS.items():
            mark = "X" if kind == 0 else "o"
            own_places = places[answers == kind].T
            bottom.scatter(
                *own_places, s=size, c=colour, marker=mark, linewidths=0, label=label, gid=f"answers-{column}-{kind}"
            )
        for axes in (top, bottom):
            axes.set(xticks=[], yticks=[])
    legend_below(figure, grid[1, 0])
    return figure


def draw_layers(layers: Sequence[Record], best: int) -> "Figure":
    """Draw the accuracies of the layers, with a line at the selected one."""
    from matplotlib.ticker import MaxNLocator

    figure = new_figure(7, 4)
    axes = figure.subplots()
    numbers = [record["layer"] for record in layers]
    for measure, label, style in (("val_accuracy", "validation", "o-"), ("test_accuracy", "test", "s--")):
        axes.plot(numbers, [100 * record[measure] for record in layers], style, label=label)
    axes.axvline(best, color="0.6", linestyle=":", label=f"selected: layer {best}")
    axes.set(xlabel="layer (0: before the first transformer layer)", ylabel="accuracy (%)")
    title = f"{layers[0]['encoder']}, {layers[0]['features']}, head {layers[0]['head']}"
    axes.set_title(clean(title))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.legend(framealpha=0)
    return figure


def speaker_marker(speakers: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the index in `MARKERS` of each speaker's marker: the next one each time all colours are used."""
    markers: NDArray[np.int64] = speakers // len(COLOURS) % len(MARKERS)
    return markers


def short_name(name: str, length: int = 16) -> str:
    """Shorten a name so that it fits on an axis, and replace characters that cannot be printed."""
    shown = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in name)
    return shown if len(shown) <= length else shown[: length - 1] + "…"
