"""`SpeakerClassifier`: identifies the speaker of audio files, and is saved as one file."""

import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from corpora import Utterance
from embedding import Row, embed_utterances
from encoders import Encoder, LazyEncoder, Spec, encoder_from_spec, warn_of_detection, with_detection_of
from features import FeatureSet, warn_of_narrow_rows
from files import (
    UNKNOWN,
    FormatReader,
    PathLike,
    as_paths,
    count_of,
    load_checked,
    short_repr,
    track,
    versions,
    write_tensors,
)
from heads.base import HeadError
from heads.fitted import ClassifierError, FittedHead
from heads.open_set import check_open_set, log_odds, min_speakers, rename_old_figures
from heads.predictions import Prediction
from heads.registry import head_source

FORMAT = 1
FILE_KIND = "a speaker classifier, as speaker_recognition_librispeech.py saves one"


@dataclass(frozen=True, eq=False)
class SpeakerClassifier:
    """A fitted head, or an ensemble of fitted heads, with the speakers that they were trained on.

    Attributes
    ----------
    members : tuple of FittedHead
        Fitted heads, each with the spec of its encoder. All have the same classes, which are indices into `speakers`.
        The logits of several members are averaged.
    speakers : tuple of str
        Names of the speakers.
    threshold : float or None
        Minimum score of a recording that is accepted; below it, the speaker is unknown. The score is the highest one of
        the `detector` or, without a detector, the `log_odds` of the most probable speaker. None if it was not
        calibrated.
    detector : FittedHead or None
        Head whose scores detect unknown speakers better than the probabilities do. Its encoder is that of a member.
    metrics : dict
        Figures of the comparison that selected the classifier.
    training : dict
        Settings of the training: corpus, head, split, seed, versions.
    folder : Path or None
        Folder from which it was loaded, which may hold the network of a `trained` encoder.
    """

    members: tuple[FittedHead, ...]
    speakers: tuple[str, ...]
    threshold: float | None = None
    detector: FittedHead | None = None
    metrics: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    folder: Path | None = field(default=None, compare=False)

    def __repr__(self) -> str:
        members = " + ".join(f"{member.name} on {member.encoder.get('name')}" for member in self.members)
        names = ", ".join(self.speakers[:3]) + (", ..." if len(self.speakers) > 3 else "")
        rejects = "no threshold" if self.threshold is None else f"threshold {self.threshold:.3g}"
        return short_repr(self, f"{members}: {count_of(len(self.speakers), 'speaker')} ({names}), {rejects}")

    def predict_features(
        self, features: FeatureSet | Sequence[FeatureSet], top_k: int = 5, reject: bool = False
    ) -> list[tuple[tuple[str, ...], tuple[float, ...]]]:
        """Return the most probable speakers of each row, best first, with their probabilities.

        Parameters
        ----------
        features : FeatureSet or sequence of FeatureSet
            Features to classify. An ensemble over several encoders takes a set from each, with the same utterances in
            the same order.
        top_k : int
            Maximum number of speakers per row.
        reject : bool
            Whether to put `UNKNOWN` first, with probability NaN, for rows below the threshold.

        Raises
        ------
        ClassifierError
            The features come from another encoder than the classifier's, or there is no threshold to reject by.
        """
        sets = [features] if isinstance(features, FeatureSet) else list(features)
        if len({given.ids for given in sets}) != 1:
            raise ClassifierError("Expected feature sets with the same utterances in the same order, got others.")
        return self._classify(lambda member: member.vectors(_closest_set(sets, member)), top_k, reject)

    def predict(
        self,
        paths: PathLike | Iterable[PathLike],
        top_k: int = 5,
        *,
        encoder: Encoder | LazyEncoder | None = None,
        encoder_weights: str | Path | Sequence[str | Path] | None = None,
        device: str = "auto",
        precision: str = "auto",
        speech_detection: Mapping[str, float] | Literal[False] | None = None,
        progress: bool = False,
        reject: bool = False,
        channel: int | None = None,
    ) -> list[Prediction]:
        """Return the most probable speakers of each file, best first; an unreadable file does not stop the others.

        Files with a narrower bandwidth than the training recordings are named in a warning.

        Parameters
        ----------
        paths : path-like, or several
            Audio files.
        top_k : int
            Maximum number of speakers per file.
        encoder : Encoder or LazyEncoder, optional
            Encoder of the files; by default the one that the classifier was trained with, as `load_encoder` finds it.
        encoder_weights : path-like, or a sequence of them, optional
            File or folder of the encoder's weights; ``auto`` searches the usual places. An ensemble over several
            encoders takes one for each, in the order of `members`.
        device : str
            Device of the encoder.
        precision : str
            Precision of the encoder; ``auto`` is that of the training features.
        speech_detection : mapping or False, optional
            Settings of `audio.SpeechSettings` by name, to leave out the pauses of these files, or False to embed them
            with their pauses; by default as in the training.
        progress : bool
            Whether to show the progress, as `files.track` does.
        reject : bool
            Whether to put `UNKNOWN` first, with probability NaN, for files below the threshold.
        channel : int, optional
            Number of the channel of the files, from 0; None is the mean of all.

        Returns
        -------
        list of Prediction
            One prediction for each path, in the order of the paths.

        Raises
        ------
        ClassifierError
            The encoder is not the one that the classifier was trained with, or there is no threshold to reject by.
        EncoderError
            The encoder is not one of this project's, or its weights are not found.
        """
        if reject:
            self._check_threshold()
        origins = {member.origin: member for member in self.members}
        if encoder is not None:
            encoders: list[Encoder | LazyEncoder] = [encoder] * len(origins)
        else:
            weights = _weights_of_encoders(encoder_weights, [member.encoder for member in origins.values()])
            encoders = [
                encoder_from_spec(
                    member.encoder,
                    path,
                    device,
                    precision=precision,
                    folder=self.folder,
                    speech_detection=speech_detection,
                )
                for member, path in zip(origins.values(), weights, strict=True)
            ]
        for member, given in zip(origins.values(), encoders, strict=True):
            if speech_detection is not None:
                warn_of_detection("The recordings that the classifier was trained on", member.encoder, given.spec)
            own = given.spec if speech_detection is None else with_detection_of(given.spec, member.encoder)
            member.check_encoder(own, "this one is another")
        utterances = [Utterance(path, speaker="", session="", channel=channel) for path in as_paths(paths)]
        streams = [
            warn_of_narrow_rows(embed_utterances(utterances, given, member.crop), member.bandwidth)
            for member, given in zip(origins.values(), encoders, strict=True)
        ]
        rows = zip(*streams, strict=True)
        shown = track(rows, "Reading", len(utterances), unit="file", visible=progress)
        return [self._prediction(dict(zip(origins, parts, strict=True)), top_k, reject) for parts in shown]

    def _prediction(self, rows: dict[tuple[str, float | None], Row], top_k: int, reject: bool) -> Prediction:
        """Return the prediction of one file from its rows, one per origin (see `FittedHead.origin`)."""
        utterance = next(iter(rows.values())).utterance
        errors = [row.error for row in rows.values() if row.error is not None]
        if errors:
            return Prediction(utterance.path, error=errors[0], channel=utterance.channel)
        vectors = {origin: row.vector[None] for origin, row in rows.items() if row.vector is not None}
        speakers, probabilities = self._classify(lambda member: vectors[member.origin], top_k, reject)[0]
        return Prediction(utterance.path, speakers, probabilities, channel=utterance.channel)

    def _classify(
        self, vectors_of: Callable[[FittedHead], torch.Tensor], top_k: int, reject: bool
    ) -> list[tuple[tuple[str, ...], tuple[float, ...]]]:
        """Return the speakers and probabilities of each row; `vectors_of` returns the vectors for a member."""
        if top_k < 1:
            raise ClassifierError(f"top_k is {top_k}; expected at least 1.")
        logits = [member.logits(vectors_of(member)) for member in self.members]
        mean = mean_logits(logits)
        probabilities = torch.from_numpy(mean).softmax(dim=1).numpy()
        classes = self.members[0].head.classes_
        best = np.argsort(-probabilities, axis=1, kind="stable")[:, :top_k]
        names = [[self.speakers[classes[column]] for column in row] for row in best]
        values = np.take_along_axis(probabilities, best, axis=1).tolist()
        if reject:
            if self.detector is None:
                scores = log_odds(mean)
            else:
                scores = self.detector.logits(vectors_of(self.detector)).max(axis=1).astype(np.float64)
            for row in np.flatnonzero(scores < self._check_threshold()).tolist():
                names[row], values[row] = [UNKNOWN, *names[row]][:top_k], [math.nan, *values[row]][:top_k]
        return [(tuple(row), tuple(value)) for row, value in zip(names, values, strict=True)]

    def _check_threshold(self) -> float:
        if self.threshold is None:
            names = [member.name for member in self.members]
            n_needed, n_speakers = min_speakers(names), len(self.members[0].head.classes_)
            reason = f"it knows {count_of(n_speakers, 'speaker')}, and {' + '.join(names)} needs at least {n_needed}"
            if n_speakers >= min_speakers(()):
                reason += "; other heads, such as linear, need fewer"
            if n_speakers >= n_needed:
                reason = "it was trained on too few recordings to hold some out, or by an earlier version"
            if "objective" in self.training:
                raise ClassifierError(
                    "This classifier has no threshold for unknown speakers, because train_encoder.py saved it with its "
                    "network. Train a head on the features of the network with speaker_recognition_librispeech.py "
                    "--encoder trained, or use speaker_verification.py enroll and identify."
                )
            raise ClassifierError(
                f"This classifier has no threshold for unknown speakers: {reason}. Train it again on more speakers and "
                "recordings, or use speaker_verification.py enroll and identify, which need only one recording of each "
                "speaker."
            )
        return self.threshold

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the classifier to a ``.pt`` file, atomically.

        Raises
        ------
        OutputError
            The file cannot be written.
        """
        parts = [member.content() for member in self.members]
        content = {
            "format": FORMAT,
            **(parts[0] if len(parts) == 1 else {"members": parts}),
            "speakers": list(self.speakers),
            "threshold": self.threshold,
            "detector": None if self.detector is None else self.detector.content(),
            "metrics": self.metrics,
            "training": self.training,
            "created_with": versions(),
        }
        return write_tensors(Path(path), content)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "SpeakerClassifier":
        """Read a classifier; nothing in the file can run code.

        Raises
        ------
        ClassifierError
            There is no such file, it is not a classifier, or it has an own head that was not given to `register_head`.
        """
        return load_checked(Path(path), READERS, kind=FILE_KIND, error_class=ClassifierError, advice="Train it again.")

    def _check_parts(self) -> None:
        """Raise if the parts do not fit together."""
        classes = self.members[0].head.classes_.tolist()
        if not all(type(label) is int and 0 <= label < len(self.speakers) for label in classes):
            raise ValueError(f"its head has classes that are not indices into its {len(self.speakers)} speakers")
        if sorted(set(classes)) != classes:
            raise ValueError("the classes of its head are not sorted")
        if any(member.head.classes_.tolist() != classes for member in self.members):
            raise ValueError("its members have different classes")
        if not all(isinstance(speaker, str) for speaker in self.speakers):
            raise ValueError("the name of a speaker is not a string")
        if self.threshold is not None and not math.isfinite(self.threshold):
            raise ValueError(f"its threshold is {self.threshold!r}, expected a finite number")
        if self.detector is not None and self.detector.origin not in {member.origin for member in self.members}:
            raise ValueError("its detector has another encoder than its members")
        if not isinstance(self.metrics, dict) or not isinstance(self.training, dict):
            raise ValueError("its metrics or training are not a dict")
        check_open_set(self.metrics.get("open_set") or {})


def _read_format_1(content: dict[str, Any], path: Path) -> SpeakerClassifier:
    if "head" not in content and "members" not in content:
        raise ValueError("it has no head")
    _check_heads(content, path)
    metrics = dict(content["metrics"])
    if metrics.get("open_set"):
        metrics["open_set"] = rename_old_figures(metrics["open_set"])
    loaded = SpeakerClassifier(
        members=tuple(map(FittedHead.from_content, content.get("members", [content]))),
        speakers=tuple(content["speakers"]),
        threshold=content["threshold"],
        detector=FittedHead.from_content(content["detector"]) if content.get("detector") else None,
        metrics=metrics,
        training=content["training"],
        folder=path.parent,
    )
    loaded._check_parts()
    return loaded


def _check_heads(content: dict[str, Any], path: Path) -> None:
    """Refuse heads whose class is not known; a name in a file imports nothing."""
    for member in content.get("members", [content]):
        name = member["head"]["name"]
        try:
            head_source(name)
        except HeadError as error:
            own = name if name.isidentifier() else "CLASS"  # a name in a file may be any text
            raise ClassifierError(
                f"{path}: its head {name!r} is not one of this project's heads. Give the class with --heads "
                f"FILE.py:{own}; in Python, call register_head({own}) before the classifier is loaded."
            ) from error


# Readers by format.
READERS: dict[int, FormatReader[SpeakerClassifier]] = {1: _read_format_1}


def mean_logits(logits: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Average the logits (n, n_classes) of an ensemble's members."""
    mean: NDArray[np.float32] = np.mean(logits, axis=0, dtype=np.float32) if len(logits) > 1 else logits[0]
    return mean


def _closest_set(sets: Sequence[FeatureSet], member: FittedHead) -> FeatureSet:
    """Return the set that a member was trained on, or else the least different one, which the member then refuses."""
    return min(sets, key=member.distance)


def _weights_of_encoders(
    weights: str | Path | Sequence[str | Path] | None, specs: Sequence[Spec]
) -> list[str | Path | None]:
    """Return each encoder's file or folder of weights, or None to search for it; equal encoders share one."""
    keys = [(str(spec.get("name")), spec.get("weights")) for spec in specs]
    distinct = list(dict.fromkeys(keys))
    given = [weights] if isinstance(weights, str | Path) else list(weights or ["auto"] * len(distinct))
    if len(given) != len(distinct):
        raise ClassifierError(
            f"Expected weights for {count_of(len(distinct), 'encoder')} ({', '.join(name for name, _ in distinct)}), "
            f"got {len(given)}; give a file or folder for each, in this order, or 'auto' to search the usual places."
        )
    paths = [None if str(path) == "auto" else path for path in given]
    return [paths[distinct.index(key)] for key in keys]
