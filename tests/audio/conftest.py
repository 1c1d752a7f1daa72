"""Fixtures of the audio tests."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from audio import AudioError, read_audio

# Arguments of soundfile for names and suffixes whose defaults are of another format.
FILE_OPTIONS = {"24.wav": {"subtype": "PCM_24"}, "float.wav": {"subtype": "FLOAT"}}
SUFFIX_OPTIONS = {".sph": {"format": "NIST"}, ".opus": {"format": "OGG", "subtype": "OPUS"}}


@pytest.fixture(scope="session")
def write_container(write_audio: Callable[..., Path]) -> Callable[..., Path]:
    """Return `write_audio` with the container and the encoding that the name of the file stands for."""

    def write(path: Path, seconds: float = 1.0, **options: Any) -> Path:
        defaults = FILE_OPTIONS.get(path.name) or SUFFIX_OPTIONS.get(path.suffix) or {}
        return write_audio(path, seconds, **defaults, **options)

    return write


@pytest.fixture(scope="session")
def fault_of() -> Callable[..., AudioError]:
    """Return a function that calls `read_audio`, at 16 kHz by default, and returns the expected `AudioError`."""

    def read(path: str | os.PathLike[str], sample_rate: int = 16_000, **options: Any) -> AudioError:
        with pytest.raises(AudioError) as caught:
            read_audio(path, sample_rate, **options)
        error = caught.value
        assert error.path == Path(path)
        assert error.reason
        assert str(path) not in error.reason
        assert str(error) == f"{Path(path)}: {error.reason}"
        return error

    return read


@pytest.fixture(scope="session")
def tone() -> Callable[..., NDArray[np.float64]]:
    """Return a function that makes a sine wave (samples,): ``tone(hertz, rate, seconds, amplitude)``."""

    def make(hertz: float, rate: int, seconds: float = 1.0, amplitude: float = 0.5) -> NDArray[np.float64]:
        return np.asarray(amplitude * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate))

    return make
