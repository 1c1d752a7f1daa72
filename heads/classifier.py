"""`SpeakerClassifier`: all that is needed to say who speaks in a file, in one file."""

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import logsumexp
from tqdm import tqdm

from corpora import Utterance
from encoders import Encoder, LazyEncoder, Spec
from features import FeatureSet, Row, embed_utterances, load_tensors, write_tensors
from heads.fitted import ClassifierError, FittedHead, find_encoder

FORMAT = 1
WHAT = "a speaker classifier, as speaker_recognition_librispeech.py saves one"
# What is said of a stranger.
UNKNOWN = "unknown"


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
        Their probabilities, among the speakers that are known; NaN for `UNKNOWN` where it has none.
    error : str or None
        Why the file could not be judged.
    """

    path: Path
    speakers: tuple[str, ...] = ()
    probabilities: tuple[float, ...] = ()
    error: str | None = None


@dataclass(frozen=True, eq=False)
class SpeakerClassifier:
    """One fitted head, or an ensemble of several, and the speakers that they know.

    Attributes
    ----------
    members : tuple of FittedHead
        Each with the encoder that its vectors come from; the logits of several are averaged. All have the same
        classes, numbers into `speakers`.
    speakers : tuple of str
    threshold : float or None
        What a recording must reach not to count as a stranger's: the `log_odds` of the likeliest speaker or, where
        there is a `detector`, the highest of its scores. None where it has not been calibrated.
    detector : FittedHead or None
        A head that tells strangers better than the probabilities do; of an encoder of the members.
    metrics : dict
        What was measured of it.
    training : dict
        How it was trained: corpus, head, split, seed, versions.
    """

    members: tuple[FittedHead, ...]
    speakers: tuple[str, ...]
    threshold: float | None = None
    detector: FittedHead | None = None
    metrics: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)

    def predict_features(
        self, features: FeatureSet | Sequence[FeatureSet], top_k: int = 5, reject: bool = False
    ) -> list[tuple[tuple[str, ...], tuple[float, ...]]]:
        """Name the likeliest speakers of each row, best first, with their probabilities.

        An ensemble over several encoders takes a set of each, of the same utterances in the same order. With `reject`
        `UNKNOWN` stands before the others where the threshold is not reached.

        Raises
        ------
        ClassifierError
            The features come from another encoder than the classifier's, or it has no threshold.
        """
        sets = [features] if isinstance(features, FeatureSet) else list(features)
        if len({given.ids for given in sets}) != 1:
            raise ClassifierError("The sets of features must hold the same utterances in the same order.")
        return self._judge(lambda member: member.vectors(_nearest(sets, member)), top_k, reject)

    def predict(
        self,
        paths: Sequence[str | os.PathLike[str]],
        top_k: int = 5,
        encoder: Encoder | LazyEncoder | None = None,
        encoder_weights: str | Path | Sequence[str | Path] | None = None,
        device: str = "auto",
        precision: str = "auto",
        progress: bool = False,
        reject: bool = False,
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
        encoder_weights : path-like, or a sequence of them, optional
            Where the encoder's weights are; of an ensemble over several encoders one for each, in the order of
            `members`, ``auto`` for those that are found by themselves.
        device : str
            Device of the encoder.
        precision : str
            Of the encoder; ``auto`` is what the classifier was trained with.
        progress : bool
            Show a progress bar, on a terminal.
        reject : bool
            Put `UNKNOWN` before the others where the threshold is not reached.

        Returns
        -------
        list of Prediction
            In the order of the paths.

        Raises
        ------
        ClassifierError
            The encoder is not the one that the classifier was trained with, or there is no threshold to reject by.
        """
        if reject:
            self._check_threshold()
        origins = {member.origin: member for member in self.members}
        if encoder is not None:
            encoders: list[Encoder | LazyEncoder] = [encoder] * len(origins)
        else:
            places = _places(encoder_weights, [member.encoder for member in origins.values()])
            encoders = [
                find_encoder(member.encoder, place, device, precision)
                for member, place in zip(origins.values(), places, strict=True)
            ]
        for member, given in zip(origins.values(), encoders, strict=True):
            member.check_encoder(given.spec, "the encoder")
        utterances = [Utterance(Path(path), speaker="", session="") for path in paths]
        rows = zip(
            *(
                embed_utterances(utterances, given, member.crop)
                for member, given in zip(origins.values(), encoders, strict=True)
            ),
            strict=True,
        )
        shown = tqdm(rows, "Listening", len(utterances), unit="file", disable=None if progress else True)
        return [self._prediction(dict(zip(origins, parts, strict=True)), top_k, reject) for parts in shown]

    def _prediction(self, rows: dict[tuple[str, float | None], Row], top_k: int, reject: bool) -> Prediction:
        """Judge one file by its rows, one for each origin."""
        path = next(iter(rows.values())).utterance.path
        errors = [row.error for row in rows.values() if row.error is not None]
        if errors:
            return Prediction(path, error=errors[0])
        vectors = {origin: row.vector[None] for origin, row in rows.items() if row.vector is not None}
        speakers, probabilities = self._judge(lambda member: vectors[member.origin], top_k, reject)[0]
        return Prediction(path, speakers, probabilities)

    def _judge(
        self, vectors_of: Callable[[FittedHead], torch.Tensor], top_k: int, reject: bool
    ) -> list[tuple[tuple[str, ...], tuple[float, ...]]]:
        """Name the speakers of rows, of which there is a table for each member."""
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
            raise ClassifierError(
                "This classifier has no threshold to tell strangers by: it was trained on too few speakers or "
                "recordings to leave some out, or by an earlier version. Train it again, on more."
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
        has_head = "head" in content or "members" in content
        if not has_head or not isinstance(content.get("format"), int) or content["format"] != FORMAT:
            found = f"its format is {content.get('format')!r}" if has_head else "it has no head"
            raise ClassifierError(f"{path}: this is not {WHAT} of format {FORMAT}; {found}. Train it again.")
        try:
            loaded = cls(
                members=tuple(map(FittedHead.from_content, content.get("members", [content]))),
                speakers=tuple(content["speakers"]),
                detector=FittedHead.from_content(content["detector"]) if content.get("detector") else None,
                **{key: content[key] for key in ("threshold", "metrics", "training")},
            )
            loaded._check_parts()
        except Exception as error:  # right keys can hold anything
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            raise ClassifierError(
                f"{path}: this is not {WHAT}, or it is damaged ({reason}). Train it again."
            ) from error
        return loaded

    def _check_parts(self) -> None:
        """Raise if the parts do not fit together."""
        classes = self.members[0].head.classes_.tolist()
        if not all(type(label) is int and 0 <= label < len(self.speakers) for label in classes):
            raise ValueError(f"the head's classes are no numbers into its {len(self.speakers)} speakers")
        if sorted(set(classes)) != classes:
            raise ValueError("the head's classes are not in order")
        if any(member.head.classes_.tolist() != classes for member in self.members):
            raise ValueError("its members know different speakers")
        if not all(isinstance(speaker, str) for speaker in self.speakers):
            raise ValueError("a speaker's name is no string")
        if self.threshold is not None and not math.isfinite(self.threshold):
            raise ValueError(f"its threshold is {self.threshold!r}")
        if self.detector is not None and self.detector.origin not in {member.origin for member in self.members}:
            raise ValueError("its detector is of another encoder")
        if not isinstance(self.metrics, dict) or not isinstance(self.training, dict):
            raise ValueError("its metrics or its training are no dict")
        figures = self.metrics.get("open_set") or {}
        shares = [f"{name}{end}" for name in ("miss", "false_alarm") for end in ("", "_low", "_high")]
        numbers = [figures[name] for name in (*shares, "dir_at_far_0.01")] if figures else []
        told = [figures[name] for name in ("by", "n_strangers", "split_by", "seed")] if figures else []
        if not all(isinstance(each, float) for each in numbers) or not all(
            isinstance(each, str | int) for each in told
        ):
            raise ValueError("its figures of strangers are no numbers")


def mean_logits(logits: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Average the logits (n, n_classes) of an ensemble's members."""
    mean: NDArray[np.float32] = np.mean(logits, axis=0, dtype=np.float32) if len(logits) > 1 else logits[0]
    return mean


def log_odds(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the log-odds (n,) of the likeliest of the classes against all others; logits (n, n_classes).

    They order rows as the probability does, and do not end at 1.
    """
    sorted_logits = np.sort(logits.astype(np.float64), axis=1)
    odds: NDArray[np.float64] = sorted_logits[:, -1] - logsumexp(sorted_logits[:, :-1], axis=1)
    return odds


def _nearest(sets: Sequence[FeatureSet], member: FittedHead) -> FeatureSet:
    """Return the set that a member was trained for, or else the one that differs least, which it will refuse."""
    return min(sets, key=member.distance)


def _places(weights: str | Path | Sequence[str | Path] | None, specs: Sequence[Spec]) -> list[str | Path | None]:
    """Return a place of the weights, or None, for each encoder; those of the same weights share one."""
    kinds = [(str(spec.get("name")), spec.get("weights")) for spec in specs]
    several = list(dict.fromkeys(kinds))
    given = [weights] if isinstance(weights, str | Path) else list(weights or ["auto"] * len(several))
    if len(given) != len(several):
        raise ClassifierError(
            f"There are {len(given)} places of weights for {len(several)} encoders "
            f"({', '.join(name for name, _ in several)}); give one for each, in this order, 'auto' for those that are "
            "found by themselves."
        )
    found = [None if str(place) == "auto" else place for place in given]
    return [found[several.index(kind)] for kind in kinds]
