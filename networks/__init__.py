"""Networks: every `nn.Module` that is not an encoder. Imports only `files`; any room may import it."""

from networks.base_front_end import FrontEnd
from networks.campplus import CAMPlusPlus
from networks.ecapa import ECAPATDNN
from networks.frame_windows import embed_frames
from networks.front_ends import LogMel
from networks.htsat import CLIP_SAMPLE_RATE, CLIP_SAMPLES, AudioTower
from networks.masking import masked_mean, masked_statistics, valid_frames
from networks.packed_linear import PackedLinear
from networks.pretrained_front_ends import KaldiFbank, SpeechBrainFbank
from networks.pretrained_network import PretrainedNetwork, normalize_waveforms
from networks.registry import (
    FRONT_ENDS,
    NETWORKS,
    PRETRAINED_NETWORKS,
    NetworkError,
    create_front_end,
    create_network,
    create_pretrained_network,
    default_settings,
    network_options,
    option_defaults,
)
from networks.resemblyzer import PartialMels, ResemblyzerLstm
from networks.silero import SileroVad
from networks.speaker_network import SpeakerNetwork
from networks.threads import single_thread
from networks.wav2vec2_network import SpeechNetwork
from networks.xvector_head import XVectorHead

__all__ = [
    "CLIP_SAMPLES",
    "CLIP_SAMPLE_RATE",
    "AudioTower",
    "CAMPlusPlus",
    "ECAPATDNN",
    "FRONT_ENDS",
    "FrontEnd",
    "KaldiFbank",
    "LogMel",
    "NETWORKS",
    "NetworkError",
    "PRETRAINED_NETWORKS",
    "PackedLinear",
    "PartialMels",
    "PretrainedNetwork",
    "ResemblyzerLstm",
    "SileroVad",
    "SpeakerNetwork",
    "SpeechBrainFbank",
    "SpeechNetwork",
    "XVectorHead",
    "create_front_end",
    "create_network",
    "create_pretrained_network",
    "default_settings",
    "embed_frames",
    "masked_mean",
    "masked_statistics",
    "option_defaults",
    "network_options",
    "normalize_waveforms",
    "single_thread",
    "valid_frames",
]
