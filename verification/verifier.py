"""`SpeakerVerifier`: all that is needed to say whether two recordings are of one speaker, in one file."""

import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from audio import InputError
from corpora import Utterance
from encoders import Encoder, LazyEncoder, Spec, spec_differences
from features import FeatureSet, Row, embed_utterances, load_tensors, warn_of_precision, write_tensors
from heads import find_encoder
from metrics import equal_error_rate
from verification.backends import Backend, BackendError, create_backend, split_speakers
from verification.calibration import Calibration
from verification.open_set import calibrate, most_speakers
from verification.trials import all_pairs, random_triplets

logger = logging.getLogger(__name__)

FORMAT = 2
WHAT = "a speaker verifier, as speaker_verification.py train saves one"
# Less says too little of a voice, seconds.
SHORTEST = 0.5
# Utterances beyond which calibration draws trials at random in place of all pairs.
MOST_UTTERANCES = 3_000
TRIPLETS = 1_000_000


class VerifierError(InputError):
    """A verifier cannot be used, or a recording cannot be judged."""


@dataclass(frozen=True)
class Verdict:
    """What is said of two recordings.

    Attributes
    ----------
    score : float
        Of the backend.
    llr : float
        Natural log-likelihood ratio of one speaker against two.
    probability : float
        Of one speaker, by the prior that was given.
    same : bool
        Whether that is at least one half.
    """

    score: float
    llr: float
    probability: float
    same: bool


@dataclass(frozen=True, eq=False)
class SpeakerVerifier:
    """A backend and the calibration of its scores, for the vectors of one encoder.

    Attributes
    ----------
    backend : Backend
    calibration : Calibration
        Of the scores of a speaker, by the recordings that the speaker is known by; learned on speakers whom the
        backend did not train on.
    open_set : Calibration
        Of the highest of these log-likelihood ratios, by the number of speakers that are known: one of them against a
        stranger.
    encoder : dict
        Spec of the encoder.
    crop : float or None
        ``max_duration`` of the training features (seconds).
    training : dict
        Of what, and what came of it.
    """

    backend: Backend
    calibration: Calibration
    open_set: Calibration
    encoder: Spec
    crop: float | None
    training: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def train(cls, features: FeatureSet, backend: str = "cosine", seed: int = 0) -> "SpeakerVerifier":
        """Train a backend on half of the speakers, and calibrate it on the other half.

        A backend that needs no training is calibrated on all of them.

        Parameters
        ----------
        features : FeatureSet
            (N, D).
        backend : str
            Name from `BACKENDS`.
        seed : int
            Of the halves.

        Raises
        ------
        InputError
            There are too few speakers or recordings.
        """
        made, held_out = create_backend(backend), features
        if made.is_trained:
            train, held_out = split_speakers(features, seed)
            made.fit(train)
        few = len(held_out) <= MOST_UTTERANCES
        trials = all_pairs(held_out) if few else random_triplets(held_out, TRIPLETS, seed)
        scores = made.score_trials(held_out, trials.first, trials.second)
        calibration, open_set = calibrate(made, held_out, seed)
        if calibration.slope == 0:
            logger.warning("The scores of %s say nothing of the speakers that calibrate it: it cannot decide.", backend)
        elif open_set.slope == 0:
            logger.warning("The scores of %s do not tell strangers from the speakers that calibrate it.", backend)
        calibrated_on = sorted({held_out.speakers[label] for label in held_out.labels.tolist()})
        training = {
            "corpus": features.corpus,
            "backend": backend,
            "trained_on": list(made.speakers_),
            "calibrated_on": calibrated_on,
            "most_speakers": most_speakers(len(calibrated_on)),
            "eer": equal_error_rate(trials.labels, scores),
            "seed": seed,
        }
        crop = features.audio.crop if features.audio else None
        return cls(made, calibration, open_set, features.encoder, crop, training)

    def verify(
        self,
        first: str | os.PathLike[str],
        second: str | os.PathLike[str],
        p_target: float = 0.5,
        encoder: Encoder | LazyEncoder | None = None,
        encoder_weights: str | Path | None = None,
        device: str = "auto",
        precision: str = "auto",
    ) -> Verdict:
        """Say whether two recordings are of one speaker.

        Parameters
        ----------
        first, second : path-like
            Audio files.
        p_target : float
            How probable one speaker is before anything is heard.
        encoder : Encoder or LazyEncoder, optional
            By default the one of the training.
        encoder_weights, device, precision
            As `heads.find_encoder` takes them.

        Raises
        ------
        VerifierError
            A file cannot be read or is too short, the encoder is another, or the prior makes no sense.
        """
        check_prior("p_target", p_target)
        if encoder is None:
            encoder = find_encoder(self.encoder, encoder_weights, device, precision)
        mapped = self.backend.embed(self.vectors([Path(first), Path(second)], encoder))
        return self.verdict(float(self.backend.score_pairs(mapped[:1], mapped[1:])), p_target)

    def verdict(self, score: float, p_target: float = 0.5, n_recordings: int = 1) -> Verdict:
        """Say what a score means, of a recording and a speaker who is known by so many."""
        llr = float(self.calibration.llrs(score, n_recordings))
        probability = float(self.calibration.probabilities(score, p_target, n_recordings))
        return Verdict(score, llr, probability, probability >= 0.5)

    def vectors(self, paths: Sequence[Path], encoder: Encoder | LazyEncoder) -> Tensor:
        """Return the embeddings (n, D) of files, as the encoder gives them.

        Raises
        ------
        VerifierError
            A file cannot be read or is too short, or the encoder is another.
        """
        rows = []
        for row in self.listen([Utterance(path, speaker="", session="") for path in paths], encoder):
            if row.vector is None:
                raise VerifierError(f"{row.utterance.path}: {row.error}")
            rows.append(row.vector)
        return torch.stack(rows)

    def listen(self, utterances: Sequence[Utterance], encoder: Encoder | LazyEncoder) -> Iterator[Row]:
        """Embed utterances, one row for each; those that cannot be read or are too short say why.

        Raises
        ------
        VerifierError
            The encoder is another.
        """
        differences = spec_differences(encoder.spec, self.encoder)
        if differences:
            raise VerifierError(
                f"The verifier was trained with the encoder {self.encoder.get('name')!r}, this one is another: "
                f"{'; '.join(differences)}. Use the encoder it was trained with, or train one for this."
            )
        warn_of_precision("The features that the verifier was trained on", self.encoder, encoder.spec)
        for row in embed_utterances(utterances, encoder, self.crop):
            if row.vector is not None and row.seconds < SHORTEST - 1e-3:  # resampling rounds
                reason = f"{row.seconds:.2f} s of audio say too little of a voice; give {SHORTEST:g} or more"
                row = replace(row, vector=None, error=reason)
            yield row

    def judges_as(self, other: "SpeakerVerifier") -> bool:
        """Tell whether another one says the same of all recordings."""
        states = self.backend.state_dict(), other.backend.state_dict()
        return (
            not spec_differences(self.encoder, other.encoder)
            and (self.backend.name, self.crop) == (other.backend.name, other.crop)
            and (self.calibration, self.open_set) == (other.calibration, other.open_set)
            and all(torch.equal(states[0][name], states[1][name]) for name in states[0])
        )

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the verifier to a ``.pt`` file, atomically.

        Raises
        ------
        OutputError
            The file cannot be written.
        """
        return write_tensors(Path(path), self.content())

    def content(self) -> dict[str, Any]:
        """Return it as tensors and plain values, for a file."""
        return {
            "format": FORMAT,
            "backend": {"name": self.backend.name, "state": self.backend.state_dict()},
            "calibration": asdict(self.calibration),
            "open_set": asdict(self.open_set),
            "encoder": self.encoder,
            "crop": self.crop,
            "training": self.training,
        }

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "SpeakerVerifier":
        """Read a verifier; nothing in the file can run code.

        Raises
        ------
        VerifierError
            No such file, or not a verifier.
        """
        path = Path(path)
        return cls.from_content(load_tensors(path, WHAT, VerifierError), path)

    @classmethod
    def from_content(cls, content: dict[str, Any], path: Path) -> "SpeakerVerifier":
        """Make it of what `content` gave, and was found in a file.

        Raises
        ------
        VerifierError
            It is something else.
        """
        if "backend" not in content or content.get("format") != FORMAT:
            raise VerifierError(f"{path}: this is not {WHAT} of format {FORMAT}. Train it again.")
        try:
            backend = create_backend(content["backend"]["name"]).load_state_dict(content["backend"]["state"])
            backend.speakers_ = tuple(map(str, content["training"]["trained_on"]))
            loaded = cls(
                backend=backend,
                calibration=_calibration(content["calibration"]),
                open_set=_calibration(content["open_set"]),
                **{key: content[key] for key in ("encoder", "crop", "training")},
            )
            loaded._check()
        except Exception as error:  # right keys can hold anything
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            raise VerifierError(f"{path}: this is not {WHAT}, or it is damaged ({reason}). Train it again.") from error
        return loaded

    def _check(self) -> None:
        """Raise if the parts do not fit together; two rows go all the way through them."""
        if not isinstance(self.encoder, dict) or not isinstance(self.encoder.get("options", {}), dict):
            raise BackendError("its encoder is no spec")
        if self.crop is not None and not 0 < self.crop < float("inf"):
            raise BackendError(f"its crop is {self.crop!r}")
        if not isinstance(self.training["most_speakers"], int):
            raise BackendError("its training has no number of speakers")
        mapped = self.backend.embed(torch.ones(2, int(self.encoder["dim"])))
        score = self.backend.score_pairs(mapped[:1], mapped[1:])
        of_model = self.backend.score_speakers(mapped, self.backend.combine(mapped)[None], torch.ones(1))
        llrs = [self.calibration.llrs(part.numpy(), 2) for part in (score, of_model)]
        if score.shape != (1,) or not all(np.isfinite(self.open_set.llrs(part, 2)).all() for part in llrs):
            raise BackendError("it gives no finite score")


def check_prior(name: str, probability: float) -> None:
    """Refuse what is no probability of something that can happen and need not.

    Raises
    ------
    VerifierError
    """
    if not 0 < probability < 1:
        raise VerifierError(f"{name} is {probability:g}; expected a probability between 0 and 1.")


def _calibration(content: dict[str, float]) -> Calibration:
    return Calibration(**{key: float(value) for key, value in content.items()})
