"""Short representations and HTML tables for notebooks."""

from dataclasses import dataclass
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
import torch

from files import fields_repr, html_table, note_of_rest, short_repr
from files.representations import MAX_CHARACTERS


class Page(HTMLParser):
    """Tags and texts of a piece of HTML; all tags must be closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.texts: list[str] = []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.open.append(tag)
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts.append(data)


@dataclass(frozen=True, eq=False)
class Vectors:
    name: str
    rows: torch.Tensor
    scores: Any
    others: list[torch.Tensor]

    __repr__ = fields_repr


def test_tensors_are_shown_by_their_type_and_shape() -> None:
    shown = repr(Vectors("a", torch.zeros(100, 3), np.zeros(7), [torch.ones(2)]))
    assert shown == "Vectors(name='a', rows=float32 (100, 3), scores=float64 (7,), others=[float32 (2,)])"


def test_representations_are_one_short_line() -> None:
    long = repr(Vectors("a" * 500, torch.zeros(1), None, [torch.ones(2)] * 500))
    for text in (long, short_repr(long, "b\n" * 500)):
        assert len(text) <= MAX_CHARACTERS
        assert "\n" not in text


def test_table_has_a_title_headings_and_notes() -> None:
    page = Page(
        html_table(["head", "acc"], [["lda", "99.8"], ["mlp", "83.9"]], "<>", title="Top", notes=["a", "b"],
                   sections={1: "by session"})
    )  # fmt: skip
    assert page.texts == ["Top", "head", "acc", "lda", "99.8", "by session", "mlp", "83.9", "a", "b"]
    assert [page.tags.count(tag) for tag in ("table", "tr", "th", "td", "li")] == [1, 4, 3, 4, 2]


def test_table_without_title_and_notes_is_the_table_alone() -> None:
    page = Page(html_table(["head"], [], "<"))
    assert (page.texts, page.tags[0], "ul" in page.tags) == (["head"], "table", False)


@pytest.mark.parametrize("place", ["title", "header", "cell", "note", "section"])
def test_text_is_escaped(place: str) -> None:
    names = {each: "<script>alert('&')</script>\udce9" if each == place else "x" for each in
             ("title", "header", "cell", "note", "section")}  # fmt: skip
    html = html_table(
        [names["header"]], [[names["cell"]]], "<",
        title=names["title"], notes=[names["note"]], sections={0: names["section"]},
    )  # fmt: skip
    assert "script" not in Page(html).tags
    assert "<script>alert('&')</script>\ufffd" in "".join(Page(html).texts)


def test_cut_tables_say_how_many_rows_there_are() -> None:
    assert note_of_rest(5, 120, "row") == ["the first 5 of 120 rows"]
    assert note_of_rest(5, 5, "row") == []
