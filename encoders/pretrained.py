"""Pretrained weights from which a network is fine-tuned, and of which a trained file stores a reference."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from encoders.base import EncoderError
from encoders.campplus import FILE_KIND, FRONT_ENDS, CampPlusEncoder, load_campplus
from encoders.hub_model import find_model, model_folder
from encoders.speech_model import (
    describe_speech_model,
    has_xvector_head,
    load_speech_model,
    normalises_input,
    read_config,
)
from encoders.wav2vec2 import DEFAULT_WEIGHTS
from encoders.weights import CLONE, FOLDER, tensors_digest
from networks import PRETRAINED_NETWORKS, CAMPlusPlus, PretrainedNetwork, create_pretrained_network

# Stands for the weights that an encoder takes by default.
PUBLISHED = "published"


@dataclass(frozen=True, kw_only=True)
class Pretrained:
    """Pretrained weights of a network.

    Attributes
    ----------
    network : str
        Name in `PRETRAINED_NETWORKS`.
    source : str
        Absolute path of the file or folder, or an id of the Hugging Face hub.
    digest : str
        Digest of the weights (64 hex digits).
    network_options, front_end_options : dict
        Options that follow from the weights.
    """

    network: str
    source: str
    digest: str
    network_options: dict[str, Any] = field(default_factory=dict)
    front_end_options: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def find(cls, network: str, weights: str | Path) -> "Pretrained":
        """Find pretrained weights, download them if necessary, and read them once.

        Parameters
        ----------
        network : str
            Name in `PRETRAINED_NETWORKS`.
        weights : path-like
            A folder of a model or an id of the hub for wav2vec2, a file for campplus, or ``published``: the weights
            that the encoder of this name takes by default.

        Raises
        ------
        EncoderError
            There are no such weights, or they are those of another network.
        """
        given = None if str(weights) == PUBLISHED else weights
        if network == "campplus":
            if given is not None and not Path(given).is_file():
                found = "this is a folder" if Path(given).is_dir() else "no such file"
                raise EncoderError(
                    f"{given}: {found}. Give {FILE_KIND} as --init_weights, or --init_weights published."
                )
            path = CampPlusEncoder.find_weights(given)
            assert path is not None
            state, front_end = load_campplus(path)
            return cls(
                network=network,
                source=str(path.resolve()),
                digest=tensors_digest(state),
                front_end_options=dict(zip(("window_type", "factor"), FRONT_ENDS[front_end], strict=True)),
            )
        model = find_model(given or DEFAULT_WEIGHTS, download=True)
        assert model is not None
        folder = model_folder(model)
        if has_xvector_head(read_config(folder)):
            raise EncoderError(
                f"{folder}: this model has an x-vector head, which fine-tuning would leave out. Use the model that it "
                "was made from (for microsoft/wavlm-base-plus-sv, this is microsoft/wavlm-base-plus)."
            )
        return cls(
            network=network,
            source=str(folder.resolve()) if Path(model).is_dir() else str(model),
            digest=describe_speech_model(folder)["weights"],
            network_options={"normalize": normalises_input(folder)},
        )

    def create(self, beside: Path | None = None, **options: Any) -> PretrainedNetwork:
        """Build the network with these weights, with gradients.

        Parameters
        ----------
        beside : Path, optional
            Folder in which the weights are searched for too.
        **options
            Options of the network.

        Raises
        ------
        EncoderError
            The weights are not found, or they are others than those with this digest.
        NetworkError
            An option is not valid.
        """
        path = self._locate(beside)
        if self.network == "campplus":
            state, _ = load_campplus(Path(path))
            module: Any = CAMPlusPlus(len(state["xvector.dense.linear.weight"]))
            digest = tensors_digest(state)
            module.load_state_dict(state)
        else:
            model = load_speech_model(model_folder(path))
            module, digest = model.network, model.digest
        if digest != self.digest:
            raise EncoderError(
                f"{path}: its weights have the digest {digest[:8]}; expected {self.digest[:8]}, those that the network "
                f"{self.network!r} was fine-tuned from. Put these back, or fine-tune again."
            )
        return create_pretrained_network(self.network, module, **options)

    def _locate(self, beside: Path | None) -> str | Path:
        """Return the file, folder or id of the weights."""
        if not Path(self.source).is_absolute():
            return find_model(self.source, download=True) or self.source
        name = Path(self.source).name
        folders = [*([] if beside is None else [beside]), Path(FOLDER), CLONE / FOLDER]
        for place in (Path(self.source), *(folder / name for folder in folders)):
            if place.exists():
                return place
        where = "" if beside is None else f"{beside} or "
        raise EncoderError(
            f"{self.source}: the pretrained weights of the network {self.network!r} (digest {self.digest[:8]}) are not "
            f"there. A trained file holds only what was trained beside them; put {name} there again, or into {where}"
            f"{FOLDER}/."
        )


def is_pretrained(network: str) -> bool:
    """Return whether a network is fine-tuned from pretrained weights."""
    return network in PRETRAINED_NETWORKS
