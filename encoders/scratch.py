"""The `scratch` encoder: frozen networks of wq2012's "speaker recognition from scratch"."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from encoders.base import CPU, Encoder, EncoderError
from encoders.published_file import FRONT_END_OPTIONS, WINDOW, PublishedNetwork
from encoders.spec import Spec
from encoders.training_corpora import training_corpora
from encoders.weights import check_digest
from files import remembered
from networks import embed_frames


@dataclass(frozen=True)
class ScratchOptions:
    """Options of `scratch`: what the checkpoint does not show."""

    pooling: Literal["mean", "last"] = "mean"
    """Output of a BiLSTM for a window: mean over its frames, or that of the last frame."""
    n_heads: int = 8
    """Number of attention heads of a Transformer."""


class ScratchEncoder(Encoder):
    """A BiLSTM or a Transformer on the MFCC of each window, averaged over the windows of the utterance.

    MFCC are computed as librosa does: 40 coefficients of 128 slaney mel bands, an FFT of 2048, a frame every 32 ms, and
    decibels down to 80 dB below the maximum. A window has 100 frames and starts every 50 frames; vectors of windows are
    not normalised before they are averaged. An utterance shorter than a window is one shorter window (the original
    systems skip it). A checkpoint holds ``encoder_state_dict``, from whose tensors the sizes are read.
    """

    Options = ScratchOptions
    batch_size: ClassVar[dict[str, int]] = {"cpu": 1, "cuda": 32, "mps": 32}

    def __init__(self, spec: Spec, weights: str | Path | None = None, device: torch.device = CPU) -> None:
        super().__init__(spec, weights, device)
        path = _require(weights)
        published = PublishedNetwork.load(path)
        check_digest(path, published.digest, spec["weights"])
        option = published.HIDDEN_OPTIONS[published.network]
        value = getattr(ScratchOptions(**spec["options"]), option)
        self.front_end, self.network = published.build(path, **{option: value})

    @classmethod
    def find_weights(cls, weights: str | Path | None, download: bool = True) -> Path | None:
        if weights is None:
            if not download:
                return None
            raise EncoderError(
                "The encoder 'scratch' needs a checkpoint: give --encoder_weights FILE, such as one of "
                "SpeakerRecognitionFromScratch. The encoder 'spectral' needs no weights."
            )
        path = Path(weights)
        if not path.is_file():
            raise EncoderError(
                f"{path}: no such file. Give a checkpoint of a BiLSTM or a Transformer as --encoder_weights."
            )
        return path

    @classmethod
    def describe(cls, weights: str | Path | None, options: ScratchOptions) -> Spec:
        path = _require(weights)

        def read_checkpoint() -> Spec:
            published = PublishedNetwork.load(path)
            dim = published.build(path)[1].dim
            return {"weights": published.digest, "dim": dim, "network": published.network}

        found = remembered(path, "scratch 2", read_checkpoint)
        given = _given(options)
        _check_options(path, found["network"], given, dim=found["dim"], n_heads=options.n_heads)
        return {
            "name": "scratch",
            "version": 1,
            "sample_rate": FRONT_END_OPTIONS["sample_rate"],
            "layers": [],
            "weights": found["weights"],
            "dim": found["dim"],
            "trained_on": training_corpora(path),
            # Defaults are left out, as in the specs of earlier versions, which had no options.
            "options": given,
        }

    def forward(self, waveforms: Tensor, lengths: Tensor) -> Tensor:
        frames, n_frames = self.front_end(waveforms, lengths)
        return embed_frames(self.network, frames, n_frames, window=WINDOW)


def _given(options: ScratchOptions) -> dict[str, Any]:
    """Return the options that are not the defaults."""
    defaults = asdict(ScratchOptions())
    return {name: value for name, value in asdict(options).items() if value != defaults[name]}


def _check_options(path: Path, network: str, given: dict[str, Any], *, dim: int, n_heads: int) -> None:
    """Refuse options that the network of the checkpoint does not have, and heads that do not divide its width."""
    option = PublishedNetwork.HIDDEN_OPTIONS[network]
    for other in given.keys() - {option}:
        raise EncoderError(f"{path}: its network, {network}, has no option {other!r}; it has {option!r}.")
    if network == "query_transformer" and not (n_heads > 0 and dim % n_heads == 0):
        raise EncoderError(f"{path}: n_heads is {n_heads}; expected a divisor of the Transformer's width, {dim}.")


def _require(weights: str | Path | None) -> Path:
    if weights is None:
        raise EncoderError("The encoder 'scratch' needs a checkpoint: give --encoder_weights FILE.")
    return Path(weights)
