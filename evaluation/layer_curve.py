"""How well each layer of an encoder tells speakers apart: as a table and as a picture."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from evaluation.drawing import clean, new_figure, save_figure
from evaluation.records import Record
from evaluation.table import format_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure


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


def save_layer_curve(path: Path, layers: Sequence[Record], best: int) -> Path:
    """Draw the accuracies over the layers into a PNG file; returns its path.

    Raises
    ------
    OutputError
        The file cannot be written.
    """
    return save_figure(path, draw_layers(layers, best))


def draw_layers(layers: Sequence[Record], best: int) -> "Figure":
    """Draw the accuracies over the layers."""
    figure = new_figure(7, 4)
    axes = figure.subplots()
    numbers = [record["layer"] for record in layers]
    for measure, label, style in (("val_accuracy", "validation", "o-"), ("test_accuracy", "test", "s--")):
        axes.plot(numbers, [100 * record[measure] for record in layers], style, label=label)
    axes.axvline(best, color="0.6", linestyle=":", label=f"chosen: layer {best}")
    axes.set(xlabel="layer (0: before the first transformer layer)", ylabel="accuracy (%)")
    title = f"{layers[0]['encoder']}, {layers[0]['features']}, head {layers[0]['head']}"
    axes.set_title(clean(title))
    axes.set_xticks(numbers)
    axes.grid(alpha=0.3)
    axes.legend(framealpha=0)
    return figure
