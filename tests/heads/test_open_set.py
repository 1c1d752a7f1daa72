"""Open-set identification: the log-odds, and the description of error rates."""

import math
from typing import Any

import numpy as np
import pytest

from heads import describe_open_set, log_odds
from heads.open_set import check_open_set

FIGURES = {
    "by": "probability",
    "n_unknown": 12,
    "split_by": "session",
    "seed": 0,
    "unknown_accepted": 0.05,
    "unknown_accepted_low": 0.02,
    "unknown_accepted_high": 0.11,
    "known_rejected": 0.25,
    "known_rejected_low": 0.125,
    "known_rejected_high": 0.5,
    "dir_at_far_0.01": 0.875,
}


def test_log_odds_are_those_of_the_highest_probability() -> None:
    logits = np.log([[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]]).astype(np.float32)
    np.testing.assert_allclose(log_odds(logits + 7), [0.0, math.log(4)], atol=1e-5)


def test_log_odds_do_not_saturate() -> None:
    logits = np.array([[200.0, 0.0, 0.0], [300.0, 0.0, 0.0], [0.0, 0.0, 1.0]], np.float32)
    found = log_odds(logits)
    assert found[1] > found[0] > found[2]  # in float32 the first two probabilities are 1
    assert found[2] == pytest.approx(np.log(np.e / 2))


def test_description_names_the_error_rates_and_the_score() -> None:
    unknown, known, rate = describe_open_set(FIGURES)
    assert unknown.startswith("unknown speakers (12 held out in turn, probabilities): 5.0 % falsely accepted")
    assert "95 % CI 2.0 to 11.0" in unknown
    assert known.startswith("known speakers in new sessions: 25.0 % falsely rejected")
    assert "95 % CI 12.5 to 50.0" in known
    known = describe_open_set({**FIGURES, "split_by": "utterance"})[1]
    assert (
        known == "known speakers: 25.0 % falsely rejected (95 % CI 12.5 to 50.0), which holds for the same session only"
    )
    assert rate.endswith("87.5 %")
    assert "plda scores" in describe_open_set({**FIGURES, "by": "plda"})[0]


def test_no_figures_have_no_description() -> None:
    assert describe_open_set(None) == describe_open_set({}) == []


@pytest.mark.parametrize(
    "change", [{"unknown_accepted": "many"}, {"dir_at_far_0.01": None}, {"by": None}, {"n_unknown": 1.5}]
)
def test_figures_of_another_type_are_refused(change: dict[str, Any]) -> None:
    check_open_set({})
    check_open_set(FIGURES)
    with pytest.raises(ValueError, match="its open-set figures"):
        check_open_set({**FIGURES, **change})
