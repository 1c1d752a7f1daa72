"""The warning that a classifier of other speakers will be replaced."""

from pathlib import Path

import pytest

from files import write_tensors
from heads import warn_of_replaced_speakers


def test_speakers_who_would_be_lost_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "speaker_classifier_calls.pt"
    warn_of_replaced_speakers(path, ["anna"])
    path.write_text("no classifier")
    warn_of_replaced_speakers(path, ["anna"])
    write_tensors(path, {"speakers": ["anna", "ben", "carl", "dora", "Zoe\u0308"]})
    warn_of_replaced_speakers(path, ["Zo\u00eb", "anna", "ben", "carl", "dora", "emil"])
    assert not caplog.messages
    warn_of_replaced_speakers(path, ["Zo\u00eb", "emil"])
    (message,) = caplog.messages
    assert message.startswith(
        f"{path}: this classifier of an earlier run knows 4 speakers who are not in these features"
    )
    assert "(anna, ben, carl, and 1 more), and will be replaced; to keep it, give another --output_dir" in message
