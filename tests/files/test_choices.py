"""Names and values that a user selects, and the messages that refuse invalid ones."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from files import InputError, check_options, load_choice, unknown_choice


class ToyError(InputError):
    """Error of the toy room."""


def test_unknown_choice_lists_the_closest_and_all_names() -> None:
    assert unknown_choice("head", "ldaa", ["linear", "lda"]) == (
        "There is no head 'ldaa'; perhaps you meant 'lda'. Choose one of: linear, lda."
    )


def test_unknown_choice_without_a_close_name_only_lists() -> None:
    assert unknown_choice("head", "xyz", ("linear", "lda")) == "There is no head 'xyz'. Choose one of: linear, lda."


def test_unknown_choice_names_the_owner() -> None:
    sentence = unknown_choice("option", "c", {"C": float}, owner="The head 'logistic'")
    assert sentence == "The head 'logistic' has no option 'c'. Choose one of: C."


def test_unknown_choice_without_valid_names_has_no_list() -> None:
    assert "Choose" not in unknown_choice("speaker", "anna", [])


def test_unknown_choice_lists_at_most_max_listed_names() -> None:
    names = [f"speaker {number}" for number in range(5)]
    assert unknown_choice("speaker", "x", names, max_listed=2).endswith("Valid names include: speaker 0, speaker 1.")
    assert unknown_choice("speaker", "x", names, max_listed=5).endswith("speaker 3, speaker 4.")
    # The closest name is given even if it is not listed.
    assert "perhaps you meant 'speaker 4'" in unknown_choice("speaker", "speaker 44", names, max_listed=1)
    assert unknown_choice("speaker", "x", [str(number) for number in range(1000)]).count(",") == 99


def test_unknown_choice_gives_the_advice_if_names_are_missing() -> None:
    names, advice = ["anna", "ben"], "The command list shows all."
    assert unknown_choice("speaker", "x", names, max_listed=1, advice=advice).endswith("include: anna. " + advice)
    assert unknown_choice("speaker", "x", [], advice=advice).endswith("There are none to choose from. " + advice)
    assert unknown_choice("speaker", "x", names, advice=advice).endswith("Choose one of: anna, ben.")


def test_load_choice_imports_the_attribute() -> None:
    assert load_choice("path", "plain", {"plain": "pathlib:Path"}, error_class=ToyError) is Path


def test_load_choice_refuses_an_unknown_name() -> None:
    with pytest.raises(ToyError, match="There is no path 'plan'; perhaps you meant 'plain'"):
        load_choice("path", "plan", {"plain": "pathlib:Path"}, error_class=ToyError)


TYPES: dict[str, Any] = {
    "layers": int,
    "lr": float,
    "name": str,
    "bidirectional": bool,
    "hop": float | None,
    "margin": Literal["aam", "am"],
    "shrinkage": Literal["by hand"] | float | None,
    "anything": Any,
}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("layers", 3),
        ("layers", np.int64(3)),
        ("lr", 0.5),
        ("lr", 1),
        ("lr", np.float32(0.5)),
        ("name", ""),
        ("bidirectional", False),
        ("hop", None),
        ("hop", 2.5),
        ("margin", "am"),
        ("shrinkage", "by hand"),
        ("shrinkage", 0.5),
        ("shrinkage", None),
        ("anything", object()),
    ],
)
def test_values_of_the_right_type_are_accepted(name: str, value: object) -> None:
    check_options("The toy", {name: value}, TYPES, error_class=ToyError)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("layers", True, "a whole number"),
        ("layers", 1.0, "a whole number"),
        ("layers", "1", "a whole number"),
        ("lr", False, "a number"),
        ("lr", None, "a number"),
        ("name", 1, "text"),
        ("bidirectional", 1, "true or false"),
        ("hop", True, "a number or none"),
        ("hop", "2", "a number or none"),
        ("margin", "AAM", "aam or am"),
        ("margin", None, "aam or am"),
        ("shrinkage", "ledoit", "by hand or a number or none"),
        ("shrinkage", True, "by hand or a number or none"),
    ],
)
def test_values_of_another_type_are_refused(name: str, value: object, expected: str) -> None:
    with pytest.raises(ToyError) as refusal:
        check_options("The toy", {name: value}, TYPES, error_class=ToyError)
    assert str(refusal.value) == f"The toy has {name}={value!r}; expected {expected}."


def test_unknown_options_are_refused_with_the_valid_ones() -> None:
    with pytest.raises(ToyError, match="The toy has no option 'layer'; perhaps you meant 'layers'"):
        check_options("The toy", {"layers": 1, "layer": 1}, TYPES, error_class=ToyError)
