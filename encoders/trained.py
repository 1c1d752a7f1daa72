"""The `trained` encoder: a network that `train_encoder.py` trained, frozen."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from encoders.base import CPU, Encoder, EncoderError
from encoders.spec import Spec
from encoders.trained_file import FILE_KIND, TrainedNetwork
from encoders.weights import check_digest
from files import remembered
from networks import embed_frames


@dataclass(frozen=True)
class TrainedOptions:
    """Options of `trained`: none, because the file says everything."""


class TrainedNetworkEncoder(Encoder):
    """A network on the frames of its front end; both are in the file that `train_encoder.py` saved.

    If the file has a window, the embeddings of windows over the frames are averaged; an utterance shorter than a window
    is one shorter window.
    """

    Options = TrainedOptions
    batch_size: ClassVar[dict[str, int]] = {"cpu": 1, "cuda": 32, "mps": 32}
    max_duration: ClassVar[float | None] = None

    def __init__(self, spec: Spec, weights: str | Path | None = None, device: torch.device = CPU) -> None:
        super().__init__(spec, weights, device)
        path = _require(weights)
        trained = TrainedNetwork.load(path)
        check_digest(path, trained.digest, spec["weights"])
        self.front_end, self.network = trained.build()
        self.window = trained.window

    @classmethod
    def find_weights(cls, weights: str | Path | None, download: bool = True) -> Path | None:
        if weights is None and not download:
            return None
        path = _require(weights)
        if not path.is_file():
            raise EncoderError(f"{path}: no such file. Give {FILE_KIND}, as --encoder_weights.")
        return path

    @classmethod
    def describe(cls, weights: str | Path | None, options: TrainedOptions) -> Spec:
        path = _require(weights)

        def read_file() -> Spec:
            trained = TrainedNetwork.load(path)
            front_end, network = trained.build()
            least = front_end.min_samples(network.min_frames)
            return {
                "sample_rate": front_end.sample_rate,
                "dim": network.dim,
                "weights": trained.digest,
                "network": {"name": trained.network, **trained.network_options},
                "front_end": {"name": trained.front_end, **trained.front_end_options},
                "frames": None if trained.window is None else list(trained.window),
                "trained_on": list(trained.corpora),
                "trained_speakers": list(trained.all_speakers),
                **({"min_seconds": least / front_end.sample_rate} if least > 1 else {}),
            }

        return {
            "name": "trained",
            "version": 1,
            "layers": [],
            **remembered(path, "trained 2", read_file),
            "options": asdict(options),
        }

    def forward(self, waveforms: Tensor, lengths: Tensor) -> Tensor:
        frames, n_frames = self.front_end(waveforms, lengths)
        return embed_frames(self.network, frames, n_frames, window=self.window)


def _require(weights: str | Path | None) -> Path:
    if weights is None:
        raise EncoderError(
            "The encoder 'trained' needs the file of a network that was trained here: give --encoder_weights FILE, as "
            "train_encoder.py saves it."
        )
    return Path(weights)
