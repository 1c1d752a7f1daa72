"""Pictures of a corpus; those of its speakers are drawn as in the report of a training run."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from reports.drawing import COLOURS, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Number of bars of the histogram of durations.
N_BARS = 50


def draw_durations(durations: Sequence[float]) -> "Figure":
    """Draw how many utterances last how long (seconds)."""
    figure = new_figure(7.5, 2.6)
    axes = figure.subplots()
    largest = max(durations)
    axes.hist(durations, np.linspace(0, largest, N_BARS + 1).tolist(), color=COLOURS[0], rwidth=0.9)
    axes.set(xlabel="duration (s)", ylabel="utterances", xlim=(0, largest))
    axes.set_axisbelow(True)
    axes.grid(axis="y", alpha=0.3)
    return figure
