"""`FittedHead`: a scaler and a head that were fitted to the vectors of one encoder."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from encoders import Spec, spec_differences, spec_digest, warn_of_precision
from features import FeatureSet
from files import InputError, count_of, short_repr
from heads.base import Head
from heads.registry import create_head
from heads.scalers import Scaler, create_scaler


class ClassifierError(InputError):
    """A classifier cannot be used, or its input does not match its training."""


@dataclass(frozen=True, eq=False, kw_only=True)
class FittedHead:
    """A fitted scaler and head, and the encoder that their vectors come from; a member of a `SpeakerClassifier`.

    Attributes
    ----------
    scaler : Scaler
        Fitted scaler.
    head : Head
        Fitted head; its classes are indices of speakers.
    name : str
        Name of the head in `HEADS`, or of the class of an own head.
    encoder : dict
        Spec of the encoder.
    crop : float or None
        ``max_duration`` of the training features (seconds).
    bandwidth : float or None
        Bandwidth of the training recordings (Hz; `features.learned_bandwidth`); None if it is not known.
    temperature : float
        Divisor of the head's logits that calibrates the probabilities. It is the same for all members of an ensemble.
    """

    scaler: Scaler
    head: Head
    name: str
    encoder: Spec
    crop: float | None
    bandwidth: float | None = None
    temperature: float = 1.0

    def __repr__(self) -> str:
        origin = f"{self.encoder.get('name')}, scaler {self.scaler.name}"
        return short_repr(self, f"{self.name} on {origin}: {count_of(len(self.head.classes_), 'speaker')}")

    @property
    def origin(self) -> tuple[str, float | None]:
        """Digest of the encoder's spec, and crop. Members with the same origin take the same vectors."""
        return spec_digest(self.encoder), self.crop

    def logits(self, vectors: Tensor) -> NDArray[np.float32]:
        """Return the logits (n, n_classes) of vectors (n, D) or (n, L, D)."""
        return self.head.decision_function(self.scaler.transform(vectors)) / np.float32(self.temperature)

    def vectors(self, features: FeatureSet) -> Tensor:
        """Return the vectors of a set that this head takes: those of its layer if the set holds several.

        Raises
        ------
        ClassifierError
            The features come from another encoder, or were extracted with another `max_duration`.
        """
        features = self.view(features)
        self.check_encoder(features.encoder, "the features come from another")
        if features.audio is not None and features.audio.crop != self.crop:
            raise ClassifierError(
                f"The classifier was trained on features with max_duration {self.crop}, these features have "
                f"{features.audio.crop}. Extract them with the same max_duration."
            )
        return features.features

    def view(self, features: FeatureSet) -> FeatureSet:
        """Return the layer of a set that this head takes, or the set itself."""
        layers = self.encoder.get("layers", ())
        return features.layer(layers[0]) if len(layers) == 1 and layers[0] in features.layers else features

    def distance(self, features: FeatureSet) -> tuple[int, bool]:
        """Return the number of differences from the encoder's spec, and whether the crop differs."""
        crop = None if features.audio is None else features.audio.crop
        return len(spec_differences(features.encoder, self.encoder)), features.audio is not None and crop != self.crop

    def check_encoder(self, spec: Spec, clause: str) -> None:
        """Refuse vectors of another encoder, and warn of another precision.

        Parameters
        ----------
        spec : dict
            Spec of the encoder that the vectors come from.
        clause : str
            Clause of the error message, such as ``the features come from another``.

        Raises
        ------
        ClassifierError
            The encoder differs; the message lists the differences.
        """
        differences = spec_differences(spec, self.encoder)
        if differences:
            raise ClassifierError(
                f"The classifier was trained with the encoder {self.encoder.get('name')!r}, {clause}: "
                f"{'; '.join(differences)}. Use the encoder of the training, or train a classifier for this encoder."
            )
        warn_of_precision("The features that the classifier was trained on", self.encoder, spec)

    def content(self) -> dict[str, Any]:
        """Return the fitted head as tensors and plain values, for a file."""
        head = {
            "name": self.name,
            "hyper_parameters": self.head.hyper_parameters(),
            "classes": self.head.classes_.tolist(),
            "state": self.head.state_dict(),
        }
        plain = {name: getattr(self, name) for name in ("encoder", "crop", "bandwidth", "temperature")}
        return {"head": head, "scaler": self.scaler.state_dict(), **plain}

    @classmethod
    def from_content(cls, content: dict[str, Any]) -> "FittedHead":
        """Make a fitted head from what `content` returned; any other content raises an error of any class."""
        head, scaler = content["head"], content["scaler"]
        fitted = create_head(head["name"], **head["hyper_parameters"]).load_state_dict(head["state"], head["classes"])
        loaded = cls(
            scaler=create_scaler(scaler["name"]).load_state_dict(scaler),
            head=fitted,
            name=head["name"],
            encoder=content["encoder"],
            crop=content["crop"],
            bandwidth=content.get("bandwidth"),
            temperature=content.get("temperature", 1.0),
        )
        loaded._check()
        return loaded

    def _check(self) -> None:
        if not isinstance(self.encoder, dict) or not isinstance(self.encoder.get("options", {}), dict):
            raise ValueError("its encoder is not a spec")
        if self.crop is not None and not 0 < self.crop < float("inf"):
            raise ValueError(f"its crop is {self.crop!r}, expected seconds above 0 or None")
        if self.bandwidth is not None and not 0 < self.bandwidth < float("inf"):
            raise ValueError(f"its bandwidth is {self.bandwidth!r}, expected a frequency above 0 or None")
        if not 0 < self.temperature < float("inf"):
            raise ValueError(f"its temperature is {self.temperature!r}, expected a number above 0")
        n_classes = len(self.head.classes_)
        scores = self.logits(torch.zeros(1, *self.scaler.mean_.shape))
        if scores.shape != (1, n_classes) or not np.isfinite(scores).all():
            raise ValueError(f"its scores are not finite, or have shape {scores.shape} for {n_classes} classes")
