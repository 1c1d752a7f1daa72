"""`AudioError`: its attributes, copies and base classes."""

import copy
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest

from audio import AudioError
from files import InputError


@pytest.mark.parametrize("clone", [copy.copy, copy.deepcopy, lambda error: pickle.loads(pickle.dumps(error))])
def test_copied_or_unpickled_error_is_equal(
    clone: Callable[[AudioError], AudioError], fault_of: Callable[..., AudioError], tmp_path: Path
) -> None:
    error = fault_of(tmp_path / "gone.wav")
    again = clone(error)
    assert type(again) is AudioError
    assert (again.path, again.fault, again.reason) == (error.path, error.fault, error.reason)
    assert str(again) == str(error)


def test_audio_error_is_an_input_error() -> None:
    error = AudioError("a.wav", "missing", "no such file")
    assert isinstance(error, InputError)
    assert isinstance(error, ValueError)
    assert error.path == Path("a.wav")
