"""Fixtures of the reports: a parser of pages, a saved comparison, and names that could break a page."""

import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

from evaluation import compare_heads, save_embedding_map
from features import FeatureSet
from reports import write_report

MadeUp = Callable[..., FeatureSet]
VOID = {"meta", "br", "img"}


class Page(HTMLParser):
    """Elements, text and tables of a page; each element must be closed in order.

    Attributes
    ----------
    elements : list of (str, dict)
        Tags with their attributes.
    text : str
        Text with single spaces.
    titles : dict
        For each group of an SVG picture, the titles of its points.
    """

    def __init__(self, content: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.titles: dict[str, list[str]] = {}
        self._open: list[str] = []
        self._texts: list[str] = []
        self._tables: list[list[list[tuple[str, str | None]]]] = []
        self._groups: list[str] = []
        self.feed(content)
        self.close()
        assert not self._open
        self.text = " ".join(" ".join(self._texts).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)
        if tag == "table":
            self._tables.append([])
        if tag == "tr":
            self._tables[-1].append([])
        if tag in ("td", "th"):
            self._tables[-1][-1].append(("", dict(attrs).get("data-value")))
        if tag == "g":
            self._groups.append(dict(attrs).get("id") or "")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag
        if tag == "g":
            self._groups.pop()

    def handle_data(self, data: str) -> None:
        self._texts.append(data)
        if self._open and self._open[-1] in ("td", "button"):
            shown, value = self._tables[-1][-1][-1]
            self._tables[-1][-1][-1] = (shown + data, value)
        if self._open and self._open[-1] == "title" and self._groups:
            group = next(name for name in reversed(self._groups) if name)
            self.titles.setdefault(group, []).append(data)

    def tags(self) -> list[str]:
        return [tag for tag, _ in self.elements]

    def column(self, header: str, first: str) -> list[tuple[str, str | None]]:
        """Return the text and the sort value of a column's cells, in the table with this first heading."""
        own = next(table for table in self._tables if table[0][0][0] == first)
        place = [shown for shown, _ in own[0]].index(header)
        return [row[place] for row in own[1:]]


@pytest.fixture(scope="session")
def read_page() -> Callable[[Path], Page]:
    """Return a function that parses a page, and checks that it loads nothing and runs its own script only."""

    def read(path: Path) -> Page:
        content = path.read_text(encoding="utf-8")
        page = Page(content)
        assert page.tags().count("script") == 1
        for tag, attributes in page.elements:
            assert not [name for name in attributes if name.startswith("on")]
            for name in ("src", "href", "xlink:href", "action", "srcset"):
                value = attributes.get(name) or "#"
                is_download = tag == "a" and "download" in attributes and "/" not in value
                assert value.startswith(("#", "data:")) or (is_download and (path.parent / value).is_file())
        ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
        assert len(ids) == len(set(ids))
        styles = " ".join(str(attributes.get("style")) for _, attributes in page.elements) + content
        assert not re.search(r"url\((?!#)|@import|<link|<iframe|<object", styles)
        return page

    return read


@pytest.fixture(scope="session")
def save_comparison() -> Callable[..., Path]:
    """Return a function that compares heads, saves the comparison in a folder, and writes its report."""

    def save(features: FeatureSet, folder: Path, heads: tuple[str, ...] = ("linear", "lda")) -> Path:
        comparison = compare_heads(features, heads, seeds=2, options={"epochs": 5})
        comparison.save(folder, "corpus", "python script.py --data_dir <&>")
        save_embedding_map(folder / "embedding_map.csv", comparison.classifier, [features])
        return write_report(folder)

    return save


@pytest.fixture(scope="session")
def saved(made_up: MadeUp, save_comparison: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a comparison with its report."""
    folder = tmp_path_factory.mktemp("report")
    save_comparison(made_up(), folder)
    return folder


@pytest.fixture(scope="session")
def hostile() -> tuple[str, ...]:
    """Return names that could run as scripts, break a page, or have no glyphs."""
    return (
        "<script>alert(1)</script>", '" onmouseover="alert(2)', "</svg><img src=x onerror=alert(3)>", "$x^{2$",
        "&lt;b&gt;", "a\x00b\x1b[31m", "\udcff", "]]>", "李雷", "{x} %s", "javascript:alert(4)", "O'Brien\n",
    )  # fmt: skip
