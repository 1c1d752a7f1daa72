"""Picture of who speaks when, with the waveform."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from heads import UNKNOWN
from reports.comparison_pictures import short_name
from reports.drawing import COLOURS, new_figure
from verification import Turn, turns_by_speaker

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Approximate lengths of the panels of the picture (seconds); the shortest one is used that makes at most `MAX_PANELS`.
PANEL_SECONDS = (30, 60, 120, 300, 600, 1800, 3600)
MAX_PANELS = 6
# Number of points of the waveform in a panel.
PANEL_POINTS = 800
# Height of the waveform, in rows of speakers, and height of such a row (inches).
WAVEFORM_ROWS, ROW_HEIGHT = 2.0, 0.2
# Distances of the ticks (seconds); the shortest one is used that makes at most about `MAX_TICKS` in a panel.
TICK_SECONDS = (0.1, 0.5, 1, 5, 10, 30, 60, 120, 300, 600)
MAX_TICKS = 8
UNKNOWN_COLOUR = "0.6"


def panel_bounds(seconds: float) -> list[tuple[float, float]]:
    """Return the start and end (seconds) of each panel; the panels have equal lengths."""
    length = next((each for each in PANEL_SECONDS if seconds <= MAX_PANELS * each), seconds / MAX_PANELS)
    count = max(math.ceil(seconds / length - 0.1), 1)
    return [(number * seconds / count, (number + 1) * seconds / count) for number in range(count)]


def draw_timeline(
    turns: Sequence[Turn], envelope: NDArray[np.float32], seconds: float
) -> tuple["Figure", dict[str, list[str]]]:
    """Draw the waveform of a recording, and below it the turns of each speaker, in panels of equal length.

    Parameters
    ----------
    turns : sequence of Turn
    envelope : ndarray (points, 2)
        Lowest and highest samples of equal parts of the recording.
    seconds : float
        Length of the recording (seconds).

    Returns
    -------
    Figure
    dict
        Texts of the turns, for `to_svg`.
    """
    ranked = list(turns_by_speaker(turns))
    colours = {speaker: COLOURS[number % len(COLOURS)] for number, speaker in enumerate(ranked)}
    colours[UNKNOWN] = UNKNOWN_COLOUR
    panels = panel_bounds(seconds)
    # A panel has a row for each speaker who speaks in it.
    drawn = [[turn for turn in turns if turn.start < end and start < turn.end] for start, end in panels]
    speakers = [[each for each in ranked if any(turn.speaker == each for turn in own)] for own in drawn]
    heights = [ROW_HEIGHT * (WAVEFORM_ROWS + len(rows)) for rows in speakers]
    figure = new_figure(7.5, sum(heights) + 0.35 * len(panels) + 0.2)
    grid = figure.subplots(len(panels), squeeze=False, gridspec_kw={"height_ratios": heights})[:, 0]
    titles: dict[str, list[str]] = {}
    for number, (axes, (start, end)) in enumerate(zip(grid, panels, strict=True)):
        _draw_waveform(axes, envelope, seconds, bounds=(start, end))
        for row, speaker in enumerate(speakers[number]):
            own = [turn for turn in drawn[number] if turn.speaker == speaker]
            gid = f"turns-{number}-{row}"
            titles[gid] = [f"{speaker}, {clock(turn.start, 1)} to {clock(turn.end, 1)}" for turn in own]
            spans = [(turn.start, turn.end - turn.start) for turn in own]
            axes.broken_barh(
                spans, (WAVEFORM_ROWS + row + 0.12, 0.76), facecolors=colours[speaker], linewidth=0, gid=gid
            )
        places = WAVEFORM_ROWS + 0.5 + np.arange(len(speakers[number]))
        axes.set_yticks(places, [short_name(each) for each in speakers[number]], fontsize=8, parse_math=False)
        axes.set(xlim=(start, end), ylim=(WAVEFORM_ROWS + len(speakers[number]), 0))
        step = next((each for each in TICK_SECONDS if end - start <= MAX_TICKS * each), (end - start) / MAX_TICKS)
        axes.set_xticks(np.arange(math.ceil(start / step), end / step + 1e-6) * step)
        axes.xaxis.set_major_formatter(lambda second, _: clock(second))
        axes.tick_params(axis="x", labelsize=8)
        axes.tick_params(axis="y", length=0)
        axes.spines[["top", "left", "right"]].set_visible(False)
        axes.grid(axis="x", alpha=0.3)
        axes.set_axisbelow(True)
    return figure, titles


def clock(seconds: float, digits: int = 0) -> str:
    """Format a time as minutes and seconds, and hours if there are any.

    Examples
    --------
    >>> clock(75.25), clock(75.25, 1), clock(3600)
    ('1:15', '1:15.2', '1:00:00')
    """
    minutes, rest = divmod(round(seconds, digits), 60)
    hours, minutes = divmod(int(minutes), 60)
    shown = f"{rest:0{3 + digits if digits else 2}.{digits}f}"
    return f"{hours}:{minutes:02d}:{shown}" if hours else f"{minutes}:{shown}"


def _draw_waveform(axes: "Axes", envelope: NDArray[np.float32], seconds: float, *, bounds: tuple[float, float]) -> None:
    """Draw the part of the waveform that is in a panel, at one scale for all panels."""
    times = (np.arange(len(envelope)) + 0.5) * seconds / len(envelope)
    inside = (times >= bounds[0]) & (times < bounds[1])
    scale = 0.48 * WAVEFORM_ROWS / max(float(np.abs(envelope).max(initial=0.0)), 1e-9)
    low, high = (WAVEFORM_ROWS / 2 - scale * envelope[inside, side] for side in (0, 1))
    axes.fill_between(times[inside], low, high, color="0.5", linewidth=0.3)
