"""TextGrid files of Praat: the long and the short format, encodings, and files that cannot be read."""

import logging
from pathlib import Path

import pytest

from corpora import CorpusError, RttmSegment
from corpora.text_grid import read_text_grid

Tier = tuple[str, list[tuple[float, float, str]]]
TIERS: list[Tier] = [
    ("001-M", [(0.0, 1.5, ""), (1.5, 4.25, "你好 <sil>"), (4.25, 9.0, "  ")]),
    ("Zoë B", [(0.0, 2.0, 'says "1.5" !\nand more'), (2.0, 9.0, "")]),
]
EXPECTED = [RttmSegment("day_1", "001-M", 1.5, 2.75), RttmSegment("day_1", "Zoë B", 0.0, 2.0)]


def long_format(tiers: list[Tier]) -> str:
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "xmin = 0 ", "xmax = 9 ", "tiers? <exists> "]
    lines += [f"size = {len(tiers)} ", "item []: "]
    for number, (name, intervals) in enumerate(tiers, 1):
        lines += [f"    item [{number}]:", '        class = "IntervalTier" ', f'        name = "{name}" ']
        lines += ["        xmin = 0 ", "        xmax = 9 ", f"        intervals: size = {len(intervals)} "]
        for place, (start, end, text) in enumerate(intervals, 1):
            lines += [f"        intervals [{place}]:", f"            xmin = {start} ", f"            xmax = {end} "]
            lines += ['            text = "{}" '.format(text.replace('"', '""'))]
    return "\n".join([*lines, ""])


def short_format(tiers: list[Tier]) -> str:
    """Return the short format, with a comment and a tier of points, which is no speaker."""
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", '! a "comment"', "0", "9", "<exists>"]
    lines += [str(len(tiers) + 1), '"TextTier"', '"bell"', "0", "9", "1", "3.5", '"rings"']
    for name, intervals in tiers:
        lines += ['"IntervalTier"', f'"{name}"', "0", "9", str(len(intervals))]
        for start, end, text in intervals:
            lines += [str(start), str(end), '"{}"'.format(text.replace('"', '""'))]
    return "\n".join(lines)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_intervals_with_a_text_are_segments(encoding: str, line_end: str, tmp_path: Path) -> None:
    path = tmp_path / "day 1.TextGrid"
    for text in (long_format(TIERS), short_format(TIERS)):
        path.write_bytes(text.replace("\n", line_end).encode(encoding))
        assert read_text_grid(path) == EXPECTED
        lines = text.split("\n")
        assert ["你好" in lines[segment.line] for segment in read_text_grid(path)] == [True, False]


def test_a_file_without_tiers_has_no_segment(tmp_path: Path) -> None:
    path = tmp_path / "a.TextGrid"
    path.write_text('"ooTextFile"\n"TextGrid"\n0\n9\n<absent>\n')
    assert read_text_grid(path) == []


def test_impossible_times_are_skipped_and_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "a.TextGrid"
    path.write_text(long_format([("ann", [(-1.0, 2.0, "x"), (2.0, 2.0, "y"), (3.0, 4.0, "z")])]))
    assert read_text_grid(path) == [RttmSegment("a", "ann", 3.0, 1.0)]
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage().startswith(f"{path}: skipped 2 intervals with impossible times: line 18 (-1 s to 2 s), ")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (long_format(TIERS)[:600], "it ends too early"),
        (long_format(TIERS).replace("xmax = 4.25", 'xmax = "4.25"'), r"line 21 has '4\.25' instead of a number"),
        (long_format(TIERS).replace('"IntervalTier"', '"PitchTier"'), "a tier of the class 'PitchTier'"),
        (short_format(TIERS).replace('"bell"', "5"), "line 10 has the number 5 instead of a text"),
        (short_format(TIERS).replace("<exists>\n3", "<exists>\n1e999"), "infinity"),
        ('"ooTextFile"\n"Pitch"\n0\n9\n', "not the type and the class of a TextGrid"),
        ("path,speaker\n", "this is not a TextGrid file of Praat, saved as text; it is a manifest"),
        ("", "TextGrid"),
    ],
)
def test_another_file_is_refused(text: str, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "a.TextGrid"
    path.write_text(text)
    with pytest.raises(CorpusError, match=reason) as caught:
        read_text_grid(path)
    assert str(path) in str(caught.value)
