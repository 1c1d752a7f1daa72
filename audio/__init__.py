"""Read waveforms from files: decode, resample, crop, window."""

from audio.audio_error import AudioError, AudioFault
from audio.read import read_audio, read_window, span_seconds
from audio.windows import window_starts

__all__ = ["AudioError", "AudioFault", "read_audio", "read_window", "span_seconds", "window_starts"]
