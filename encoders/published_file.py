"""Checkpoints in the form of SpeakerRecognitionFromScratch: the published ones, and networks that were trained here."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from encoders.base import EncoderError
from encoders.trained_file import check_finite
from encoders.weights import check_kind, tensors_digest
from files import count_of, first_line, write_tensors
from networks import FrontEnd, SpeakerNetwork, create_front_end, create_network

FILE_KIND = "a checkpoint of a BiLSTM or a Transformer"
# The front end of these systems: MFCC, as librosa computes them.
FRONT_END_OPTIONS: dict[str, Any] = {
    "n_mfcc": 40, "n_mels": 128, "n_fft": 2048, "hop": 512, "top_db": 80.0, "sample_rate": 16_000,
}  # fmt: skip
N_MFCC: int = FRONT_END_OPTIONS["n_mfcc"]
# Length and step of the windows (frames).
WINDOW = (100, 50)
# Network -> the tensor that its checkpoints are recognised by.
FIRST_TENSORS = {"bilstm": "lstm.weight_ih_l0", "query_transformer": "linear_layer.weight"}
# Network -> what the tensors are called in messages.
KINDS = {"bilstm": "an LSTM with", "query_transformer": "a Transformer with"}
# First parts of the names of the network's tensors.
PARTS = {"bilstm": ("lstm",), "query_transformer": ("linear_layer", "encoder", "decoder")}


@dataclass(frozen=True, eq=False, kw_only=True)
class PublishedNetwork:
    """A network in the form of SpeakerRecognitionFromScratch, on MFCC in windows of 100 frames.

    Attributes
    ----------
    network : {"bilstm", "query_transformer"}
        Name in `NETWORKS`.
    sizes : dict
        Options of the network that its tensors show. They do not show the pooling of a BiLSTM and the number of heads
        of a Transformer.
    tensors : dict
        State dict of the network.
    losses : list of float
        Training losses, in order.
    training_time : float
        Duration of the training (seconds).
    """

    NETWORKS: ClassVar[tuple[str, ...]] = tuple(FIRST_TENSORS)
    """Networks that have a published form."""
    FRONT_END_OPTIONS: ClassVar[dict[str, Any]] = FRONT_END_OPTIONS
    """Options of the front end ``mfcc``."""
    WINDOW: ClassVar[tuple[int, int]] = WINDOW
    """Length and step of the windows (frames)."""
    HIDDEN_OPTIONS: ClassVar[dict[str, str]] = {"bilstm": "pooling", "query_transformer": "n_heads"}
    """Network -> the option that its tensors do not show."""

    network: str
    sizes: dict[str, Any]
    tensors: dict[str, Tensor]
    losses: Sequence[float] = field(default=(), repr=False)
    training_time: float = 0.0

    @property
    def digest(self) -> str:
        """Digest of the tensors (64 hex digits); names of an LSTM count without ``lstm.``, as in earlier versions."""
        return tensors_digest({name.removeprefix("lstm."): tensor for name, tensor in self.tensors.items()})

    @classmethod
    def load(cls, path: Path) -> "PublishedNetwork":
        """Load a checkpoint: a dict with ``encoder_state_dict``, or the state dict; no code in the file is run.

        Raises
        ------
        EncoderError
            The file is of another kind, or its tensors are not those of one network.
        """
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
            state = content.get("encoder_state_dict", content)
            named = {str(name): tensor.float() for name, tensor in state.items() if isinstance(tensor, Tensor)}
        except Exception as error:  # files of other kinds raise errors of any type
            check_kind(path, "scratch", FILE_KIND)
            raise EncoderError(f"{path}: this is not {FILE_KIND} ({first_line(error)}).") from error
        network, tensors = _find_network(path, named)
        if not all(bool(torch.isfinite(tensor).all()) for tensor in tensors.values()):
            raise EncoderError(f"{path}: its weights contain NaN or infinity; download it again.")
        found = cls(network=network, sizes=SIZES[network](path, tensors), tensors=tensors)
        found.build(path)  # a checkpoint that lacks tensors is refused here
        return found

    def build(self, path: Path, **options: Any) -> tuple[FrontEnd, SpeakerNetwork]:
        """Build the front end, and the network with its weights, in eval mode.

        Parameters
        ----------
        path : Path
            The file, for error messages.
        **options
            Options of the network that the tensors do not show.

        Raises
        ------
        EncoderError
            The tensors are not those of a network of these sizes.
        """
        front_end = create_front_end("mfcc", **FRONT_END_OPTIONS)
        # With every number of heads the tensors have the same shapes, and one head fits any width.
        heads = {"n_heads": 1} if self.network == "query_transformer" else {}
        network = create_network(self.network, N_MFCC, **{**heads, **self.sizes, **options})
        try:
            network.load_state_dict(self.tensors)
        except RuntimeError as error:
            reason = " ".join(str(error).split())
            layers = count_of(self.sizes["n_layers"], "layer")
            raise EncoderError(
                f"{path}: the weights are not those of {KINDS[self.network]} {layers} ({reason})."
            ) from error
        return front_end.eval(), network.eval()

    def save(self, path: Path) -> Path:
        """Write the checkpoint in the published form, atomically.

        Raises
        ------
        EncoderError
            A weight is NaN or infinite.
        OutputError
            The file cannot be written.
        """
        check_finite(path, self.tensors)
        content = {
            "encoder_state_dict": self.tensors,
            "losses": list(self.losses),
            "training_time": self.training_time,
        }
        return write_tensors(path, content)


def _find_network(path: Path, named: Mapping[str, Tensor]) -> tuple[str, dict[str, Tensor]]:
    """Return which network a state dict has, and its tensors, without what precedes their published names."""
    for network, first in FIRST_TENSORS.items():
        prefixes = sorted(name.removesuffix(first) for name in named if name.endswith(first))
        if len(prefixes) > 1:
            part = PARTS[network][0]
            listing = ", ".join(f"{prefix}{part}" for prefix in prefixes)
            what = "LSTMs" if network == "bilstm" else "Transformers"
            raise EncoderError(f"{path}: it holds several {what} ({listing}); expected one.")
        if prefixes:
            own = {
                name.removeprefix(prefixes[0]): tensor for name, tensor in named.items() if name.startswith(prefixes[0])
            }
            return network, {name: tensor for name, tensor in own.items() if name.partition(".")[0] in PARTS[network]}
    check_kind(path, "scratch", FILE_KIND)
    raise EncoderError(
        f"{path}: this is not {FILE_KIND}: it has neither {FIRST_TENSORS['bilstm']!r} nor "
        f"{FIRST_TENSORS['query_transformer']!r}. Its first tensors are: {', '.join([*named][:3]) or 'none'}."
    )


def _bilstm_sizes(path: Path, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    first = tensors["lstm.weight_ih_l0"]
    if first.ndim != 2 or not len(first) or len(first) % 4 or first.shape[1] != N_MFCC:
        raise EncoderError(
            f"{path}: the shape of weight_ih_l0 is {tuple(first.shape)}; expected (4 * hidden, {N_MFCC})."
        )
    return {
        "hidden": len(first) // 4,
        "n_layers": sum(1 for name in tensors if re.fullmatch(r"lstm\.weight_ih_l\d+", name)),
        "bidirectional": any(name.endswith("_reverse") for name in tensors),
    }


def _transformer_sizes(path: Path, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    first = tensors["linear_layer.weight"]
    if first.ndim != 2 or not len(first) or first.shape[1] != N_MFCC:
        raise EncoderError(
            f"{path}: the shape of linear_layer.weight is {tuple(first.shape)}; expected (width, {N_MFCC})."
        )
    n_layers = sum(1 for name in tensors if re.fullmatch(r"encoder\.layers\.\d+\.linear1\.weight", name))
    hidden = tensors.get("encoder.layers.0.linear1.weight")
    if hidden is None or hidden.ndim != 2 or not len(hidden):
        raise EncoderError(f"{path}: it has no 'encoder.layers.0.linear1.weight' that fits a Transformer.")
    return {"width": len(first), "n_layers": n_layers, "feed_forward": len(hidden)}


# Network -> reader of its sizes from its tensors.
SIZES: dict[str, Callable[[Path, Mapping[str, Tensor]], dict[str, Any]]] = {
    "bilstm": _bilstm_sizes,
    "query_transformer": _transformer_sizes,
}
