"""Pretrained weights from which a network is fine-tuned, and of which a trained file stores a reference."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from encoders.base import EncoderError
from encoders.campplus import FILE_KIND, FRONT_ENDS, CampPlusEncoder, build_campplus, load_campplus
from encoders.checkpoint_file import require_file
from encoders.hub_model import find_model, find_on_hub, is_hub_id, model_folder
from encoders.speech_model import (
    describe_speech_model,
    has_xvector_head,
    load_speech_model,
    normalises_input,
    read_config,
)
from encoders.wav2vec2 import DEFAULT_WEIGHTS
from encoders.weights import tensors_digest
from files import CLONE, PRETRAINED_FOLDER
from networks import PRETRAINED_NETWORKS, PretrainedNetwork, create_pretrained_network

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
        if not str(weights):
            raise EncoderError(f"--init_weights has no name; give weights of the network {network!r}, or published.")
        given = None if str(weights) == PUBLISHED else weights
        if network == "campplus":
            if given is not None:
                require_file(given, f"Give {FILE_KIND} as --init_weights, or --init_weights published.")
            path = CampPlusEncoder.find_weights(given)
            assert path is not None
            state, front_end = load_campplus(path)
            build_campplus(path, state)
            return cls(
                network=network,
                source=str(path.resolve()),
                digest=tensors_digest(state),
                front_end_options=dict(zip(("window_type", "factor"), FRONT_ENDS[front_end], strict=True)),
            )
        advice = "give another folder that holds them with --init_weights."
        model = find_model(DEFAULT_WEIGHTS if given is None else given, download=True, advice=advice)
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
            No place has weights with this digest.
        NetworkError
            An option is not valid.
        """
        found, absent = [], []
        for place in self._places(beside):
            if isinstance(place, Path) and not place.exists():
                absent.append(str(place))
                continue
            try:
                module = self._load(place)
            except EncoderError as error:
                found.append(str(error).partition(". ")[0].rstrip("."))
            else:
                return create_pretrained_network(self.network, module, **options)
        if absent:
            found.append(f"nothing at {', '.join(absent)}")
        raise EncoderError(
            f"{self.source}: the pretrained weights of the network {self.network!r} (digest {self.digest[:8]}) are not "
            f"found ({'; '.join(found)}). A trained file holds only what was trained beside them: put "
            f"{_last_part(self.source)} back, beside the trained file or into {PRETRAINED_FOLDER}/, or fine-tune again."
        )

    def _places(self, beside: Path | None) -> list[str | Path]:
        """Return files or folders that may be the weights, and at the end the id of the hub, if it is one."""
        source = Path(self.source)
        is_id = self.network == "wav2vec2" and is_hub_id(self.source)
        last = _last_part(self.source)
        folders = [*([] if beside is None else [beside]), Path(PRETRAINED_FOLDER), CLONE / PRETRAINED_FOLDER]
        names = [self.source, last] if is_id else [last]
        places = [*([] if is_id else [source]), *(folder / name for folder in folders for name in names)]
        unique = {place.resolve(): place for place in places}
        return [*unique.values(), *([self.source] if is_id else [])]

    def _load(self, place: str | Path) -> Any:
        """Load the module in a file or folder, or of an id of the hub.

        Raises
        ------
        EncoderError
            It cannot be loaded, or its weights have another digest.
        """
        path = find_on_hub(place) if isinstance(place, str) else place
        if path.is_dir() != (self.network == "wav2vec2"):
            raise EncoderError(f"{path}: this is a {'folder' if path.is_dir() else 'file'}.")
        if self.network == "wav2vec2":
            model = load_speech_model(path)
            self._check(path, model.digest)
            return model.network
        state, _ = load_campplus(path)
        self._check(path, tensors_digest(state))
        return build_campplus(path, state, is_trained=True)

    def _check(self, path: Path, digest: str) -> None:
        if digest != self.digest:
            raise EncoderError(f"{path}: its weights have the digest {digest[:8]}.")


def _last_part(source: str) -> str:
    """Return the name of a file or folder, whose path may be of another system."""
    return source.replace("\\", "/").rpartition("/")[2]


def is_pretrained(network: str) -> bool:
    """Return whether a network is fine-tuned from pretrained weights."""
    return network in PRETRAINED_NETWORKS
