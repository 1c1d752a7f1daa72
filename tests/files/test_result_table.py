"""Tables of results as plain text, Markdown and LaTeX."""

import doctest
import importlib
import re
from pathlib import Path

import pytest

from files import Table, TableFormat, write_tables

MODULE = importlib.import_module("files.result_table")
HOSTILE = ("a|b", "a_b & 50 % {x} $y^2$ #1 ~ \\end{table}", "[b]*", "<script>", "`c`", "a\x1b\nb\udcff", "李雷")


def table(**changes: object) -> Table:
    given = {
        "title": "Heads of a_b",
        "header": ["head", "test acc", "95 % interval"],
        "rows": [["lda *", "99.71 ±0.2", "99.3 - 100.0"], ["bn_mlp", "88.60", "80.0 - 89.3"]],
        "align": "<>>",
        "sections": {0: "[a, split by utterance]", 1: "[b, split by utterance]"},
        "notes": ["* selected by validation accuracy", "lda vs bn_mlp: +14.9 points, significant"],
    }
    return Table(**{**given, **changes})  # type: ignore[arg-type]


def test_plain_text_has_sections_and_notes() -> None:
    assert table().text().splitlines() == [
        "head      test acc  95 % interval",
        "------  ----------  -------------",
        "[a, split by utterance]",
        "lda *   99.71 ±0.2   99.3 - 100.0",
        "[b, split by utterance]",
        "bn_mlp       88.60    80.0 - 89.3",
        "* selected by validation accuracy",
        "lda vs bn_mlp: +14.9 points, significant",
    ]


def test_markdown_has_a_table_for_each_section() -> None:
    assert table().text("markdown").split("\n\n") == [
        r"**\[a, split by utterance\]**",
        "| head | test acc | 95 % interval |\n|---|--:|--:|\n| lda \\* | 99.71 ±0.2 | 99.3 - 100.0 |",
        r"**\[b, split by utterance\]**",
        "| head | test acc | 95 % interval |\n|---|--:|--:|\n| bn\\_mlp | 88.60 | 80.0 - 89.3 |",
        "- \\* selected by validation accuracy\n- lda vs bn\\_mlp: +14.9 points, significant",
    ]


def test_latex_has_the_rules_of_booktabs() -> None:
    lines = [line.strip() for line in table().text("latex").splitlines()]
    body = lines[lines.index(r"\begin{tabular}{lrr}") + 1 : lines.index(r"\end{tabular}")]
    assert body == [
        r"\toprule",
        r"head & test acc & 95 \% interval \\",
        r"\midrule",
        r"\multicolumn{3}{l}{{[}a, split by utterance]} \\",
        r"lda {*} & 99.71 $\pm$0.2 & 99.3 -- 100.0 \\",
        r"\midrule",
        r"\multicolumn{3}{l}{{[}b, split by utterance]} \\",
        r"bn\_mlp & 88.60 & 80.0 -- 89.3 \\",
        r"\bottomrule",
    ]
    assert r"\caption{Heads of a\_b}" in lines
    assert r"{*} selected by validation accuracy\par" in lines


def check_latex(text: str) -> None:
    """Check that environments and braces are balanced, and that nothing but the known commands is used."""
    text = re.sub(r"^%.*\n", "", text)
    open_environments: list[str] = []
    for command, name in re.findall(r"\\(begin|end)\{(\w+)\}", text):
        if command == "begin":
            open_environments.append(name)
        else:
            assert open_environments.pop() == name
    assert open_environments == []
    commands = set(re.findall(r"\\([A-Za-z]+)", text))
    assert commands <= {
        "begin", "end", "centering", "small", "caption", "toprule", "midrule", "bottomrule", "multicolumn", "medskip",
        "linewidth", "footnotesize", "par", "pm", "textbackslash", "textasciitilde", "textasciicircum", "textless",
        "textgreater", "textbar",
    }  # fmt: skip
    bare = re.sub(r"\\[\\{}$&%#_]", "", text)
    depth = 0
    for letter in bare:
        depth += {"{": 1, "}": -1}.get(letter, 0)
        assert depth >= 0
    assert depth == 0
    assert not re.search(r"[%#_^~<>|]", bare)
    assert re.findall(r"\$[^$]*\$", bare) == [r"$\pm$"] * bare.count(r"\pm")


@pytest.mark.parametrize("name", HOSTILE)
def test_names_cannot_break_a_format(name: str) -> None:
    rows = [[name, "1", name], [name, "2", name]]
    hostile = table(title=name, rows=rows, sections={0: name, 1: name}, notes=[name])
    latex = hostile.text("latex")
    check_latex(latex)
    inside = latex[latex.index(r"\toprule") : latex.index(r"\bottomrule")]
    rows_found = [line for line in inside.splitlines() if line.endswith(r"\\") and "multicolumn" not in line]
    assert [len(re.findall(r"(?<!\\)&", line)) for line in rows_found] == [2, 2, 2]
    for line in hostile.text("markdown").splitlines():
        if line.startswith("|"):
            assert len(re.findall(r"(?<!\\)\|", line)) == 4
        assert line.isprintable()


def test_tables_are_written_to_the_file_of_their_format(tmp_path: Path) -> None:
    formats: tuple[tuple[TableFormat, str], ...] = (("markdown", "table.md"), ("latex", "table.tex"))
    for form, name in formats:
        assert write_tables(tmp_path, ["one ±", "two"], form) == [tmp_path / name]
        assert (tmp_path / name).read_text(encoding="utf-8") == "one ±\n\ntwo\n"
    assert write_tables(tmp_path, ["one"], "plain") == []
    assert len(list(tmp_path.iterdir())) == 2


def test_examples_in_docstrings_hold() -> None:
    results = doctest.testmod(MODULE)
    assert results.attempted == 2
    assert results.failed == 0
