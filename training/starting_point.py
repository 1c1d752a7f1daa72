"""The weights that a training run starts from, instead of random ones."""

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from encoders import PublishedNetwork, TrainedNetwork, tensors_digest
from files import count_of, load_tensors
from networks import create_network, option_defaults
from training.data import TrainingData
from training.member import Member
from training.settings import TrainingError, TrainingSettings

logger = logging.getLogger(__name__)

FILE_KIND = "a trained encoder (encoder_NETWORK.pt) or a checkpoint of SpeakerRecognitionFromScratch"


@dataclass(frozen=True, eq=False, kw_only=True)
class StartingPoint:
    """A trained network, whose weights are those at the start of a run.

    Attributes
    ----------
    path : Path
        Its file.
    network : str
        Name in `NETWORKS`.
    network_options, front_end_options : dict
        Options that were given for the network and for its front end.
    front_end : str
        Name in `FRONT_ENDS`.
    tensors : dict
        State dict of the network.
    classifier : (Tensor (n_speakers, dim), Tensor (n_speakers,)) or None
        Weights and biases of the layer that classified the speakers.
    speakers : tuple of str
        Speakers of the classifier's rows.
    corpora, all_speakers : tuple of str
        Corpora and speakers that trained the network.
    """

    path: Path
    network: str
    network_options: dict[str, Any]
    front_end: str
    front_end_options: dict[str, Any] = field(default_factory=dict)
    tensors: dict[str, Tensor]
    classifier: tuple[Tensor, Tensor] | None = None
    speakers: tuple[str, ...] = ()
    corpora: tuple[str, ...] = ()
    all_speakers: tuple[str, ...] = ()

    @classmethod
    def load(cls, path: Path) -> "StartingPoint":
        """Read a file that `train_encoder` saved, or a checkpoint of SpeakerRecognitionFromScratch.

        Raises
        ------
        InputError
            There is no such file, or it is of another kind.
        """
        if "format" in load_tensors(path, FILE_KIND, TrainingError):
            trained = TrainedNetwork.load(path)
            if trained.pretrained is not None:
                raise TrainingError(
                    f"{path}: this network was fine-tuned; training starts from its pretrained weights, with "
                    f"--init_weights {trained.pretrained.source}."
                )
            return cls(
                path=path,
                network=trained.network,
                network_options={**option_defaults(trained.network), **trained.network_options},
                front_end=trained.front_end,
                front_end_options={**option_defaults(trained.front_end), **trained.front_end_options},
                tensors=trained.tensors,
                classifier=trained.classifier,
                speakers=trained.speakers,
                corpora=trained.corpora,
                all_speakers=trained.all_speakers,
            )
        published = PublishedNetwork.load(path)
        return cls(
            path=path,
            network=published.network,
            network_options=published.sizes,
            front_end="mfcc",
            front_end_options=published.FRONT_END_OPTIONS,
            tensors=published.tensors,
            corpora=("unknown",),
        )

    @property
    def digest(self) -> str:
        """Digest of the weights (16 hex digits)."""
        layer = {} if self.classifier is None else dict(zip(("weight", "bias"), self.classifier, strict=True))
        return tensors_digest({**self.tensors, **{f"classifier.{name}": each for name, each in layer.items()}})[:16]

    def check(self, settings: TrainingSettings, n_features: int) -> None:
        """Refuse settings of a network that the weights do not fit; warn if other settings are others.

        Parameters
        ----------
        settings : TrainingSettings
            Resolved settings of the run.
        n_features : int
            Number of values in a frame.

        Raises
        ------
        TrainingError
            The message says what the file has, and what this run trains.
        """
        if settings.networks != (self.network,):
            raise TrainingError(
                f"{self.path}: it has weights of the network {self.network!r}; this run trains "
                f"{' and '.join(map(repr, settings.networks))}. Give --network {self.network}, or another --start_from."
            )
        expected = create_network(self.network, n_features, **settings.options_of(self.network)).state_dict()
        shapes, expected_shapes = (
            {name: tuple(each.shape) for name, each in state.items()} for state in (self.tensors, expected)
        )
        differing = [
            f"{name} is {shapes.get(name, 'absent')} there and {expected_shapes.get(name, 'absent')} here"
            for name in [*expected_shapes, *(shapes.keys() - expected_shapes.keys())]
            if shapes.get(name) != expected_shapes.get(name)
        ]
        if differing:
            raise TrainingError(
                f"{self.path}: its network {self.network!r} has other sizes than that of this run: {differing[0]}. It "
                f"was trained with {self._flags()}."
            )
        own = {**option_defaults(self.network), **settings.options_of(self.network)}
        has_same_options = all(own[name] == value for name, value in self.network_options.items())
        frames = {**option_defaults(settings.front_end), **settings.front_end_options}
        has_same_frames = (self.front_end, self.front_end_options) == (settings.front_end, frames)
        if not (has_same_options and has_same_frames):
            logger.warning(
                "%s was trained with other settings of the network or its frames than those of this run: %s.",
                self.path, self._flags(),
            )  # fmt: skip

    def leaks(self, data: TrainingData) -> list[str]:
        """Return a sentence for each part with speakers that trained the weights."""
        known, sentences = set(self.all_speakers), []
        for part in ("validation", "test"):
            shared = {data.utterances[row].speaker for row in data.parts[part].tolist()} & known
            if shared:
                sentences.append(
                    f"The weights in {self.path.name} were trained on speakers with the names of "
                    f"{count_of(len(shared), 'speaker')} of the {part} part; if they are the same, its figures are too "
                    "good."
                )
        return sentences

    def _flags(self) -> str:
        """Return the flags of its network and front end."""
        words = [f"--front_end {self.front_end}"]
        for flag, options in (("front_end_options", self.front_end_options), ("network_options", self.network_options)):
            if options:
                words.append(" ".join([f"--{flag}", *(f"{name}={value}" for name, value in options.items())]))
        return " ".join(words)

    def copy_to(self, member: Member, speakers: tuple[str, ...]) -> None:
        """Copy the weights into the network of a run, and those of the classifier if it has the same speakers."""
        member.model.network.load_state_dict(self.tensors)
        layer, how = member.classifier, ""
        if layer is not None:
            how = "; the classifier starts from random weights, because it has other speakers"
            if isinstance(layer, nn.Linear) and self.classifier is not None and self.speakers == speakers:
                layer.load_state_dict(dict(zip(("weight", "bias"), self.classifier, strict=True)))
                how = ", with its classifier, which has the same speakers"
        logger.info("The network %s starts from the weights in %s%s", self.network, self.path, how)
