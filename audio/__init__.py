"""From a file to a waveform: decode, resample, crop, window."""

from audio.errors import AudioError, AudioFault, InputError
from audio.read import read_audio, read_window, span_seconds
from audio.windows import window_starts

__all__ = ["AudioError", "AudioFault", "InputError", "read_audio", "read_window", "span_seconds", "window_starts"]
