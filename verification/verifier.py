"""`SpeakerVerifier`, which decides whether two recordings are of the same speaker and is saved as one file."""

import json
import logging
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from scipy.special import expit
from torch import Tensor

from corpora import Utterance
from embedding import Row, embed_utterances
from encoders import (
    Encoder,
    LazyEncoder,
    Spec,
    detection_spec,
    encoder_from_spec,
    spec_differences,
    warn_of_precision,
    with_detection_of,
)
from features import FeatureSet, has_same_audio, learned_bandwidth, warn_of_narrow_rows, without_copies
from files import (
    FormatReader,
    InputError,
    PathLike,
    as_paths,
    count_of,
    load_checked,
    read_checked,
    short_repr,
    versions,
    write_tensors,
)
from metrics import equal_error_rate
from verification.backends import Backend, BackendError, create_backend, split_speakers
from verification.calibration import Calibration, Conditions
from verification.enrolment_calibration import calibrate, check_speakers, max_speakers
from verification.error_rates import pair_errors
from verification.score_histogram import ScoreHistogram
from verification.self_calibration import SelfCalibration
from verification.trials import all_pairs, random_triplets
from verification.unknown_scores import UnknownScores
from verification.verdict import Verdict, verdict

logger = logging.getLogger(__name__)

FORMAT = 3
FILE_KIND = "a speaker verifier, as speaker_verification.py train saves one"
# Minimum length of a recording (seconds).
MIN_SECONDS = 0.5
# The ready verifier, made by benchmarks/ready_verifier.py.
READY = Path(__file__).with_name("ready_verifier.json")
# The EER is measured on all pairs of up to MAX_UTTERANCES utterances; for more, on this number of random triplets.
MAX_UTTERANCES = 3_000
TRIPLETS = 1_000_000


class VerifierError(InputError):
    """A verifier cannot be loaded or used, or a recording cannot be scored."""


@dataclass(frozen=True, eq=False, kw_only=True)
class SpeakerVerifier:
    """A backend with calibrated scores, for the embeddings of one encoder.

    Attributes
    ----------
    backend : Backend
    calibration : Calibration
        Calibration of the score against one speaker; its counts are the numbers of recordings that the speaker is
        enrolled with. It was learned on speakers that the backend was not trained on.
    open_set : Calibration
        Calibration of the highest log-likelihood ratio of a recording. It decides between an enrolled and an unknown
        speaker; its counts are numbers of enrolled speakers.
    encoder : dict
        Spec of the encoder.
    crop : float or None
        ``max_duration`` of the training features (seconds).
    training : dict
        Corpus, speakers and seed of the training, the error rates and the histogram of the pairs
        (`score_histogram`) on the speakers used for calibration, and ``bandwidth``, that of the recordings (Hz;
        `features.learned_bandwidth`), if it is known.
    self_calibration : SelfCalibration or None
        How a store moves the calibration; None leaves it as it was trained.
    unknown_scores : UnknownScores or None
        Distribution of what `open_set` gives to recordings of unknown speakers; None if it is not known.
    """

    backend: Backend
    calibration: Calibration
    open_set: Calibration
    encoder: Spec
    crop: float | None
    training: dict[str, Any] = field(default_factory=dict)
    self_calibration: SelfCalibration | None = None
    unknown_scores: UnknownScores | None = None

    @property
    def score_histogram(self) -> ScoreHistogram | None:
        """Log-likelihood ratios of the pairs that calibrated the verifier; None if an earlier version made it."""
        content = self.training.get("score_histogram")
        return None if content is None else ScoreHistogram.from_content(content)

    def __repr__(self) -> str:
        most = self.training.get("most_speakers")
        limit = "" if most is None else f", calibrated for up to {most} enrolled speakers"
        return short_repr(self, f"{self.backend.name} on {self.encoder.get('name')}{limit}")

    @classmethod
    def ready(cls) -> "SpeakerVerifier":
        """Return the verifier that needs no training: the encoder `campplus`, the cosine, and a pooled calibration.

        The calibration was learned on several corpora; ``docs/results.md`` shows how well it fits others. It knows the
        lengths of recordings, and a store adapts it to the scores of its own speakers.
        """
        return cls.from_content(json.loads(READY.read_text(encoding="utf-8")), READY)

    @classmethod
    def train(cls, features: FeatureSet, backend: str = "cosine", seed: int = 0) -> "SpeakerVerifier":
        """Train a backend on half of the speakers, and calibrate it on the other half.

        A backend that needs no training is calibrated on all speakers.

        Parameters
        ----------
        features : FeatureSet
            Features (N, D) of the training corpus. Copies of recordings are left out (`features.without_copies`).
        backend : str
            Name from `BACKENDS`.
        seed : int
            Random seed of the split into halves and of the calibration.

        Raises
        ------
        InputError
            There are too few speakers or recordings.
        """
        n_given, features = len(features), without_copies(features)
        if len(features) < n_given:
            logger.warning("Left out %s of the same audio as another.", count_of(n_given - len(features), "recording"))
        scorer, held_out, train = create_backend(backend), features, None
        if scorer.is_trained:
            train, held_out = split_speakers(features, seed)
        check_speakers(held_out)
        if train is not None:
            scorer.fit(train)
        is_small = len(held_out) <= MAX_UTTERANCES
        trials = all_pairs(held_out) if is_small else random_triplets(held_out, TRIPLETS, seed)
        scores = scorer.score_trials(held_out, trials.first, trials.second)
        calibration, open_set, unknown_scores = calibrate(scorer, held_out, seed)
        if calibration.slope == 0:
            logger.warning(
                "The scores of %s do not separate targets from nontargets of the held-out speakers, so every decision "
                "depends only on the prior probability.", backend,
            )  # fmt: skip
        elif open_set.slope == 0:
            logger.warning("The scores of %s do not separate enrolled from unknown speakers.", backend)
        llrs = calibration.llrs(scores)
        calibrated_on = sorted({held_out.speakers[label] for label in held_out.labels.tolist()})
        training = {
            "corpus": features.corpus,
            "backend": backend,
            "trained_on": list(scorer.speakers_),
            "calibrated_on": calibrated_on,
            "most_speakers": max_speakers(len(calibrated_on)),
            "eer": equal_error_rate(trials.labels, scores),
            "errors": [pair_errors(features.corpus, trials.labels, scores=scores, llrs=llrs)],
            "score_histogram": ScoreHistogram.measure(trials.labels, llrs).content(),
            "bandwidth": learned_bandwidth(features),
            "seed": seed,
        }
        crop = features.audio.crop if features.audio else None
        return cls(
            backend=scorer,
            calibration=calibration,
            open_set=open_set,
            encoder=features.encoder,
            crop=crop,
            training=training,
            unknown_scores=unknown_scores if open_set.slope else None,
        )

    def with_speech_detection(self, settings: Mapping[str, float] | Literal[False] | None) -> "SpeakerVerifier":
        """Return a verifier that leaves out the pauses of recordings, or with False one that does not.

        Parameters
        ----------
        settings : mapping or False, optional
            Settings of `audio.SpeechSettings` by name; None changes nothing.

        Raises
        ------
        EncoderError
            A setting is not valid, or the weights of the speech detection cannot be had.
        """
        if settings is None:
            return self
        detection = {} if settings is False else {"speech_detection": detection_spec(settings)}
        return replace(self, encoder=with_detection_of(self.encoder, detection))

    def verify(
        self,
        first: str | os.PathLike[str],
        second: str | os.PathLike[str],
        *,
        p_target: float = 0.5,
        encoder: Encoder | LazyEncoder | None = None,
        encoder_weights: str | Path | None = None,
        device: str = "auto",
        precision: str = "auto",
        channels: tuple[int | None, int | None] = (None, None),
    ) -> Verdict:
        """Decide whether two recordings are of the same speaker.

        Parameters
        ----------
        first, second : path-like
            Audio files.
        p_target : float
            Prior probability that the speaker is the same.
        encoder : Encoder or LazyEncoder, optional
            Encoder of the training; by default it is loaded from its spec.
        encoder_weights, device, precision
            Arguments of `encoders.encoder_from_spec`.
        channels : (int or None, int or None)
            Number of the channel of each file, from 0; None is the mean of all.

        Raises
        ------
        VerifierError
            A file cannot be read or is too short, the encoder is not that of the training, or `p_target` is not between
            0 and 1.
        EncoderError
            The encoder cannot be loaded.
        """
        check_prior("p_target", p_target)
        if encoder is None:
            encoder = encoder_from_spec(self.encoder, encoder_weights, device, precision=precision)
        vectors, seconds = self.embed_files([Path(first), Path(second)], encoder, channels=channels)
        mapped = self.backend.embed(vectors)
        score = float(self.backend.score_pairs(mapped[:1], mapped[1:]))
        llr = float(self.calibration.pair_llrs(score, float(seconds[0]), float(seconds[1])))
        return verdict(score, llr, p_target, same_audio=has_same_audio(vectors[0], vectors[1:]))

    def prior_for(self, far: float, n_speakers: int) -> float:
        """Return the prior `p_known` with which this share of the recordings of unknown speakers is accepted.

        Parameters
        ----------
        far : float
            False-accept rate.
        n_speakers : int
            Number of enrolled speakers.

        Raises
        ------
        VerifierError
            The share is not known, because the verifier was made by an earlier version or on too few recordings.
        """
        if self.unknown_scores is None:
            raise VerifierError(
                "The threshold for a false-accept rate is not known: the verifier was made by an earlier version, or "
                "its scores do not separate enrolled from unknown speakers. Train it again and make a new store with "
                "it, because a store keeps its own verifier; or give --p_known instead."
            )
        return float(expit(-self.unknown_scores.threshold(far, n_speakers)))

    def embed_files(
        self,
        paths: PathLike | Iterable[PathLike],
        encoder: Encoder | LazyEncoder,
        *,
        channels: Sequence[int | None] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return the embeddings (n, D) of one or more files, and the lengths (n,) of the audio used (seconds).

        `channels` are the numbers of their channels, from 0, or None for the mean of all.

        Raises
        ------
        VerifierError
            A file cannot be read or is too short, or the encoder is not that of the training.
        """
        vectors, seconds, files = [], [], as_paths(paths)
        utterances = [
            Utterance(path, speaker="", session="", channel=channel)
            for path, channel in zip(files, channels or [None] * len(files), strict=True)
        ]
        for row in self.embed(utterances, encoder):
            if row.vector is None:
                raise VerifierError(f"{row.utterance.path}: {row.error}")
            vectors.append(row.vector)
            seconds.append(row.seconds)
        return torch.stack(vectors), torch.tensor(seconds)

    def embed(self, utterances: Sequence[Utterance], encoder: Encoder | LazyEncoder) -> Iterator[Row]:
        """Embed utterances and yield one row for each.

        The row of an utterance that is unreadable or too short has no vector, but an error message. Files with a
        narrower bandwidth than the training recordings are named in a warning after the last row.

        The encoder may leave out pauses in another way than that of the training.

        Raises
        ------
        VerifierError
            The encoder is not that of the training.
        """
        differences = spec_differences(encoder.spec, with_detection_of(self.encoder, encoder.spec))
        if differences:
            raise VerifierError(
                f"The verifier was trained with the encoder {self.encoder.get('name')!r}, but the given encoder "
                f"differs: {'; '.join(differences)}. Use the encoder of the training, or train another verifier."
            )
        warn_of_precision("The features that the verifier was trained on", self.encoder, encoder.spec)
        rows = embed_utterances(utterances, encoder, self.crop)
        for row in warn_of_narrow_rows(rows, self.training.get("bandwidth")):
            if row.vector is not None and row.seconds < MIN_SECONDS - 1e-3:  # resampling rounds the length
                reason = f"the audio is {row.seconds:.2f} s long, which is too short; give at least {MIN_SECONDS:g} s"
                row = replace(row, vector=None, error=reason, fault="too_short")
            yield row

    def same_decisions_as(self, other: "SpeakerVerifier") -> bool:
        """Return whether another verifier makes the same decisions on all recordings."""
        states = self.backend.state_dict(), other.backend.state_dict()
        return (
            not spec_differences(self.encoder, other.encoder)
            and (self.backend.name, self.crop) == (other.backend.name, other.crop)
            and (self.calibration, self.open_set) == (other.calibration, other.open_set)
            and self.self_calibration == other.self_calibration
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
        """Return the verifier as tensors and plain values, for a file."""
        return {
            "format": FORMAT,
            "backend": {"name": self.backend.name, "state": self.backend.state_dict()},
            "calibration": asdict(self.calibration),
            "open_set": asdict(self.open_set),
            "self_calibration": None if self.self_calibration is None else asdict(self.self_calibration),
            "unknown_scores": None if self.unknown_scores is None else asdict(self.unknown_scores),
            "encoder": self.encoder,
            "crop": self.crop,
            "training": self.training,
            "created_with": versions(),
        }

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "SpeakerVerifier":
        """Read a verifier. This never runs code from the file.

        Raises
        ------
        VerifierError
            There is no such file, or it is not a verifier.
        """
        return load_checked(Path(path), READERS, kind=FILE_KIND, error_class=VerifierError, advice="Train it again.")

    @classmethod
    def from_content(cls, content: dict[str, Any], path: Path) -> "SpeakerVerifier":
        """Make a verifier from the return value of `content`, which was read from the file `path`.

        Raises
        ------
        VerifierError
            The content is not a verifier.
        """
        return read_checked(content, path, READERS, kind=FILE_KIND, error_class=VerifierError, advice="Train it again.")

    def _check(self) -> None:
        """Raise an error if the parts do not fit together. To find out, score two rows with all of them."""
        if not isinstance(self.encoder, dict) or not isinstance(self.encoder.get("options", {}), dict):
            raise BackendError("its encoder is not a spec")
        if self.crop is not None and not 0 < self.crop < float("inf"):
            raise BackendError(f"its crop is {self.crop!r}")
        if not isinstance(self.training["most_speakers"], int):
            raise BackendError("the entry training.most_speakers is not an integer")
        if not isinstance(self.training.get("bandwidth"), int | float | None):
            raise BackendError("the entry training.bandwidth is not a frequency")
        _ = self.score_histogram  # raises an error if it is damaged
        mapped = self.backend.embed(torch.ones(2, int(self.encoder["dim"])))
        score = self.backend.score_pairs(mapped[:1], mapped[1:])
        of_model = self.backend.score_speakers(mapped, self.backend.combine(mapped)[None], torch.ones(1))
        conditions = Conditions(2, 0.5, 30.0)
        llrs = [self.calibration.llrs(part.numpy(), conditions) for part in (score, of_model)]
        if score.shape != (1,):
            raise BackendError("its scores do not have the expected shape")
        if self.self_calibration is not None and not math.isfinite(
            self.self_calibration.shift(of_model.double().numpy(), conditions, n_speakers=2)
        ):
            raise BackendError("its self-calibration is not finite")
        if not all(np.isfinite(self.open_set.llrs(part, conditions)).all() for part in llrs):
            raise BackendError("its scores are not finite")


def check_prior(name: str, probability: float) -> None:
    """Raise an error if a prior probability is not between 0 and 1.

    Raises
    ------
    VerifierError
    """
    if not 0 < probability < 1:
        raise VerifierError(f"{name} is {probability:g}; expected a probability between 0 and 1.")


def _read_format_3(content: dict[str, Any], path: Path) -> SpeakerVerifier:
    unknown = content.get("unknown_scores")  # verifiers of earlier versions lack it
    scores = None if unknown is None else UnknownScores.from_content(unknown)
    loaded = replace(_read_format_2(content, path), unknown_scores=scores)
    own = content["self_calibration"]
    if own is None:
        return loaded
    share, prior_speakers = float(own["share"]), float(own["prior_speakers"])
    if not (0 <= share <= 1 and prior_speakers > 0):
        raise BackendError(f"its self-calibration has the share {share} and {prior_speakers} prior speakers")
    adapted = replace(loaded, self_calibration=SelfCalibration(_calibration(own["expected"]), share, prior_speakers))
    adapted._check()
    return adapted


def _read_format_2(content: dict[str, Any], path: Path) -> SpeakerVerifier:
    backend = create_backend(content["backend"]["name"]).load_state_dict(content["backend"]["state"])
    backend.speakers_ = tuple(map(str, content["training"]["trained_on"]))
    loaded = SpeakerVerifier(
        backend=backend,
        calibration=_calibration(content["calibration"]),
        open_set=_calibration(content["open_set"]),
        encoder=content["encoder"],
        crop=content["crop"],
        training=content["training"],
    )
    loaded._check()
    return loaded


# For each format, the function that reads it.
READERS: dict[int, FormatReader[SpeakerVerifier]] = {2: _read_format_2, 3: _read_format_3}


def _calibration(content: dict[str, float]) -> Calibration:
    calibration = Calibration(**{key: float(value) for key, value in content.items()})
    if not calibration.slope >= 0:
        raise BackendError(f"the slope of a calibration is {calibration.slope:g}")
    return calibration
