"""Notes under the table of a comparison of heads: one line each, without control characters."""

from collections.abc import Callable
from dataclasses import replace

from evaluation import compare_heads
from features import FeatureSet

MadeUp = Callable[..., FeatureSet]


def test_each_note_is_one_line(made_up: MadeUp) -> None:
    comparison = compare_heads(made_up(shift=4.0), ["linear", "lda"], seeds=2, ensemble=True, options={"epochs": 5})
    lines = comparison.table().splitlines()
    assert lines[-len(comparison.notes) :] == comparison.notes
    assert len(comparison.notes) >= 6
    assert "small test set: one of its 24 utterances changes the accuracy by 4.2 points" in comparison.notes


def test_nothing_is_cut(made_up: MadeUp) -> None:
    encoder = "a" * 150
    comparison = compare_heads(made_up(n_sessions=1, encoder=encoder), ["lda"])
    leak = "3 recordings: " + "a/long/path.wav, " * 20
    lines = replace(comparison, leaks=[leak]).table().splitlines()
    assert lines[-1] == leak
    assert f"[{encoder}, split by utterance: 192 train, 24 validation, 24 test utterances]" in lines


def test_names_cannot_control_the_terminal(made_up: MadeUp) -> None:
    names = ("\x1b]0;PWN\x07\x1b[31m0", *(f"speaker {number}" for number in range(1, 12)))
    one = replace(made_up(n_sessions=1, encoder="a" * 60), speakers=names)
    other = replace(made_up(n_sessions=1, seed=1, encoder="b" * 70), labels=one.labels, speakers=names)
    comparison = compare_heads([one, other], ["lda"], ensemble=True)
    lines = replace(comparison, untested={"session": names}).table().splitlines()
    assert any(line.startswith("not tested by the split by session: 12 speakers (") for line in lines)
    assert any(line.endswith("train, 24 validation, 24 test utterances]") for line in lines)
    assert all(line.isprintable() for line in lines)
