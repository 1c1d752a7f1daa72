"""Names: normal forms, missing and reserved names, names that look the same, and paths with such names."""

import unicodedata
from pathlib import Path

import pytest

from files import describe_similar, existing_path, is_missing, is_reserved, normal_form

NFC, NFD = "Zoë", unicodedata.normalize("NFD", "Zoë")


def test_both_forms_of_a_name_are_one() -> None:
    assert NFC != NFD
    assert normal_form(NFD) == normal_form(NFC) == NFC
    assert normal_form("anna\udce4") == "anna\udce4"  # a byte that is not valid UTF-8


@pytest.mark.parametrize("name", [None, float("nan"), "", "nan", "NaN", "None", "NA", "N/A", "null", "<NA>"])
def test_missing_names(name: object) -> None:
    assert is_missing(name)


@pytest.mark.parametrize("name", ["Nan", "none", "Null", "nancy", 7, "0", "-"])
def test_names_that_are_not_missing(name: object) -> None:
    assert not is_missing(name)


def test_unknown_is_reserved_in_any_case() -> None:
    assert [is_reserved(name) for name in ("unknown", " UnKnown", "unknown1")] == [True, True, False]


def test_similar_names_are_described_together() -> None:
    assert describe_similar(["Ben Smith", "anna", "ben  smith", "Anna", "carl", "BenSmith"]) == (
        "'Anna' and 'anna', 'Ben Smith' and 'BenSmith' and 'ben  smith'"
    )
    assert describe_similar(["anna", "ben"]) is None


def test_a_path_is_found_in_either_form(tmp_path: Path) -> None:
    (tmp_path / NFD).mkdir()
    (tmp_path / NFD / f"{NFC}.wav").touch()
    (tmp_path / NFC).touch()  # on Linux, another file
    on_disk = tmp_path / NFD / f"{NFC}.wav"
    assert existing_path(tmp_path / NFD / f"{NFD}.wav").samefile(on_disk)
    assert existing_path(on_disk) == on_disk
    missing = tmp_path / "x" / NFD
    assert existing_path(missing) == missing
