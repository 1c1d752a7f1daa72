"""`SpeakerStore`: enrolled speakers in one SQLite file, and identification among them."""

import logging
import math
import os
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Literal, Self

import torch
from torch import Tensor

from corpora import Utterance
from embedding import Row
from encoders import Encoder, LazyEncoder
from features import FeatureSet, has_same_audio, warn_of_narrow_recordings
from files import PathLike, as_paths, count_of, short_repr, tensors_to_bytes, track
from heads import Prediction
from verification.backends import check_vectors
from verification.calibration import Conditions
from verification.doubtful import describe_mismatches, find_mismatches
from verification.enrolment import Enrolled, Recording, recordings_of
from verification.known_audio import warn_of_enrolled, warn_of_enrolled_rows, with_known_digests
from verification.nearest import Nearest, find_nearest
from verification.open_set_predictions import Candidates, open_set_predictions
from verification.own_calibration import OwnCalibration, own_calibration
from verification.store_changes import enroll_recordings, forget_recording
from verification.store_file import (
    StoreError,
    check_background,
    check_name,
    check_origin,
    connect,
    create_tables,
    damaged,
    other_verifier,
    read_verifier,
    transaction,
    translate_sqlite_errors,
)
from verification.store_rows import BACKGROUND, StoreRows
from verification.verdict import Verdict, verdict
from verification.verifier import SpeakerVerifier, check_prior
from verification.voices import Voices, read_voices

Existing = Literal["refuse", "add", "replace"]

logger = logging.getLogger(__name__)


class SpeakerStore:
    """Enrolled speakers, and the verifier that compares recordings with them, in one SQLite file.

    Each change is one transaction: other processes see either all of it or none of it, even after a crash. Writers wait
    for each other. The file holds a vector for each recording, and a model for each speaker. The backend computes the
    model from all of the speaker's recordings (`Backend.combine`).

    Make a store with `create` or `open`, and use it in a ``with`` statement.

    Attributes
    ----------
    path : Path
    verifier : SpeakerVerifier
    """

    def __init__(self, path: Path, connection: sqlite3.Connection, verifier: SpeakerVerifier) -> None:
        self.path, self.verifier, self._connection = path, verifier, connection
        self._dim = int(verifier.encoder["dim"])
        model_dim = verifier.backend.embed(torch.ones(1, self._dim)).shape[1]
        self._rows = StoreRows(path, connection, dim=self._dim, model_dim=model_dim)

    def __repr__(self) -> str:
        try:
            content = count_of(len(self), "speaker")
        except StoreError:
            content = "closed, or not readable"
        scorer = f"{self.verifier.backend.name} on {self.verifier.encoder.get('name')}"
        return short_repr(self, f"{self.path}: {content}, {scorer}")

    @classmethod
    def create(cls, path: str | os.PathLike[str], verifier: SpeakerVerifier) -> "SpeakerStore":
        """Make an empty store with a verifier, or open an existing store that has the same verifier.

        Raises
        ------
        StoreError
            The file is not a store, or a store with another verifier.
        """
        path = Path(path)
        content = tensors_to_bytes(verifier.content())
        with translate_sqlite_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            connection = connect(path, "rwc")
            try:
                create_tables(connection, content)
            finally:
                connection.close()
        store = cls.open(path)
        if not store.verifier.same_decisions_as(verifier):
            store.close()
            raise other_verifier(path, store.verifier, verifier)
        return store

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> "SpeakerStore":
        """Open a store. This never runs code from the file.

        Raises
        ------
        StoreError
            There is no such file, or it is not a store.
        """
        path = Path(path)
        if not path.is_file():
            found = "this is a folder" if path.is_dir() else "no such file"
            raise StoreError(f"{path}: {found}. Expected a store of speakers, which the command enroll makes.")
        with translate_sqlite_errors(path):
            connection = connect(path, "rw")
            try:
                return cls(path, connection, read_verifier(connection, path))
            except BaseException:
                connection.close()
                raise

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        with translate_sqlite_errors(self.path):
            return self._rows.count()

    def speakers(self) -> list[Enrolled]:
        """List the speakers by name."""
        with translate_sqlite_errors(self.path):
            return self._rows.speakers()

    def recordings(self, name: str) -> list[Recording]:
        """List the recordings of a speaker in the order of enrolment; raise `StoreError` if there is no such one."""
        with translate_sqlite_errors(self.path), transaction(self._connection, "DEFERRED"):
            return self._rows.listed(self._rows.number(name))

    def voices(self) -> Voices:
        """Return all speakers with their models and recordings, which `Voices.save` exports."""
        with translate_sqlite_errors(self.path), transaction(self._connection, "DEFERRED"):
            return read_voices(self._rows, self.verifier)

    def check_writable(self) -> None:
        """Check that the store can be changed, before recordings are embedded for it.

        Raises
        ------
        StoreError
            The file or its folder is write-protected, or another process writes to the store for too long.
        """
        # A write that changes nothing; SQLite checks the file only when something is written.
        with translate_sqlite_errors(self.path), transaction(self._connection):
            self._connection.execute("DELETE FROM recordings WHERE id IS NULL")

    def check_name(self, name: str, is_enrolled: bool = True) -> None:
        """Raise `StoreError` if a name is not enrolled; with ``is_enrolled=False``, if it is enrolled or invalid."""
        with translate_sqlite_errors(self.path):
            if is_enrolled:
                self._rows.number(name)
            else:
                self._check_new(name)

    def with_known_digests(self, recordings: Sequence[Recording]) -> list[Recording]:
        """Return recordings; those that the store has in other bytes, and copies among them, have a common digest."""
        with translate_sqlite_errors(self.path), transaction(self._connection, "DEFERRED"):
            return with_known_digests(self._rows, recordings)

    def owners(self, recordings: Sequence[Recording]) -> list[str | None]:
        """Return the name that each recording is enrolled as, "" for a background recording, or None for a new one."""
        with translate_sqlite_errors(self.path), transaction(self._connection, "DEFERRED"):
            return [self._rows.owner(recording.digest) for recording in recordings]

    def check_features(self, features: FeatureSet) -> None:
        """Raise `StoreError` if features (N, D) were made by another encoder; log which recordings are narrow."""
        crop = self.verifier.crop if features.audio is None else features.audio.crop
        check_origin(self.path, self.verifier, "the set of features", encoder=features.encoder, crop=crop)
        check_vectors(features)
        if features.audio is not None:
            widths = dict(zip(features.ids, features.audio.bandwidth.tolist(), strict=True))
            warn_of_narrow_recordings(widths, self.verifier.training.get("bandwidth"))

    def check_not_empty(self) -> None:
        """Raise `StoreError` if no speaker is enrolled."""
        if not len(self):
            raise StoreError(
                f"{self.path}: the store has no enrolled speakers. Enrol speakers with the command enroll."
            )

    def enroll(self, name: str, recordings: Sequence[Recording], existing: Existing = "refuse") -> int:
        """Enrol a speaker with some recordings; return the number of recordings that were added.

        Parameters
        ----------
        name : str
        recordings : sequence of Recording
            Recordings of the speaker. Recordings that the speaker is already enrolled with are skipped.
        existing : str
            Action for a speaker who is enrolled already: ``refuse`` (raise an error), ``add`` the recordings, or
            ``replace`` the earlier ones.

        Raises
        ------
        StoreError
            The speaker is enrolled already, a recording belongs to another speaker, or there is no recording.
        """
        return self.enroll_speakers([(name, recordings)], existing)

    def enroll_speakers(
        self, speakers: Iterable[tuple[str, Sequence[Recording]]], existing: Existing = "refuse"
    ) -> int:
        """Enrol several speakers with their recordings as `enroll` does; after an error, none of them is enrolled.

        Raises
        ------
        StoreError
            As in `enroll`.
        """
        listed = list(speakers)
        with translate_sqlite_errors(self.path), transaction(self._connection):
            for name, _ in listed:
                check_name(name)
            new = {name for name, _ in listed if self._rows.find(name) is None}
            for name, _ in listed:
                if existing == "refuse":
                    self._check_new(name)
                elif existing == "replace":
                    # All are removed before any is enrolled: a recording may move from one speaker to another.
                    self._rows.remove(self._rows.find(name))
            known = iter(with_known_digests(self._rows, [each for _, recordings in listed for each in recordings]))
            added = sum(
                enroll_recordings(
                    self._rows, self.verifier.backend, name, recordings=list(islice(known, len(recordings)))
                )
                for name, recordings in listed
            )
            similar = self._rows.similar(new)
        if similar:
            logger.warning(
                "%s: some speakers have names that are equal except for case and spaces: %s.", self.path, similar
            )
        return added

    def enroll_features(self, features: FeatureSet, existing: Existing = "refuse") -> int:
        """Enrol all speakers of a set of features (N, D) as `enroll` does; after an error, none of them is enrolled.

        Raises
        ------
        StoreError
            As in `enroll`, or the features were made by another encoder.
        """
        self.check_features(features)
        return self.enroll_speakers(recordings_of(features), existing)

    def find_mismatches(self, added: Mapping[str, Sequence[Recording]]) -> dict[str, str]:
        """Describe, by speaker, the added recordings that may be of another person.

        They are compared with the speaker's earlier recordings or, if there are none, with each other.

        Parameters
        ----------
        added : mapping of str to sequence of Recording
            Recordings that were added to the store, by speaker.
        """
        described = {}
        with translate_sqlite_errors(self.path), transaction(self._connection, "DEFERRED"):
            calibration = own_calibration(self._rows, self.verifier).calibration
            for name, recordings in added.items():
                digests = {each.digest for each in recordings}
                earlier = [each for each in self._rows.listed(self._rows.number(name)) if each.digest not in digests]
                found = find_mismatches(recordings, earlier, backend=self.verifier.backend, calibration=calibration)
                if found:
                    described[name] = describe_mismatches(name, found, is_added=bool(earlier))
        return described

    def remove(self, name: str) -> None:
        """Remove a speaker and all of the speaker's recordings.

        Raises
        ------
        StoreError
            There is no such speaker.
        """
        with translate_sqlite_errors(self.path), transaction(self._connection):
            self._rows.remove(self._rows.number(name))

    def remove_recording(self, name: str, recording: str) -> int:
        """Remove a recording of a speaker, and compute the speaker's model again; return the number removed.

        `recording` is its path in `recordings`, or that of the same file. Recordings with one path are all removed.

        Raises
        ------
        StoreError
            There is no such speaker or recording, or the speaker has no other recording.
        """
        with translate_sqlite_errors(self.path), transaction(self._connection):
            return forget_recording(self._rows, self.verifier.backend, name, given=recording)

    def merge(self, other: "SpeakerStore", existing: Existing = "refuse") -> int:
        """Enrol all speakers of another store as `enroll` does; after an error, none of them is enrolled.

        Its background recordings are added too.

        Raises
        ------
        StoreError
            As in `enroll`, or the other store has another encoder.
        """
        if self.path.samefile(other.path):
            raise StoreError(f"{self.path}: a store cannot be merged with itself. Give another store.")
        theirs = other.verifier
        check_origin(self.path, self.verifier, str(other.path), encoder=theirs.encoder, crop=theirs.crop)
        # Read all before writing: two stores that are merged into each other at the same time would deadlock.
        voices = other.voices()
        added = self.enroll_speakers(voices.speakers, existing)
        if voices.background and self.verifier.self_calibration is not None:
            self.add_background(voices.background)
        return added

    def add_background(self, recordings: Sequence[Recording]) -> int:
        """Add recordings of people who need not be enrolled, which `calibration` uses; return the number added.

        Recordings that the store already has are skipped.

        Raises
        ------
        StoreError
            The verifier of the store is not adapted, or a recording has another number of dimensions, or NaN.
        """
        check_background(self.path, self.verifier)
        for recording in recordings:
            if recording.vector.shape != (self._dim,) or not bool(torch.isfinite(recording.vector).all()):
                raise StoreError(
                    f"{recording.path}: its embedding is not a vector of {self._dim} finite numbers. Embed it again "
                    "with the encoder of the store."
                )
        with translate_sqlite_errors(self.path), transaction(self._connection):
            known = with_known_digests(self._rows, recordings)
            return sum(self._rows.add_background(recording) for recording in known)

    def remove_background(self) -> int:
        """Remove all background recordings; return their number."""
        with translate_sqlite_errors(self.path), transaction(self._connection):
            count = len(self._rows.background())
            self._rows.remove(BACKGROUND)
            return count

    def own_calibration(self) -> OwnCalibration:
        """Return the calibration of the scores in this store, and what it was adapted to.

        The scores of its different speakers shift the calibration of the verifier (`SelfCalibration`).
        """
        with translate_sqlite_errors(self.path), transaction(self._connection, "DEFERRED"):
            return own_calibration(self._rows, self.verifier)

    def nearest(self, rows: Tensor, top_k: int = 5, seconds: Tensor | None = None) -> Nearest:
        """Find the enrolled speakers that embeddings (n, D) are most similar to.

        Parameters
        ----------
        rows : Tensor (n, D)
        top_k : int
        seconds : Tensor (n,), optional
            Lengths of the recordings (seconds), if they are known.

        Raises
        ------
        StoreError
            No speaker is enrolled, or `top_k` is below 1.
        """
        if top_k < 1:
            raise StoreError(f"top_k is {top_k}; expected at least 1.")
        with translate_sqlite_errors(self.path), transaction(self._connection, "DEFERRED"):
            self.check_not_empty()
            return find_nearest(
                self._rows,
                self.verifier.backend,
                own_calibration(self._rows, self.verifier).calibration,
                vectors=rows,
                seconds=torch.zeros(len(rows)) if seconds is None else seconds,
                top_k=top_k,
            )

    def nearest_features(self, features: FeatureSet, top_k: int = 5) -> Nearest:
        """Find the enrolled speakers that the rows of a set of features (N, D) are most similar to, as `nearest` does.

        Rows of recordings that a speaker is enrolled with are named in a warning.

        Raises
        ------
        StoreError
            As in `nearest`, or the features were made by another encoder.
        """
        self.check_features(features)
        found = self.nearest(features.features, top_k, features.durations)
        with translate_sqlite_errors(self.path), transaction(self._connection, "DEFERRED"):
            warn_of_enrolled(self._rows, features.ids, features.features, lengths=features.durations)
        return found

    def identify(self, rows: Sequence[Row], top_k: int = 5, p_known: float = 0.5) -> list[Prediction]:
        """Identify the speaker of each recording, or reject it as an unknown speaker.

        Parameters
        ----------
        rows : sequence of Row
            Rows from `SpeakerVerifier.embed`.
        top_k : int
            Maximum number of speakers per recording.
        p_known : float
            Prior probability that the speaker is enrolled.

        Returns
        -------
        list of Prediction
            One prediction for each row; `verification.open_set_predictions` describes their order.

        Raises
        ------
        StoreError
            No speaker is enrolled, or `top_k` is below 1.
        """
        vectors = [row.vector for row in rows if row.vector is not None]
        seconds = torch.tensor([row.seconds for row in rows if row.vector is not None])
        found = self.candidates(
            torch.stack(vectors) if vectors else torch.zeros(0, self._dim), seconds, top_k=top_k, p_known=p_known
        )
        return open_set_predictions(rows, found, top_k)

    def candidates(self, vectors: Tensor, seconds: Tensor, *, top_k: int, p_known: float = 0.5) -> Candidates:
        """Find the enrolled speakers who recordings may be of, and the probabilities that the speakers are enrolled.

        Parameters
        ----------
        vectors : Tensor (n, D)
            Embeddings of the recordings.
        seconds : Tensor (n,)
            Lengths of the recordings (seconds).
        top_k : int
            Maximum number of speakers per recording.
        p_known : float
            Prior probability that the speaker is enrolled.

        Raises
        ------
        StoreError
            No speaker is enrolled, or `top_k` is below 1.
        """
        check_prior("p_known", p_known)
        found = self.nearest(vectors, top_k, seconds)
        calibrated_for = self.verifier.training["most_speakers"]
        if found.n_speakers > calibrated_for:
            logger.warning(
                "The verifier was calibrated for up to %d speakers, and %d are enrolled: enrolled speakers will be "
                "rejected as unknown more often than estimated. Train the verifier on more speakers.",
                calibrated_for, found.n_speakers,
            )  # fmt: skip
        conditions, open_set = Conditions(found.n_speakers), self.verifier.open_set
        posterior = open_set.probabilities(found.llrs[:, 0].numpy(), p_known, conditions)
        return Candidates(found, posterior, open_set.threshold(p_known, conditions))

    def identify_files(
        self,
        paths: PathLike | Iterable[PathLike],
        encoder: Encoder | LazyEncoder,
        *,
        top_k: int = 5,
        p_known: float = 0.5,
        channel: int | None = None,
        progress: bool = False,
    ) -> list[Prediction]:
        """Embed one file or several with the encoder of the store, and `identify` their speakers.

        Files that a speaker is enrolled with are named in a warning. `channel` is read, from 0, or the mean of all
        channels. `progress` shows the progress.
        """
        self.check_not_empty()
        utterances = [Utterance(path, speaker="", session="", channel=channel) for path in as_paths(paths)]
        rows = self.verifier.embed(utterances, encoder)
        shown = list(track(rows, "Embedding", len(utterances), unit="file", visible=progress))
        predictions = self.identify(shown, top_k, p_known)
        with translate_sqlite_errors(self.path), transaction(self._connection, "DEFERRED"):
            warn_of_enrolled_rows(self._rows, shown)
        return predictions

    def verify(self, name: str, vector: Tensor, p_target: float = 0.5, *, seconds: float = 0.0) -> Verdict:
        """Decide whether a recording with the embedding (D,) is of an enrolled speaker.

        `seconds` is the length of the recording, 0 if it is not known.

        Raises
        ------
        StoreError
            There is no such speaker.
        """
        check_prior("p_target", p_target)
        with translate_sqlite_errors(self.path), transaction(self._connection, "DEFERRED"):
            number = self._rows.number(name)
            [block] = self._rows.models(1, number)
            _, own_vectors = self._rows.recordings(number)
            calibration = own_calibration(self._rows, self.verifier).calibration
        backend = self.verifier.backend
        score = float(backend.score_speakers(backend.embed(vector[None].float()), block.models, block.counts))
        if not math.isfinite(score):
            raise damaged(self.path, "a vector holds NaN or infinity")
        enrolled_seconds = float(block.seconds / block.counts)
        conditions = Conditions(int(block.counts), enrolled_seconds, seconds)
        same_audio = has_same_audio(vector, own_vectors)
        return verdict(score, float(calibration.llrs(score, conditions)), p_target, same_audio=same_audio)

    def _check_new(self, name: str) -> None:
        check_name(name)
        if self._rows.find(name) is not None:
            raise StoreError(
                f"{self.path}: {name!r} is enrolled already. Give --existing add to add these recordings, or "
                "--existing replace to replace the earlier ones."
            )
