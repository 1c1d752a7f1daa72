"""The `ecapa` encoder: ECAPA-TDNN of SpeechBrain, a network that was trained to tell speakers apart."""

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from encoders.base import CPU, EncoderError
from encoders.checkpoint_file import check_tensors, load_checkpoint
from encoders.hub_model import is_hub_id
from encoders.speaker_encoder import SpeakerEncoder
from encoders.spec import Spec
from encoders.training_corpora import training_corpora
from encoders.weights import HubFile, check_digest, find_weights_file, tensors_digest
from encoders.window_options import WindowOptions
from files import describe_file, remembered
from networks import ECAPATDNN, SpeechBrainFbank

SAMPLE_RATE = 16_000
# Fewer samples make fewer than the five frames that the network needs.
MIN_SECONDS = 4 * 160 / SAMPLE_RATE
# Recordings up to this length are embedded in one piece; longer ones in pieces, which limits memory use (seconds).
WHOLE_SECONDS = 90.0
PIECE_SECONDS = 10.0
DEFAULT_WEIGHTS = "speechbrain/spkrec-ecapa-voxceleb"
FILE_NAME, FILE_SIZE = "embedding_model.ckpt", "about 83 MB"
FILE_KIND = "a checkpoint of SpeechBrain's ECAPA-TDNN"
# A part of the names of models with tensors of the same shapes, which take the mel spectrograms of a vocoder.
OTHER_INPUT = "mel-spec"


@dataclass(frozen=True)
class EcapaOptions(WindowOptions):
    """Options of `ecapa`; by default recordings of up to 90 s are embedded in one piece."""

    max_window: ClassVar[float] = WHOLE_SECONDS
    min_window: ClassVar[float] = 0.5


class EcapaEncoder(SpeakerEncoder):
    """ECAPA-TDNN (Desplanques et al., 2020): 16 kHz in, one vector of 192 numbers out, which the cosine compares.

    1. Compute log-mel spectrograms as SpeechBrain does (`networks.SpeechBrainFbank`), minus their mean.
    2. Compute the network (`networks.ECAPATDNN`). Vectors are not normalised.

    A recording of more than 90 s is cut into pieces of 10 s, whose vectors are averaged. Recordings have the same
    vectors in any batch. In SpeechBrain, padding changes them, because convolutions read it.
    """

    Options = EcapaOptions
    batch_size: ClassVar[dict[str, int]] = {"cpu": 1, "cuda": 64, "mps": 16}
    batch_seconds: ClassVar[dict[str, float]] = {"cuda": 600.0, "mps": 120.0}

    def __init__(self, spec: Spec, weights: str | Path | None = None, device: torch.device = CPU) -> None:
        super().__init__(spec, weights, device)
        path = _path_of(weights)
        state = load_ecapa(path)
        check_digest(path, tensors_digest(state), spec["weights"])
        self.front_end = SpeechBrainFbank()
        self.network = _build(path, state)

    @classmethod
    def find_weights(cls, weights: str | Path | None, download: bool = True) -> str | Path | None:
        given = weights or DEFAULT_WEIGHTS
        return None if _find(given, download) is None else given

    @classmethod
    def describe(cls, weights: str | Path | None, options: EcapaOptions) -> Spec:
        path = _path_of(weights)
        given = Path(weights or DEFAULT_WEIGHTS)

        def read_checkpoint() -> Spec:
            state = load_ecapa(path)
            with open(path, "rb") as file:
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            return {"weights": tensors_digest(state), "dim": _build(path, state).dim, "sha256": sha256}

        found = dict(remembered(path, "ecapa 1", read_checkpoint))
        sha256 = found.pop("sha256")
        return {
            "name": "ecapa",
            "version": 1,
            "sample_rate": SAMPLE_RATE,
            "layers": [],
            **found,
            "source": None if given.exists() else str(given),
            "min_seconds": MIN_SECONDS,
            "whole_seconds": WHOLE_SECONDS,
            "piece_seconds": PIECE_SECONDS,
            "trained_on": training_corpora(given.parent if given.name == FILE_NAME else given, sha256),
            "options": {**asdict(options), "hop": options.resolved_hop()},
        }

    def forward(self, waveforms: Tensor, lengths: Tensor) -> Tensor:
        return self.network(*self.front_end(waveforms, lengths))  # type: ignore[no-any-return]


def _find(weights: str | Path, download: bool) -> Path | None:
    """Return the checkpoint of a file, a folder or an id; None if it is not on this machine and is not downloaded."""
    path = Path(weights)
    if any(OTHER_INPUT in part for part in path.parts[-2:]):
        raise EncoderError(
            f"{weights}: this model takes the mel spectrograms of a vocoder, which this encoder does not compute; give "
            f"one with the front end of {DEFAULT_WEIGHTS}."
        )
    if path.is_file():
        return path
    if path.is_dir():
        if (path / FILE_NAME).is_file():
            return path / FILE_NAME
        settings = path / "config.json"
        found = f"; its {settings.name} is {describe_file(settings)}" if describe_file(settings) else ""
        raise EncoderError(f"{path}: this folder has no {FILE_NAME}, {FILE_KIND}{found}.")
    if not is_hub_id(str(weights)):
        raise EncoderError(
            f"{weights}: no such file or folder. Give {FILE_KIND} ({FILE_NAME}), its folder, or an id of the Hugging "
            f"Face hub, such as {DEFAULT_WEIGHTS}."
        )
    places = (f"{weights}/{FILE_NAME}", f"{path.name}/{FILE_NAME}")
    return find_weights_file(places, HubFile(str(weights), FILE_NAME, FILE_SIZE), download)


def _path_of(weights: str | Path | None) -> Path:
    path = _find(weights or DEFAULT_WEIGHTS, download=False)
    if path is None:
        raise EncoderError(f"{weights or DEFAULT_WEIGHTS}: this model is not on this machine; run the command again.")
    return path


def load_ecapa(path: Path) -> dict[str, Tensor]:
    """Read a checkpoint of ECAPA-TDNN, a state dict; no code in the file is run.

    Raises
    ------
    EncoderError
        The file is of another kind, or damaged.
    """
    content = load_checkpoint(path, "ecapa", kind=FILE_KIND, needs="asp.tdnn.conv.conv.weight")
    check_tensors(path, content)
    # Counters of the training do not change vectors.
    return {name: tensor for name, tensor in content.items() if tensor.is_floating_point()}


def _build(path: Path, state: dict[str, Tensor]) -> ECAPATDNN:
    try:
        return ECAPATDNN.from_state(state)
    except ValueError as error:
        raise EncoderError(f"{path}: this is not {FILE_KIND} that this encoder can use: {error}.") from error
