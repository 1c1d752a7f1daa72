"""The style of the pictures, and their output as PNG files and as SVG inside a page."""

import io
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from xml.etree import ElementTree

from files import write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Colours of Okabe and Ito (2008), distinguishable for colour-blind readers, in print, and on white and black: blue,
# vermilion, green, purple, orange, sky.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
LINES = ("-", "--", "-.", ":", (0, (6, 1, 1, 1, 1, 1)))
# Maximum length of a name in a legend.
MAX_LABEL = 40
PictureFormat = Literal["png", "pdf", "svg"]
# Options of matplotlib for each format. Without dates, the same figure always gives the same file.
FORMATS: dict[PictureFormat, dict[str, Any]] = {
    "png": {},
    "pdf": {"metadata": {"CreationDate": None}},
    "svg": {"metadata": {"Date": None}},
}
SVG, XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"


def new_figure(width: float, height: float) -> "Figure":
    """Make an empty figure of the given size (inches)."""
    from matplotlib.figure import Figure  # not pyplot: no window, no state

    return Figure(figsize=(width, height), layout="constrained")


def legend_below(figure: "Figure", *axes: "Axes") -> None:
    """Put one legend of all axes below a figure, in as many columns as fit; each label is listed once."""
    named: dict[str, Any] = {}
    for each in axes:
        for handle, label in zip(*each.get_legend_handles_labels(), strict=True):
            named.setdefault(label, handle)
    handles = list(named.values())
    labels = [label if len(label) <= MAX_LABEL else f"{label[: MAX_LABEL - 1]}…" for label in named]
    columns = max(int(12 * figure.get_figwidth() / (max(map(len, labels)) + 7)), 1)
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False)


def save_figure(path: Path, figure: "Figure", form: PictureFormat = "png") -> Path:
    """Write a figure of matplotlib to a file, atomically, and return its path.

    Raises
    ------
    OutputError
        The file cannot be written.
    """
    import matplotlib

    image = io.BytesIO()
    # Type 42 embeds TrueType fonts in PDF files, as many publishers require. The salt is explained in `to_svg`.
    with matplotlib.rc_context({"pdf.fonttype": 42, "svg.hashsalt": path.stem}):
        _draw(figure, image, format=form, dpi=150, **FORMATS[form])
    return write_atomically(path, lambda file: file.write(image.getvalue()))


def to_svg(
    figure: "Figure",
    name: str,
    *,
    label: str,
    titles: Mapping[str, Sequence[str]] | None = None,
    max_width: str | None = None,
) -> str:
    """Return a figure as an ``svg`` element for a page, without a background, and with text in the page's colour.

    Parameters
    ----------
    figure : Figure
    name : str
        Prefix of all ids, so that ids of several figures on a page differ.
    label : str
        Description of the figure for screen readers.
    titles : mapping, optional
        For the ``gid`` of a collection, the text that is shown for each of its points on hovering.
    max_width : str, optional
        Maximum width with its CSS unit; by default, the figure is as wide as the element that it is in.
    """
    import matplotlib

    text = io.StringIO()
    # "none" keeps text as text. The salt makes the ids the same each time; they are random otherwise.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        _draw(figure, text, format="svg", transparent=True, metadata={"Date": None})
    ElementTree.register_namespace("", SVG)
    ElementTree.register_namespace("xlink", XLINK)
    root = ElementTree.fromstring(text.getvalue())
    for gid, points in (titles or {}).items():
        group = root.find(f".//{{{SVG}}}g[@id='{gid}']")
        # Matplotlib writes many points as `use` elements, and a few as `path` elements.
        drawn = [] if group is None else list(group.iter(f"{{{SVG}}}use")) or list(group.iter(f"{{{SVG}}}path"))
        for element, title in zip(drawn, points, strict=True):
            ElementTree.SubElement(element, f"{{{SVG}}}title").text = _printable(title)
    for size in ("width", "height"):
        root.attrib.pop(size)
    # Matplotlib leaves out the colour of what is filled with black, such as text.
    root.attrib |= {"role": "img", "aria-label": _printable(label), "stroke-linejoin": "round", "fill": "currentColor"}
    if max_width is not None:
        root.set("style", f"width: 100%; max-width: {max_width}; height: auto")
    _rewrite(root, name)
    return ElementTree.tostring(root, encoding="unicode")


def _rewrite(root: ElementTree.Element, name: str) -> None:
    """Prefix all ids with a name, and replace black with the page's text colour."""
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in (f"{{{SVG}}}metadata", f"{{{SVG}}}style"):  # a style would apply to the whole page
                parent.remove(child)
    for element in root.iter():
        for key, value in element.attrib.items():
            if key == "id":
                value = f"{name}-{value}"
            elif key == f"{{{XLINK}}}href":
                value = value.replace("#", f"#{name}-", 1)
            if key != "aria-label":
                element.set(key, value.replace("url(#", f"url(#{name}-").replace("#000000", "currentColor"))


def clean(text: str) -> str:
    """Escape text that matplotlib would interpret in a title or a legend."""
    shown = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)
    escaped = shown.replace("$", r"\$")
    return f" {escaped}" if shown.startswith("_") else escaped


def _draw(figure: "Figure", file: io.BytesIO | io.StringIO, **options: Any) -> None:
    with warnings.catch_warnings():
        # Names may have characters that the font of PNG files lacks; the page uses the reader's fonts.
        warnings.filterwarnings("ignore", "Glyph .* missing")
        figure.savefig(file, **options)


def _printable(text: str) -> str:
    """Replace characters that XML does not allow."""
    return re.sub(r"[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "\N{REPLACEMENT CHARACTER}", text)
