"""A scaler and a head fitted to the vectors of one encoder: what a `SpeakerClassifier` is made of."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from audio import InputError
from encoders import ENCODERS, LazyEncoder, Spec, default_spec, lazy_encoder, spec_differences, spec_digest
from features import FeatureSet, warn_of_precision
from heads.base import Head
from heads.registry import create_head
from heads.scalers import Scaler, create_scaler


class ClassifierError(InputError):
    """A classifier cannot be used, or was asked to judge what it was not trained for."""


@dataclass(frozen=True, eq=False)
class FittedHead:
    """A fitted scaler and head, and the encoder that their vectors come from.

    Attributes
    ----------
    scaler : Scaler
    head : Head
        Its classes are numbers of speakers.
    name : str
        The head's name in `HEADS`.
    encoder : dict
        Spec of the encoder.
    crop : float or None
        ``max_duration`` of the training features (seconds).
    temperature : float
        What the head's logits are divided by, to be as sure of themselves as they are right; the same for all members
        of an ensemble, whose logits are averaged as they are.
    """

    scaler: Scaler
    head: Head
    name: str
    encoder: Spec
    crop: float | None
    temperature: float = 1.0

    @property
    def origin(self) -> tuple[str, float | None]:
        """What two members share whose vectors are the same: digest of the encoder's spec, and crop."""
        return spec_digest(self.encoder), self.crop

    def logits(self, vectors: Tensor) -> NDArray[np.float32]:
        """Return the logits (n, n_classes) of vectors (n, D) or (n, L, D)."""
        return self.head.decision_function(self.scaler.transform(vectors)) / np.float32(self.temperature)

    def vectors(self, features: FeatureSet) -> Tensor:
        """Return the vectors of a set as this head takes them, its layer where the set has several.

        Raises
        ------
        ClassifierError
            They come from another encoder.
        """
        features = self.view(features)
        self.check_encoder(features.encoder, "the features")
        if features.audio is not None and features.audio.crop != self.crop:
            raise ClassifierError(
                f"The classifier was trained on recordings with max_duration {self.crop}, the features were made with "
                f"{features.audio.crop}. Extract them with the same."
            )
        return features.features

    def view(self, features: FeatureSet) -> FeatureSet:
        """Return the layer of a set that this head takes, or the set itself."""
        layers = self.encoder.get("layers", ())
        return features.layer(layers[0]) if len(layers) == 1 and layers[0] in features.layers else features

    def distance(self, features: FeatureSet) -> tuple[int, bool]:
        """Return how much a set differs from what this head was trained on; (0, False) is not at all."""
        crop = None if features.audio is None else features.audio.crop
        return len(spec_differences(features.encoder, self.encoder)), features.audio is not None and crop != self.crop

    def check_encoder(self, spec: Spec, what: str) -> None:
        """Refuse vectors of another encoder, and warn of another precision.

        Raises
        ------
        ClassifierError
            What differs, and what to do.
        """
        differences = spec_differences(spec, self.encoder)
        if differences:
            raise ClassifierError(
                f"The classifier was trained with the encoder {self.encoder.get('name')!r}, {what} came from another: "
                f"{'; '.join(differences)}. Use the encoder it was trained with, or train one for this."
            )
        warn_of_precision("The features that the classifier was trained on", self.encoder, spec)

    def content(self) -> dict[str, Any]:
        """Return it as tensors and plain values, for a file."""
        head = {
            "name": self.name,
            "hyper_parameters": self.head.hyper_parameters(),
            "classes": self.head.classes_.tolist(),
            "state": self.head.state_dict(),
        }
        plain = {"encoder": self.encoder, "crop": self.crop, "temperature": self.temperature}
        return {"head": head, "scaler": self.scaler.state_dict(), **plain}

    @classmethod
    def from_content(cls, content: dict[str, Any]) -> "FittedHead":
        """Make it of what `content` gave; whatever else is in there raises some error."""
        head, scaler = content["head"], content["scaler"]
        fitted = create_head(head["name"], **head["hyper_parameters"]).load_state_dict(head["state"], head["classes"])
        loaded = cls(
            create_scaler(scaler["name"]).load_state_dict(scaler), fitted, head["name"], content["encoder"],
            content["crop"], content.get("temperature", 1.0),
        )  # fmt: skip
        loaded._check()
        return loaded

    def _check(self) -> None:
        if not isinstance(self.encoder, dict) or not isinstance(self.encoder.get("options", {}), dict):
            raise ValueError("its encoder is no spec")
        if self.crop is not None and not 0 < self.crop < float("inf"):
            raise ValueError(f"its crop is {self.crop!r}")
        if not 0 < self.temperature < float("inf"):
            raise ValueError(f"its temperature is {self.temperature!r}")
        n_classes = len(self.head.classes_)
        scores = self.logits(torch.zeros(1, *self.scaler.mean_.shape))
        if scores.shape != (1, n_classes) or not np.isfinite(scores).all():
            raise ValueError(f"it gives scores of shape {scores.shape} for {n_classes} classes")


def find_encoder(spec: Spec, weights: str | Path | None, device: str, precision: str) -> LazyEncoder:
    """Find the encoder that a saved classifier or verifier was trained with.

    Parameters
    ----------
    spec : dict
        What it was trained with.
    weights : path-like, optional
        Where the encoder's weights are, if they are not found by themselves.
    device, precision : str
        As `load_encoder` takes them; the precision ``auto`` is that of the training.

    Raises
    ------
    ClassifierError
        It is none of this project's encoders, or its weights must be named.
    EncoderError
        The weights are not there.
    """
    name = str(spec.get("name"))
    if name not in ENCODERS:
        raise ClassifierError(
            f"This was trained on vectors of the encoder {name!r}, which is not one of this project's; "
            "it can judge such vectors, but no audio."
        )
    trained_in = str(spec.get("precision", "auto"))
    if precision == "auto" and "+" not in trained_in:  # of features of several precisions, the encoder's own
        precision = trained_in
    weights = weights or spec.get("source")  # the hub's id, where it was one
    if weights is None and "source" in spec:
        usual = default_spec(name)
        if usual is None or usual["weights"] != spec["weights"]:
            raise ClassifierError(
                "This was trained with the weights of a folder, digest "
                f"{str(spec['weights'])[:8]}; give it again as --encoder_weights."
            )
    return lazy_encoder(name, weights, device, precision, **spec.get("options", {}))
