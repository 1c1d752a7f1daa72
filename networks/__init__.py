"""Networks: every `nn.Module` that is not an encoder. Imports only `files`; any room may import it."""

from networks.campplus import CAMPlusPlus
from networks.htsat import CLIP_SAMPLE_RATE, CLIP_SAMPLES, AudioTower
from networks.lstm import build_lstm
from networks.packed_linear import PackedLinear
from networks.wav2vec2_network import SpeechNetwork

__all__ = [
    "CLIP_SAMPLES",
    "CLIP_SAMPLE_RATE",
    "AudioTower",
    "CAMPlusPlus",
    "PackedLinear",
    "SpeechNetwork",
    "build_lstm",
]
