"""`SpeakerStore`: the speakers that are enrolled, in one SQLite file, and the questions that it answers."""

import logging
import math
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from difflib import get_close_matches
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from corpora import Utterance
from encoders import Encoder, LazyEncoder, Spec, spec_differences
from features import FeatureSet, Row, tensors_to_bytes
from heads import UNKNOWN, Prediction
from verification.backends import check_vectors
from verification.enrolment import Enrolled, Recording, recordings_of
from verification.nearest import Best, Nearest
from verification.store_file import (
    APPLICATION_ID,
    FORMAT,
    PAGE_BYTES,
    SCHEMA,
    StoreError,
    check_name,
    connect,
    damaged,
    read_verifier,
    told,
    transaction,
)  # fmt: skip
from verification.verifier import SpeakerVerifier, Verdict, check_prior

# Speakers that are read at a time, and the scores of these and all probes that are held.
SPEAKERS = 8_192
SCORES = 4_000_000

Existing = Literal["refuse", "add", "replace"]

logger = logging.getLogger(__name__)


class SpeakerStore:
    """Enrolled speakers, and the verifier by which they are known, in one SQLite file.

    Each change is one transaction: other processes see it whole or not at all, and so does the next one after a crash.
    Writers wait for each other. The file keeps the vector of each recording and a model of each speaker, which the
    backend makes of all of the speaker's recordings (`Backend.combine`).

    Make one by `create` or `open`, and use it in a ``with``.

    Attributes
    ----------
    path : Path
    verifier : SpeakerVerifier
    """

    def __init__(self, path: Path, connection: sqlite3.Connection, verifier: SpeakerVerifier) -> None:
        self.path, self.verifier, self._connection = path, verifier, connection

    @classmethod
    def create(cls, path: str | os.PathLike[str], verifier: SpeakerVerifier) -> "SpeakerStore":
        """Make an empty store with a verifier, or open the one that is there if it has the same verifier.

        Raises
        ------
        StoreError
            The file is something else, or a store with another verifier.
        """
        path = Path(path)
        content = tensors_to_bytes(verifier.content())
        with told(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            connection = connect(path, "rwc")
            try:
                connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
                with transaction(connection):
                    if not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                        for statement in SCHEMA.values():
                            connection.execute(statement)
                        connection.execute("INSERT INTO store VALUES (?)", [content])
                        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                        connection.execute(f"PRAGMA user_version = {FORMAT}")
            finally:
                connection.close()
        store = cls.open(path)
        own = store.verifier
        if not own.judges_as(verifier):
            store.close()
            differences = spec_differences(verifier.encoder, own.encoder)
            reason = f"Its encoder differs: {'; '.join(differences)}" if differences else "Its verifier is another"
            raise StoreError(
                f"{path}: this store was made with the encoder {own.encoder.get('name')!r} and the backend "
                f"{own.backend.name!r}. {reason}. Leave the verifier out to use the store's own, or make a new store."
            )
        return store

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> "SpeakerStore":
        """Open a store; nothing in the file can run code.

        Raises
        ------
        StoreError
            No such file, or not a store.
        """
        path = Path(path)
        if not path.is_file():
            found = "this is a folder" if path.is_dir() else "no such file"
            raise StoreError(f"{path}: {found}. Expected a store of speakers, as the command enroll makes one.")
        with told(path):
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

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __len__(self) -> int:
        with told(self.path):
            return int(self._connection.execute("SELECT count(*) FROM speakers").fetchone()[0])

    def speakers(self) -> list[Enrolled]:
        """List the speakers by name."""
        columns = "name, n_recordings, seconds, changed"
        with told(self.path):
            rows = self._connection.execute(f"SELECT {columns} FROM speakers ORDER BY name").fetchall()
        if not all(tuple(map(type, row)) == (str, int, float, str) for row in rows):
            raise damaged(self.path, "a speaker's row has other values than it should have")
        self._check_stored_names([row[0] for row in rows])
        return [Enrolled(*row) for row in rows]

    def check_name(self, name: str, is_enrolled: bool = True) -> None:
        """Refuse a name that is not enrolled or, if it is to be a new one, that is.

        Raises
        ------
        StoreError
        """
        with told(self.path):
            if is_enrolled:
                self._number(name)
            else:
                self._check_new(name)

    def check_not_empty(self) -> None:
        """Refuse to be asked who speaks when nobody is enrolled.

        Raises
        ------
        StoreError
        """
        if not len(self):
            raise StoreError(f"{self.path}: nobody is enrolled here. Enrol speakers with the command enroll.")

    def enroll(self, name: str, recordings: Sequence[Recording], existing: Existing = "refuse") -> int:
        """Enrol a speaker by some recordings; returns how many were new.

        Parameters
        ----------
        name : str
        recordings : sequence of Recording
            One that the speaker is enrolled by already is passed over.
        existing : str
            What to do with a speaker who is enrolled: ``refuse``, ``add`` to the recordings, or ``replace`` them.

        Raises
        ------
        StoreError
            The speaker is enrolled, a recording is another speaker's, or there is none.
        """
        return self._enroll_all([(name, recordings)], existing)

    def enroll_features(self, features: FeatureSet, existing: Existing = "refuse") -> int:
        """Enrol all speakers of a set of features (N, D), or none of them, as `enroll` does.

        Raises
        ------
        StoreError
            As of `enroll`, or the features are of another encoder.
        """
        self._check_features(features)
        return self._enroll_all(recordings_of(features), existing)

    def remove(self, name: str) -> None:
        """Forget a speaker and all recordings of theirs.

        Raises
        ------
        StoreError
            There is no such speaker.
        """
        with told(self.path), transaction(self._connection):
            self._forget(self._number(name))

    def merge(self, other: "SpeakerStore", existing: Existing = "refuse") -> int:
        """Enrol all speakers of another store, or none of them; returns the number of new recordings.

        Raises
        ------
        StoreError
            As of `enroll`, or the other store is of another encoder.
        """
        if self.path.samefile(other.path):
            raise StoreError(f"{self.path}: a store cannot be merged with itself; give two.")
        self._check_origin(str(other.path), other.verifier.encoder, other.verifier.crop)
        with told(other.path), transaction(other._connection, "DEFERRED"):
            speakers = list(other._contents())  # read first: two stores that are merged both ways would wait for ever
        return self._enroll_all(speakers, existing)

    def nearest(self, rows: Tensor, top_k: int = 5) -> Nearest:
        """Find the speakers that embeddings (n, D) are likest to.

        Memory is bounded: speakers are read and scored in blocks.

        Raises
        ------
        StoreError
            There is no speaker in the store, or `top_k` is under 1.
        """
        if top_k < 1:
            raise StoreError(f"top_k is {top_k}; expected at least 1.")
        probes = self.verifier.backend.embed(rows.float())
        block_size = min(max(SCORES // max(len(probes), 1), 1), SPEAKERS)
        with told(self.path), transaction(self._connection, "DEFERRED"):
            self.check_not_empty()
            best = Best(len(probes), min(top_k, len(self)))
            for numbers, counts, models in self._models(block_size):
                scores = self.verifier.backend.score_speakers(probes, models, counts)
                best.add(scores, self._llrs(scores, counts), numbers)
                if not bool(torch.isfinite(best.total).all()):
                    raise damaged(self.path, "a vector holds NaN or infinity")
            names = self._names(best.numbers)
        listed = [[names[number] for number in row] for row in best.numbers.tolist()]
        return Nearest(listed, best.scores, best.llrs, best.total, best.n_speakers)

    def nearest_features(self, features: FeatureSet, top_k: int = 5) -> Nearest:
        """Find the speakers that the rows of a set of features (N, D) are likest to, as `nearest` does.

        Raises
        ------
        StoreError
            As of `nearest`, or the features are of another encoder.
        """
        self._check_features(features)
        return self.nearest(features.features, top_k)

    def identify(self, rows: Sequence[Row], top_k: int = 5, p_known: float = 0.5) -> list[Prediction]:
        """Name the speaker of each recording that was heard, or say that it is a stranger.

        Parameters
        ----------
        rows : sequence of Row
            From `SpeakerVerifier.listen`.
        top_k : int
            Most names to give.
        p_known : float
            How probable it is, before anything is heard, that an enrolled speaker speaks.

        Returns
        -------
        list of Prediction
            `UNKNOWN` stands first where that is the likelier, else among the others, by its probability.

        Raises
        ------
        StoreError
            There is no speaker in the store.
        """
        check_prior("p_known", p_known)
        heard = [row.vector for row in rows if row.vector is not None]
        found = self.nearest(torch.stack(heard) if heard else torch.zeros(0, self._dim), top_k)
        calibrated_for = self.verifier.training["most_speakers"]
        if found.n_speakers > calibrated_for:
            logger.warning(
                "The verifier was calibrated for up to %d speakers, %d are enrolled: the farther beyond, the more "
                "often it calls them unknown. Train it on more speakers.", calibrated_for, found.n_speakers
            )  # fmt: skip
        known = self.verifier.open_set.probabilities(found.llrs[:, 0].numpy(), p_known, found.n_speakers)
        shares = (found.llrs - found.total[:, None]).exp() * torch.from_numpy(known)[:, None]
        judged = iter(zip(found.names, shares.tolist(), known.tolist(), strict=True))
        predictions = []
        for row in rows:
            if row.vector is None:
                predictions.append(Prediction(row.utterance.path, error=row.error))
                continue
            names, probabilities, is_known = next(judged)
            ahead = 0 if is_known < 0.5 else max(1, sum(share > 1 - is_known for share in probabilities))
            names = [*names[:ahead], UNKNOWN, *names[ahead:]][:top_k]
            probabilities = [*probabilities[:ahead], 1 - is_known, *probabilities[ahead:]][:top_k]
            predictions.append(Prediction(row.utterance.path, tuple(names), tuple(probabilities)))
        return predictions

    def identify_files(
        self,
        paths: Sequence[Path],
        encoder: Encoder | LazyEncoder,
        top_k: int = 5,
        p_known: float = 0.5,
        progress: bool = False,
    ) -> list[Prediction]:
        """Listen to files with the store's encoder, and `identify` their speakers; `progress` shows a bar."""
        self.check_not_empty()
        utterances = [Utterance(path, speaker="", session="") for path in paths]
        rows = self.verifier.listen(utterances, encoder)
        shown = tqdm(rows, "Listening", len(utterances), unit="file", disable=None if progress else True)
        return self.identify(list(shown), top_k, p_known)

    def verify(self, name: str, vector: Tensor, p_target: float = 0.5) -> Verdict:
        """Say whether a recording, by its embedding (D,), is of an enrolled speaker.

        Raises
        ------
        StoreError
            There is no such speaker.
        """
        check_prior("p_target", p_target)
        with told(self.path), transaction(self._connection, "DEFERRED"):
            number = self._number(name)
            [(_, counts, models)] = self._models(1, number)
        backend = self.verifier.backend
        score = float(backend.score_speakers(backend.embed(vector[None].float()), models, counts))
        if not math.isfinite(score):
            raise damaged(self.path, "a vector holds NaN or infinity")
        return self.verifier.verdict(score, p_target, int(counts))

    def _check_features(self, features: FeatureSet) -> None:
        crop = self.verifier.crop if features.audio is None else features.audio.crop
        self._check_origin("the features", features.encoder, crop)
        check_vectors(features)

    def _check_origin(self, what: str, encoder: Spec, crop: float | None) -> None:
        """Refuse vectors of another encoder."""
        differences = spec_differences(encoder, self.verifier.encoder)
        if crop != self.verifier.crop:
            differences.append(f"max_duration is {crop} there, {self.verifier.crop} here")
        if differences:
            raise StoreError(
                f"{self.path}: its recordings were heard by the encoder {self.verifier.encoder.get('name')!r}, those "
                f"of {what} by another: {'; '.join(differences)}. Extract or enrol them again with the same settings."
            )

    def _enroll_all(self, speakers: Iterable[tuple[str, Sequence[Recording]]], existing: Existing) -> int:
        """Enrol several speakers, or none of them."""
        listed = list(speakers)
        with told(self.path), transaction(self._connection):
            for name, _ in listed:
                if existing == "refuse":
                    self._check_new(name)
                elif existing == "replace":  # all of them first: a recording may go from one to another
                    self._forget(self._find(name))
            return sum(self._enroll(name, recordings) for name, recordings in listed)

    def _check_new(self, name: str) -> None:
        check_name(name)
        if self._find(name) is not None:
            raise StoreError(
                f"{self.path}: {name!r} is enrolled already. Say --existing add to add these recordings, or "
                "--existing replace to forget the earlier ones."
            )

    def _contents(self) -> Iterator[tuple[str, list[Recording]]]:
        """Yield each speaker, with all recordings."""
        select = "SELECT path, digest, seconds, vector FROM recordings WHERE speaker = ?"
        for speaker in self.speakers():
            rows = self._connection.execute(select, [self._number(speaker.name)]).fetchall()
            if not all(tuple(map(type, row)) == (str, bytes, float, bytes) for row in rows):
                raise damaged(self.path, "a recording's row has other values than it should have")
            vectors = self._vectors([row[3] for row in rows], self._dim)
            recordings = [
                Recording(path, digest, seconds, vector)
                for (path, digest, seconds, _), vector in zip(rows, vectors, strict=True)
            ]
            yield speaker.name, recordings

    def _enroll(self, name: str, recordings: Sequence[Recording]) -> int:
        """Enrol a speaker within a transaction."""
        check_name(name)
        if not recordings:
            raise StoreError(f"There is no recording to enrol {name!r} by.")
        found = self._find(name)
        if found is None:
            insert = "INSERT INTO speakers (name, n_recordings, seconds, changed, model) VALUES (?, 0, 0, '', x'')"
            found = self._connection.execute(insert, [name]).lastrowid
        assert found is not None
        added = sum(self._add(found, name, recording) for recording in recordings)
        self._update_model(found)
        return added

    def _add(self, number: int, name: str, recording: Recording) -> bool:
        """Add a recording to a speaker; False if it is there already."""
        owner = "SELECT speakers.name FROM recordings JOIN speakers ON speakers.id = speaker WHERE digest = ?"
        found = self._connection.execute(owner, [recording.digest]).fetchone()
        if found and found[0] != name:
            raise StoreError(
                f"{recording.path}: this recording, which is to be {name!r}, is enrolled as {found[0]!r} already; "
                f"nobody was enrolled. Remove {found[0]!r}, or leave the recording out."
            )
        if found:
            return False
        path = recording.path.encode(errors="backslashreplace").decode()  # names of files need not be text
        vector = recording.vector.float().numpy().astype("<f4").tobytes()
        self._connection.execute(
            "INSERT INTO recordings (speaker, path, digest, seconds, vector) VALUES (?, ?, ?, ?, ?)",
            [number, path, recording.digest, recording.seconds, vector],
        )
        return True

    def _update_model(self, number: int) -> None:
        """Make the model of a speaker anew, the same in whatever order the recordings came."""
        rows = self._connection.execute(
            "SELECT seconds, vector FROM recordings WHERE speaker = ? ORDER BY digest, vector", [number]
        ).fetchall()
        if not all(isinstance(length, float) for length, _ in rows):
            raise damaged(self.path, "a recording's row has other values than it should have")
        vectors = self._vectors([vector for _, vector in rows], self._dim)
        backend = self.verifier.backend
        model = backend.combine(backend.embed(vectors))
        if not bool(torch.isfinite(model).all()):
            raise StoreError("A recording's embedding is so far from all others that it has no finite score.")
        seconds = math.fsum(length for length, _ in rows)
        now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S")
        self._connection.execute(
            "UPDATE speakers SET n_recordings = ?, seconds = ?, changed = ?, model = ? WHERE id = ?",
            [len(rows), seconds, now, model.float().numpy().astype("<f4").tobytes(), number],
        )

    @property
    def _dim(self) -> int:
        return int(self.verifier.encoder["dim"])

    def _find(self, name: str) -> int | None:
        found = self._connection.execute("SELECT id FROM speakers WHERE name = ?", [name]).fetchone()
        return None if found is None else int(found[0])

    def _number(self, name: str) -> int:
        check_name(name)
        number = self._find(name)
        if number is None:
            names = [row[0] for row in self._connection.execute("SELECT name FROM speakers")]
            near = get_close_matches(name, names, n=1)
            hint = f"perhaps you meant {near[0]!r}" if near else "the command list shows who is"
            raise StoreError(f"{self.path}: {name!r} is not enrolled; {hint}.")
        return number

    def _forget(self, number: int | None) -> None:
        self._connection.execute("DELETE FROM recordings WHERE speaker = ?", [number])
        self._connection.execute("DELETE FROM speakers WHERE id = ?", [number])

    def _names(self, numbers: Tensor) -> dict[int, str]:
        select = "SELECT name FROM speakers WHERE id = ?"
        distinct = [number for number in torch.unique(numbers).tolist() if number >= 0]
        names = {number: self._connection.execute(select, [number]).fetchone()[0] for number in distinct}
        self._check_stored_names(list(names.values()))
        return names

    def _check_stored_names(self, names: Sequence[str]) -> None:
        """Refuse names that `enroll` would not have taken."""
        try:
            for name in names:
                check_name(name if isinstance(name, str) else "")
        except StoreError as error:
            raise damaged(self.path, str(error).partition(";")[0]) from error

    def _models(self, size: int, number: int | None = None) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield numbers (n,), counts of recordings (n,) and models (n, K) of all speakers, or of one, in blocks."""
        which = "" if number is None else "WHERE id = ?"
        rows = self._connection.execute(
            f"SELECT id, n_recordings, model FROM speakers {which} ORDER BY id", [] if number is None else [number]
        )
        dim = self.verifier.backend.embed(torch.ones(1, self._dim)).shape[1]
        while block := rows.fetchmany(size):
            numbers, counts, blobs = zip(*block, strict=True)
            if not all(isinstance(count, int) and count > 0 for count in counts):
                raise damaged(self.path, "a speaker has no recordings")
            yield torch.tensor(numbers), torch.tensor(counts), self._vectors(blobs, dim)

    def _vectors(self, blobs: Sequence[bytes], dim: int) -> Tensor:
        """Return a table (n, dim) of vectors that the file holds."""
        if not all(isinstance(blob, bytes) and len(blob) == 4 * dim for blob in blobs):
            raise damaged(self.path, f"a vector has not the {dim} numbers that it should have")
        table = torch.from_numpy(np.frombuffer(bytearray().join(blobs), "<f4").astype(np.float32, copy=False))
        return table.reshape(len(blobs), dim)

    def _llrs(self, scores: Tensor, counts: Tensor) -> Tensor:
        calibration = self.verifier.calibration
        of_count = torch.from_numpy(calibration.llrs(0.0, counts.numpy())).float()
        # Scores that say nothing have an order all the same.
        return torch.add(of_count, scores, alpha=calibration.slope or 1e-9)
