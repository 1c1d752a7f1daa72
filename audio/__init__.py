"""Read waveforms from files: decode, resample, crop, window; measure their bandwidth."""

from audio.audio_error import AudioError, AudioFault
from audio.bandwidth import measure_bandwidth
from audio.read import read_audio, read_window, read_with_rate, sample_rate_of, span_seconds
from audio.windows import window_starts

__all__ = [
    "AudioError",
    "AudioFault",
    "measure_bandwidth",
    "read_audio",
    "read_window",
    "read_with_rate",
    "sample_rate_of",
    "span_seconds",
    "window_starts",
]
