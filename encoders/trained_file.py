"""The file of a network that was trained here: what `train_encoder.py` saves and the encoder `trained` loads."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from encoders.base import EncoderError
from encoders.pretrained import Pretrained, is_pretrained
from encoders.spec import Spec
from encoders.weights import tensors_digest
from files import FormatReader, InputError, load_checked, versions, write_tensors
from networks import FrontEnd, NetworkError, SpeakerNetwork, create_front_end, create_network

# The format of a network whose tensors are all in the file, and of one that was fine-tuned from pretrained weights.
FORMAT, FINE_TUNED_FORMAT = 1, 2
FILE_KIND = "a trained encoder, as train_encoder.py saves one"
ADVICE = "Train it again."


@dataclass(frozen=True, eq=False, kw_only=True)
class TrainedNetwork:
    """A trained network with everything that it needs to embed audio.

    Attributes
    ----------
    network : str
        Name in `NETWORKS`.
    network_options, front_end_options : dict
        Options of the network and of the front end, as plain values.
    front_end : str
        Name in `FRONT_ENDS`.
    window : (int, int) or None
        Length and step of the windows (frames) whose embeddings are averaged; None embeds a whole utterance at once.
    tensors : dict
        State dict of the network; of a fine-tuned one, the tensors that are not frozen.
    pretrained : Pretrained or None
        The weights that the network was fine-tuned from.
    path : Path or None
        The file, if it was loaded from one; pretrained weights are searched for in its folder too.
    classifier : (Tensor (n_speakers, dim), Tensor (n_speakers,)) or None
        Weights and biases of the layer that classified the training speakers, if it was one layer.
    speakers : tuple of str
        Training speakers; for a classifier, in the order of its rows.
    corpora : tuple of str
        Names of the training corpora.
    earlier_speakers : tuple of str
        Speakers that trained the weights that the training started from.
    figures : dict
        Figures of the selected epoch.
    settings : dict
        Settings of the training.
    """

    network: str
    network_options: dict[str, Any]
    front_end: str
    front_end_options: dict[str, Any]
    window: tuple[int, int] | None
    tensors: dict[str, Tensor]
    pretrained: Pretrained | None = None
    path: Path | None = None
    classifier: tuple[Tensor, Tensor] | None = None
    speakers: tuple[str, ...] = ()
    corpora: tuple[str, ...] = ()
    earlier_speakers: tuple[str, ...] = ()
    figures: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """Digest of the network's tensors, and of the weights that it was fine-tuned from (64 hex digits)."""
        own = tensors_digest(self.tensors)
        return (
            own if self.pretrained is None else hashlib.sha256(f"{own} {self.pretrained.digest}".encode()).hexdigest()
        )

    @property
    def all_speakers(self) -> tuple[str, ...]:
        """Speakers that trained the weights, sorted."""
        return tuple(sorted({*self.speakers, *self.earlier_speakers}))

    def build(self) -> tuple[FrontEnd, SpeakerNetwork]:
        """Build the front end, and the network with its weights, in eval mode.

        Raises
        ------
        EncoderError
            The tensors are not those of the network, or the pretrained weights are not found.
        InputError
            A package is absent.
        """
        try:
            return self._build()
        except (NetworkError, TypeError, ValueError) as error:
            if isinstance(error, InputError) and not isinstance(error, NetworkError):
                raise  # a package is absent, or pretrained weights are
            reason = " ".join(str(error).split()).rstrip(".")[:200]
            raise EncoderError(
                f"{self.path}: this is not {FILE_KIND}, or it is damaged ({reason}). {ADVICE}"
            ) from error

    def _build(self) -> tuple[FrontEnd, SpeakerNetwork]:
        front_end = create_front_end(self.front_end, **self.front_end_options)
        network: SpeakerNetwork
        if self.pretrained is None:
            network = create_network(self.network, front_end.n_features, **self.network_options)
        else:
            network = self._create_fine_tuned(self.pretrained)
        try:
            network.load_state_dict(self.tensors, strict=self.pretrained is None)
        except RuntimeError as error:
            raise ValueError(f"its weights are not those of the network {self.network!r} ({error})") from error
        return front_end.eval(), network.eval().requires_grad_(False)

    def _create_fine_tuned(self, pretrained: Pretrained) -> SpeakerNetwork:
        """Build the network with its pretrained weights, if the tensors are all those that were trained."""
        network = pretrained.create(self.path and self.path.parent, **self.network_options)
        network.freeze(self.settings.get("freeze_feature_extractor", False), self.settings.get("freeze_layers", 0))
        trained = network.state_dict().keys() - network.frozen_names()
        for name in sorted(self.tensors.keys() ^ trained):
            raise ValueError(f"it {'lacks' if name in trained else 'has frozen or unknown'} {name}")
        return network

    def save(self, path: Path) -> Path:
        """Write the network to a ``.pt`` file, atomically.

        Raises
        ------
        EncoderError
            A weight is NaN or infinite.
        OutputError
            The file cannot be written.
        """
        check_finite(path, self.tensors)
        content = {
            "format": FORMAT if self.pretrained is None else FINE_TUNED_FORMAT,
            "network": {"name": self.network, "options": self.network_options},
            "front_end": {"name": self.front_end, "options": self.front_end_options},
            "window": None if self.window is None else list(self.window),
            "tensors": self.tensors,
            "classifier": None
            if self.classifier is None
            else dict(zip(("weight", "bias"), self.classifier, strict=True)),
            "speakers": list(self.speakers),
            "corpora": list(self.corpora),
            "earlier_speakers": list(self.earlier_speakers),
            "figures": self.figures,
            "settings": self.settings,
            "created_with": versions(),
        }
        if self.pretrained is not None:
            content["pretrained"] = {"source": self.pretrained.source, "digest": self.pretrained.digest}
        return write_tensors(path, content)

    @classmethod
    def load(cls, path: Path) -> "TrainedNetwork":
        """Read a file that `save` wrote; nothing in it can run code.

        Raises
        ------
        EncoderError
            There is no such file, it is of another kind, or it is damaged.
        """
        trained = load_checked(path, READERS, kind=FILE_KIND, error_class=EncoderError, advice=ADVICE)
        trained = replace(trained, path=path)
        if trained.pretrained is None:  # reading pretrained weights takes seconds, and `build` checks them
            trained.build()
        return trained


def trained_file_name(network: str) -> str:
    """Return the name of the file of a trained network."""
    return f"encoder_{network}.pt"


def find_beside(folder: Path, spec: Spec) -> Path:
    """Return the file of the network of a spec in a folder.

    Raises
    ------
    EncoderError
        It is not there.
    """
    name = trained_file_name(str(spec.get("network", {}).get("name")))
    if not (folder / name).is_file():
        raise EncoderError(
            f"{folder}: this folder has no {name}, the network on whose vectors this was trained. Give it with "
            "--encoder_weights FILE."
        )
    return folder / name


def check_finite(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Refuse weights that are not finite.

    Raises
    ------
    EncoderError
        A tensor holds NaN or infinity.
    """
    for name, tensor in tensors.items():
        if not bool(torch.isfinite(tensor).all()):
            raise EncoderError(f"{path}: the weights of {name!r} are not finite. Train again with a smaller --lr.")


def _read_format_1(content: dict[str, Any], path: Path) -> TrainedNetwork:
    window, classifier = content["window"], content["classifier"]
    if window is not None and not (len(window) == 2 and all(type(size) is int and size > 0 for size in window)):
        raise ValueError(f"its window is {window!r}")
    trained = TrainedNetwork(
        network=content["network"]["name"],
        network_options=content["network"]["options"],
        front_end=content["front_end"]["name"],
        front_end_options=content["front_end"]["options"],
        window=None if window is None else (window[0], window[1]),
        tensors=content["tensors"],
        classifier=None if classifier is None else (classifier["weight"], classifier["bias"]),
        speakers=tuple(content["speakers"]),
        corpora=tuple(content["corpora"]),
        earlier_speakers=tuple(content.get("earlier_speakers", ())),
        figures=content["figures"],
        settings=dict(content["settings"]),
    )
    check_finite(path, trained.tensors)
    return trained


def _read_format_2(content: dict[str, Any], path: Path) -> TrainedNetwork:
    trained, given = _read_format_1(content, path), content["pretrained"]
    if not is_pretrained(trained.network):
        raise ValueError(f"its network {trained.network!r} is not fine-tuned")
    pretrained = Pretrained(network=trained.network, source=str(given["source"]), digest=str(given["digest"]))
    return replace(trained, pretrained=pretrained)


# Readers by format.
READERS: dict[int, FormatReader[TrainedNetwork]] = {1: _read_format_1, 2: _read_format_2}
