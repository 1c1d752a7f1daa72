"""`SpeakerClassifier`: all that is needed to say who speaks in a file, in one file."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from audio import InputError
from corpora import Utterance
from encoders import ENCODERS, Encoder, LazyEncoder, Spec, default_spec, lazy_encoder, spec_differences
from features import FeatureSet, embed_utterances, load_tensors, warn_of_precision, write_tensors
from heads.base import Head
from heads.registry import create_head
from heads.scalers import Scaler, create_scaler

FORMAT = 1
WHAT = "a speaker classifier, as speaker_recognition_librispeech.py saves one"


class ClassifierError(InputError):
    """A classifier cannot be used, or was asked to judge what it was not trained for."""


@dataclass(frozen=True)
class Prediction:
    """Who speaks in one file.

    Attributes
    ----------
    path : Path
        The file.
    speakers : tuple of str
        The likeliest speakers, best first; empty if the file could not be judged.
    probabilities : tuple of float
        Their probabilities, among the speakers that the classifier knows.
    error : str or None
        Why the file could not be judged.
    """

    path: Path
    speakers: tuple[str, ...] = ()
    probabilities: tuple[float, ...] = ()
    error: str | None = None


@dataclass(frozen=True, eq=False)
class SpeakerClassifier:
    """A fitted scaler and head, the speakers they know, and the encoder that their features come from.

    Attributes
    ----------
    scaler : Scaler
    head : Head
        Its classes are numbers into `speakers`.
    head_name : str
        Its name in `HEADS`.
    speakers : tuple of str
    encoder : dict
        Spec of the encoder.
    crop : float or None
        ``max_duration`` of the training features (seconds).
    threshold : float or None
        Probability under which a speaker counts as unknown; None until it has been calibrated.
    metrics : dict
        What was measured of it.
    training : dict
        How it was trained: corpus, head, split, seed, versions.
    """

    scaler: Scaler
    head: Head
    head_name: str
    speakers: tuple[str, ...]
    encoder: Spec
    crop: float | None
    threshold: float | None = None
    metrics: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)

    def predict_features(self, features: FeatureSet, top_k: int = 5) -> list[tuple[tuple[str, ...], tuple[float, ...]]]:
        """Name the likeliest speakers of each row, best first, with their probabilities.

        Raises
        ------
        ClassifierError
            The features come from another encoder than the classifier's.
        """
        layers = self.encoder.get("layers", ())
        if len(layers) == 1 and layers[0] in features.layers:
            features = features.layer(layers[0])
        self._check_encoder(features.encoder, "the features")
        return self._judge(features.features, top_k)

    def predict(
        self,
        paths: Sequence[str | os.PathLike[str]],
        top_k: int = 5,
        encoder: Encoder | LazyEncoder | None = None,
        encoder_weights: str | Path | None = None,
        device: str = "auto",
        precision: str = "auto",
        progress: bool = False,
    ) -> list[Prediction]:
        """Name the likeliest speakers of each file, best first; a file that cannot be read does not stop the others.

        Parameters
        ----------
        paths : sequence of path-like
            Audio files.
        top_k : int
            Most speakers to name.
        encoder : Encoder or LazyEncoder, optional
            By default the one that the classifier was trained with, found as `load_encoder` finds it.
        encoder_weights : path-like, optional
            Where the encoder's weights are.
        device : str
            Device of the encoder.
        precision : str
            Of the encoder; ``auto`` is what the classifier was trained with.
        progress : bool
            Show a progress bar, on a terminal.

        Returns
        -------
        list of Prediction
            In the order of the paths.

        Raises
        ------
        ClassifierError
            The encoder is not the one that the classifier was trained with.
        """
        if encoder is None:
            encoder = self._find_encoder(encoder_weights, device, precision)
        self._check_encoder(encoder.spec, "the encoder")
        utterances = [Utterance(Path(path), speaker="", session="") for path in paths]
        rows = embed_utterances(utterances, encoder, self.crop)
        shown = tqdm(rows, "Listening", len(utterances), unit="file", disable=None if progress else True)
        return [self._prediction(row.utterance.path, row.vector, row.error, top_k) for row in shown]

    def _prediction(self, path: Path, vector: torch.Tensor | None, error: str | None, top_k: int) -> Prediction:
        if vector is None:
            return Prediction(path, error=error)
        speakers, probabilities = self._judge(vector[None], top_k)[0]
        return Prediction(path, speakers, probabilities)

    def _judge(self, features: torch.Tensor, top_k: int) -> list[tuple[tuple[str, ...], tuple[float, ...]]]:
        if top_k < 1:
            raise ClassifierError(f"top_k is {top_k}; expected at least 1.")
        probabilities = self.head.predict_proba(self.scaler.transform(features))
        best = np.argsort(-probabilities, axis=1, kind="stable")[:, :top_k]
        names = [[self.speakers[self.head.classes_[column]] for column in row] for row in best]
        values = np.take_along_axis(probabilities, best, axis=1).tolist()
        return [(tuple(row), tuple(value)) for row, value in zip(names, values, strict=True)]

    def _find_encoder(self, weights: str | Path | None, device: str, precision: str) -> LazyEncoder:
        name = str(self.encoder.get("name"))
        if name not in ENCODERS:
            raise ClassifierError(
                f"This classifier was trained on vectors of the encoder {name!r}, which is not one of this project's; "
                "it can judge such vectors, but no audio."
            )
        trained_in = str(self.encoder.get("precision", "auto"))
        if precision == "auto" and "+" not in trained_in:  # of features of several precisions, the encoder's own
            precision = trained_in
        weights = weights or self.encoder.get("source")  # the hub's id, where it was one
        if weights is None and "source" in self.encoder:
            usual = default_spec(name)
            if usual is None or usual["weights"] != self.encoder["weights"]:
                raise ClassifierError(
                    "This classifier was trained with the weights of a folder, digest "
                    f"{str(self.encoder['weights'])[:8]}; give it again as --encoder_weights."
                )
        return lazy_encoder(name, weights, device, precision, **self.encoder.get("options", {}))

    def _check_encoder(self, spec: Spec, what: str) -> None:
        differences = spec_differences(spec, self.encoder)
        if differences:
            raise ClassifierError(
                f"The classifier was trained with the encoder {self.encoder.get('name')!r}, {what} came from another: "
                f"{'; '.join(differences)}. Use the encoder it was trained with, or train one for this."
            )
        warn_of_precision("The features that the classifier was trained on", self.encoder, spec)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the classifier to a ``.pt`` file, atomically.

        Raises
        ------
        OutputError
            The file cannot be written.
        """
        content = {
            "format": FORMAT,
            "head": {
                "name": self.head_name,
                "hyper_parameters": self.head.hyper_parameters(),
                "classes": self.head.classes_.tolist(),
                "state": self.head.state_dict(),
            },
            "scaler": self.scaler.state_dict(),
            "speakers": list(self.speakers),
            "encoder": self.encoder,
            "crop": self.crop,
            "threshold": self.threshold,
            "metrics": self.metrics,
            "training": self.training,
        }
        return write_tensors(Path(path), content)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "SpeakerClassifier":
        """Read a classifier; nothing in the file can run code.

        Raises
        ------
        ClassifierError
            No such file, or not a classifier.
        """
        path = Path(path)
        content = load_tensors(path, WHAT, ClassifierError)
        if "head" not in content or not isinstance(content.get("format"), int) or content["format"] != FORMAT:
            found = f"its format is {content.get('format')!r}" if "head" in content else "it has no head"
            raise ClassifierError(f"{path}: this is not {WHAT} of format {FORMAT}; {found}. Train it again.")
        try:
            head, scaler = content["head"], content["scaler"]
            loaded = cls(
                scaler=create_scaler(scaler["name"]).load_state_dict(scaler),
                head=create_head(head["name"], **head["hyper_parameters"]).load_state_dict(
                    head["state"], head["classes"]
                ),
                head_name=head["name"],
                **{key: content[key] for key in ("encoder", "crop", "threshold", "metrics", "training")},
                speakers=tuple(content["speakers"]),
            )
            loaded._check_parts()
        except Exception as error:  # right keys can hold anything
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            raise ClassifierError(
                f"{path}: this is not {WHAT}, or it is damaged ({reason}). Train it again."
            ) from error
        return loaded

    def _check_parts(self) -> None:
        """Raise if the parts do not fit together; a row of zeros goes all the way through them."""
        classes = [int(label) for label in self.head.classes_]
        if sorted(set(classes)) != classes or min(classes) < 0 or max(classes) >= len(self.speakers):
            raise ValueError(f"the head's classes are no numbers into its {len(self.speakers)} speakers")
        if not all(isinstance(speaker, str) for speaker in self.speakers):
            raise ValueError("a speaker's name is no string")
        if not isinstance(self.encoder, dict) or not isinstance(self.encoder.get("options", {}), dict):
            raise ValueError("its encoder is no spec")
        if self.crop is not None and not 0 < self.crop < float("inf"):
            raise ValueError(f"its crop is {self.crop!r}")
        scores = self.head.decision_function(self.scaler.transform(torch.zeros(1, *self.scaler.mean_.shape)))
        if scores.shape != (1, len(classes)) or not np.isfinite(scores).all():
            raise ValueError(f"it gives scores of shape {scores.shape} for {len(classes)} classes")
