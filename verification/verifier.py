"""`SpeakerVerifier`: all that is needed to say whether two recordings are of one speaker, in one file."""

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from audio import InputError
from corpora import Utterance
from encoders import Encoder, LazyEncoder, Spec, spec_differences
from features import FeatureSet, embed_utterances, load_tensors, warn_of_precision, write_tensors
from heads import find_encoder
from metrics import equal_error_rate
from verification.backends import Backend, BackendError, create_backend, split_speakers
from verification.calibration import Calibration
from verification.trials import all_pairs, random_triplets

logger = logging.getLogger(__name__)

FORMAT = 1
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
        Learned on speakers whom the backend did not train on.
    encoder : dict
        Spec of the encoder.
    crop : float or None
        ``max_duration`` of the training features (seconds).
    training : dict
        Of what, and what came of it.
    """

    backend: Backend
    calibration: Calibration
    encoder: Spec
    crop: float | None
    training: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def train(cls, features: FeatureSet, backend: str = "cosine", seed: int = 0) -> "SpeakerVerifier":
        """Train a backend on half of the speakers, and calibrate it on pairs of the other half.

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
        calibration = Calibration.fit(trials.labels, scores)
        if calibration.slope == 0:
            logger.warning("The scores of %s say nothing of the speakers that calibrate it: it cannot decide.", backend)
        training = {
            "corpus": features.corpus,
            "backend": backend,
            "trained_on": list(made.speakers_),
            "calibrated_on": sorted({held_out.speakers[label] for label in held_out.labels.tolist()}),
            "eer": equal_error_rate(trials.labels, scores),
            "seed": seed,
        }
        return cls(made, calibration, features.encoder, features.audio.crop if features.audio else None, training)

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
        if not 0 < p_target < 1:
            raise VerifierError(f"p_target is {p_target:g}; expected a probability between 0 and 1.")
        if encoder is None:
            encoder = find_encoder(self.encoder, encoder_weights, device, precision)
        mapped = self.backend.embed(self.vectors([Path(first), Path(second)], encoder))
        score = float(self.backend.score_pairs(mapped[:1], mapped[1:]))
        probability = float(self.calibration.probabilities(score, p_target))
        return Verdict(score, float(self.calibration.llrs(score)), probability, probability >= 0.5)

    def vectors(self, paths: Sequence[Path], encoder: Encoder | LazyEncoder) -> Tensor:
        """Return the embeddings (n, D) of files, as the encoder gives them.

        Raises
        ------
        VerifierError
            A file cannot be read or is too short, or the encoder is another.
        """
        differences = spec_differences(encoder.spec, self.encoder)
        if differences:
            raise VerifierError(
                f"The verifier was trained with the encoder {self.encoder.get('name')!r}, this one is another: "
                f"{'; '.join(differences)}. Use the encoder it was trained with, or train one for this."
            )
        warn_of_precision("The features that the verifier was trained on", self.encoder, encoder.spec)
        rows = []
        for row in embed_utterances([Utterance(path, speaker="", session="") for path in paths], encoder, self.crop):
            if row.vector is None:
                raise VerifierError(f"{row.utterance.path}: {row.error}")
            if row.seconds < SHORTEST:
                raise VerifierError(
                    f"{row.utterance.path}: {row.seconds:.2f} s of audio say too little of a voice; give {SHORTEST:g} "
                    "or more."
                )
            rows.append(row.vector)
        return torch.stack(rows)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the verifier to a ``.pt`` file, atomically.

        Raises
        ------
        OutputError
            The file cannot be written.
        """
        content = {
            "format": FORMAT,
            "backend": {"name": self.backend.name, "state": self.backend.state_dict()},
            "calibration": {"slope": self.calibration.slope, "offset": self.calibration.offset},
            "encoder": self.encoder,
            "crop": self.crop,
            "training": self.training,
        }
        return write_tensors(Path(path), content)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "SpeakerVerifier":
        """Read a verifier; nothing in the file can run code.

        Raises
        ------
        VerifierError
            No such file, or not a verifier.
        """
        path = Path(path)
        content = load_tensors(path, WHAT, VerifierError)
        if "backend" not in content or content.get("format") != FORMAT:
            raise VerifierError(f"{path}: this is not {WHAT} of format {FORMAT}. Train it again.")
        try:
            backend = create_backend(content["backend"]["name"]).load_state_dict(content["backend"]["state"])
            backend.speakers_ = tuple(map(str, content["training"]["trained_on"]))
            loaded = cls(
                backend=backend,
                calibration=Calibration(**{key: float(value) for key, value in content["calibration"].items()}),
                **{key: content[key] for key in ("encoder", "crop", "training")},
            )
            loaded._check()
        except Exception as error:  # right keys can hold anything
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            raise VerifierError(f"{path}: this is not {WHAT}, or it is damaged ({reason}). Train it again.") from error
        return loaded

    def _check(self) -> None:
        """Raise if the parts do not fit together; two rows go all the way through them."""
        if self.crop is not None and not 0 < self.crop < float("inf"):
            raise BackendError(f"its crop is {self.crop!r}")
        mapped = self.backend.embed(torch.ones(2, int(self.encoder["dim"])))
        score = self.backend.score_pairs(mapped[:1], mapped[1:])
        if score.shape != (1,) or not np.isfinite(self.calibration.llrs(score.numpy())).all():
            raise BackendError("it gives no finite score")
