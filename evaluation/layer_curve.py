"""How well each layer of an encoder tells speakers apart: as a table and as a picture."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from evaluation.drawing import clean, new_figure
from evaluation.records import Record, summarise
from evaluation.table import format_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def mean_by_layer(rows: Sequence[Record], encoder: str, split_by: str) -> list[Record]:
    """Return the means over seeds of an encoder's layers, in their order; None, as files have it, is taken for NaN."""
    own = [
        {key: math.nan if value is None else value for key, value in row.items()}
        for row in rows
        if row["encoder"] == encoder and row["split_by"] == split_by
    ]
    numbers = sorted({row["layer"] for row in own})
    return [summarise([row for row in own if row["layer"] == number])[0] for number in numbers]


def layer_table(layers: Sequence[Record], best: int) -> str:
    """Lay out the accuracies of the layers in percent, the one chosen by validation marked with a star."""
    lines = [
        [
            f"{record['layer']}{' *' if record['layer'] == best else ''}",
            f"{100 * record['val_accuracy']:.2f}",
            f"{100 * record['test_accuracy']:.2f}",
        ]
        for record in layers
    ]
    return format_table([f"layer ({layers[0]['head']})", "val acc", "test acc"], lines, "<>>")


def draw_layers(layers: Sequence[Record], best: int) -> "Figure":
    """Draw the accuracies over the layers."""
    from matplotlib.ticker import MaxNLocator

    figure = new_figure(7, 4)
    axes = figure.subplots()
    numbers = [record["layer"] for record in layers]
    for measure, label, style in (("val_accuracy", "validation", "o-"), ("test_accuracy", "test", "s--")):
        axes.plot(numbers, [100 * record[measure] for record in layers], style, label=label)
    axes.axvline(best, color="0.6", linestyle=":", label=f"chosen: layer {best}")
    axes.set(xlabel="layer (0: before the first transformer layer)", ylabel="accuracy (%)")
    title = f"{layers[0]['encoder']}, {layers[0]['features']}, head {layers[0]['head']}"
    axes.set_title(clean(title))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.legend(framealpha=0)
    return figure
