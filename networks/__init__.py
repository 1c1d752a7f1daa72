"""Networks: every `nn.Module` that is not an encoder. Imports only `files`; any room may import it."""

from networks.campplus import CAMPlusPlus
from networks.frame_windows import embed_frames
from networks.front_ends import LogMel
from networks.htsat import CLIP_SAMPLE_RATE, CLIP_SAMPLES, AudioTower
from networks.masking import masked_mean, valid_frames
from networks.packed_linear import PackedLinear
from networks.registry import (
    FRONT_ENDS,
    NETWORKS,
    NetworkError,
    create_front_end,
    create_network,
    default_settings,
    network_options,
    option_defaults,
)
from networks.speaker_network import SpeakerNetwork
from networks.wav2vec2_network import SpeechNetwork

__all__ = [
    "CLIP_SAMPLES",
    "CLIP_SAMPLE_RATE",
    "AudioTower",
    "CAMPlusPlus",
    "FRONT_ENDS",
    "LogMel",
    "NETWORKS",
    "NetworkError",
    "PackedLinear",
    "SpeakerNetwork",
    "SpeechNetwork",
    "create_front_end",
    "create_network",
    "default_settings",
    "embed_frames",
    "masked_mean",
    "option_defaults",
    "network_options",
    "valid_frames",
]
