"""Pictures of a comparison of heads."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from evaluation.drawing import COLOURS, LINES, clean, legend_below, new_figure
from evaluation.records import Record

if TYPE_CHECKING:
    from matplotlib.figure import Figure


# Speakers who are named on the axes of a picture; of more the picture shows the crowd.
NAMED = 60
# Cells of a confusion from which on they are no drawing of their own each.
MANY = 5_000
# Of speakers on a map, for whom there are not colours enough.
MARKS = ("o", "^", "s", "D")
BLUE, RED = COLOURS[:2]
# Label, colour and size of points by their answer.
ANSWERS = {-1: ("not tested", "#999999", 5), 1: ("right", BLUE, 9), 0: ("wrong", RED, 26)}


def draw_confusion(cells: Sequence[Record], speakers: Sequence[str]) -> "Figure":
    """Draw for whom each speaker was taken: squares of the counts or, of many speakers, a point for each mistake."""
    from matplotlib.collections import PathCollection

    places = {name: place for place, name in enumerate(speakers)}
    true, predicted = (np.array([places[cell[key]] for cell in cells]) for key in ("speaker", "predicted"))
    counts = np.array([int(cell["count"]) for cell in cells])
    size = len(speakers)
    figure = new_figure(7.5, 7.5)
    axes = figure.subplots()
    axes.set(xlabel="named", ylabel="speaker", aspect="equal", xlim=(-0.7, size - 0.3), ylim=(size - 0.3, -0.7))
    right = true == predicted
    scale = (250 / size) ** 2 if size <= NAMED else 24.0
    many = len(cells) > MANY  # as an image within the drawing, which would be too large otherwise
    for kind, mark, colour, label in ((right, "s", BLUE, "right"), (~right, "D", RED, "wrong")):
        largest = counts.max(initial=1) if size <= NAMED else counts[kind].max(initial=1)
        sizes = np.maximum(scale * counts[kind] / largest, 4)
        axes.scatter(
            predicted[kind], true[kind], sizes, c=colour, marker=mark, linewidths=0, label=label, rasterized=many
        )
    if size <= NAMED:
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_ticks(
                range(size), [_short(name) for name in speakers], fontsize=max(4, min(9, 300 / size)), parse_math=False
            )
        axes.tick_params("x", rotation=90)
    else:
        axes.set(xlabel="named (number)", ylabel="speaker (number)")
    legend = axes.legend(loc="upper left", bbox_to_anchor=(0, 1.07), ncols=2, framealpha=0)
    for handle in legend.legend_handles:
        if isinstance(handle, PathCollection):
            handle.set_sizes([30.0])  # not those of the counts
    return figure


def draw_speakers(records: Sequence[Record]) -> "Figure":
    """Draw the accuracy of each speaker, the worst first, or of many speakers how it is spread."""
    shares = np.array([float(record["accuracy"]) for record in records])
    if len(records) <= NAMED:
        figure = new_figure(7.5, 1 + 0.15 * len(records))
        axes = figure.subplots()
        axes.barh(range(len(records)), 100 * shares, color=np.where(shares < 1, RED, BLUE), height=0.7)
        names = [_short(record["speaker"]) for record in records]
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
    """Draw how often answers are right over how probable they were said to be, in each split and in all."""
    figure = new_figure(7.5, 3.4)
    axes, below = figure.subplots(1, 2)
    edges = np.linspace(0, 1, 11)
    axes.plot([0, 100], [0, 100], color="0.5", linewidth=1)
    parts = [splits == split for split in np.unique(splits)] * (len(np.unique(splits)) > 1)
    for number, part in enumerate([*parts, np.ones(len(right), bool)]):
        bins = np.clip(np.digitize(confidences[part], edges) - 1, 0, 9)
        counts = np.bincount(bins, minlength=10)
        said, true = (
            np.bincount(bins, values[part], 10)[counts > 0] / counts[counts > 0] for values in (confidences, right)
        )
        look: Record = {"color": BLUE, "marker": "o", "label": "all"}
        if number < len(parts):
            look = {"color": COLOURS[5], "linewidth": 1, "label": "one split" if number == 0 else None}
        axes.plot(100 * said, 100 * true, **look)
    if parts:
        axes.legend(framealpha=0, loc="upper left")
    axes.set(xlabel="probability that was given (%)", ylabel="right (%)", xlim=(0, 102), ylim=(0, 102), aspect="equal")
    below.hist([100 * confidences[right], 100 * confidences[~right]], 100 * edges, stacked=True, color=[BLUE, RED],
               label=["right", "wrong"])  # fmt: skip
    below.set(xlabel="probability that was given (%)", ylabel="answers")
    below.legend(framealpha=0, loc="upper left")
    for each in (axes, below):
        each.grid(alpha=0.3)
    return figure


def draw_maps(
    points: Mapping[str, NDArray[np.float64]], speakers: NDArray[np.int64], answers: NDArray[np.int64]
) -> "Figure":
    """Draw maps of the embeddings, coloured by speaker, and by right (1), wrong (0) and not tested (-1).

    The points of map N are, by `speaker_mark`, in the groups ``speakers-N-0`` to ``speakers-N-3`` and, by their answer,
    in ``answers-N-1``, ``answers-N-0`` and ``answers-N--1``.
    """
    figure = new_figure(7.5, 7.2)
    grid = figure.subplots(2, len(points), squeeze=False)
    palette = np.array(COLOURS)
    for column, (name, places) in enumerate(points.items()):
        top, bottom = grid[:, column]
        top.set_title(name)
        for kind, mark in enumerate(MARKS):
            own = speaker_mark(speakers) == kind
            colours = palette[speakers[own] % len(COLOURS)]
            top.scatter(*places[own].T, s=9, c=colours, marker=mark, linewidths=0, gid=f"speakers-{column}-{kind}")
        for kind, (label, colour, size) in ANSWERS.items():
            mark = "X" if kind == 0 else "o"
            chosen = places[answers == kind].T
            bottom.scatter(
                *chosen, s=size, c=colour, marker=mark, linewidths=0, label=label, gid=f"answers-{column}-{kind}"
            )
        for axes in (top, bottom):
            axes.set(xticks=[], yticks=[])
    legend_below(figure, grid[1, 0])
    return figure


def speaker_mark(speakers: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the number in `MARKS` of each speaker's mark: another after each round of the colours."""
    marks: NDArray[np.int64] = speakers // len(COLOURS) % len(MARKS)
    return marks


def _short(name: str) -> str:
    """Shorten a name to what an axis has room for, in letters that a font has."""
    shown = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in name)
    return shown if len(shown) <= 16 else shown[:15] + "…"
