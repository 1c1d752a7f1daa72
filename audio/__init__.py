"""From a file to a waveform: decode, resample, crop."""

from audio.errors import AudioError, InputError
from audio.read import read_audio

__all__ = ["AudioError", "InputError", "read_audio"]
