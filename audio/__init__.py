"""Read waveforms from files: decode, resample, crop, window; measure bandwidth, level, envelope; find speech; write."""

from audio.audio_error import AudioError, AudioFault
from audio.bandwidth import measure_bandwidth
from audio.channel_statistics import MEASURED_SECONDS, ChannelStatistics
from audio.conversion import FOREIGN_SUFFIXES, HEADERLESS
from audio.envelope import measure_envelope
from audio.full_scale import full_scale_of
from audio.header import Header, read_header
from audio.level import Level, measure_level
from audio.read import Recording, read_audio, read_recording, read_window, span_seconds
from audio.read_speech import Speech, read_speech
from audio.speech_detector import SpeechDetector, SpeechError
from audio.speech_segments import SpeechSettings
from audio.webrtc_vad import check_webrtc_vad, remove_long_silences
from audio.windows import window_starts
from audio.write_audio import write_audio

__all__ = [
    "FOREIGN_SUFFIXES",
    "HEADERLESS",
    "MEASURED_SECONDS",
    "AudioError",
    "AudioFault",
    "ChannelStatistics",
    "Header",
    "Level",
    "Recording",
    "Speech",
    "SpeechDetector",
    "SpeechError",
    "SpeechSettings",
    "check_webrtc_vad",
    "full_scale_of",
    "measure_bandwidth",
    "measure_envelope",
    "measure_level",
    "read_audio",
    "read_header",
    "read_recording",
    "read_window",
    "read_speech",
    "remove_long_silences",
    "span_seconds",
    "window_starts",
    "write_audio",
]
