"""The second verb of this room: train a network for each session of a corpus, such as each meeting."""

import gc
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from corpora import Corpus, Utterance
from files import PathLike, Record, Table, count_of, safe_file_name
from training.save_run import TrainedEncoder
from training.session_results import sessions_table, write_session_results
from training.settings import TrainingError, UnusableCorpusError
from training.train_encoder import train_encoder

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class TrainedSessions:
    """What the training for each session made.

    Attributes
    ----------
    trained : dict
        What was made for each session, in its own folder. The classifier is ``{session}-best.pt``.
    skipped : dict
        Sessions that cannot be trained -> the reason.
    rows : list of dict
        The finished sessions in the output folder: their sizes, selected epochs and figures.
    table : Table
        Table of these rows.
    """

    trained: dict[str, TrainedEncoder]
    skipped: dict[str, str]
    rows: list[Record] = field(repr=False)
    table: Table = field(repr=False)

    @property
    def failures(self) -> tuple[tuple[str, str], ...]:
        """Utterances that could not be read, with the reasons."""
        return tuple(failure for each in self.trained.values() for failure in each.failures)


def train_sessions(
    corpus: Corpus,
    network: str | Sequence[str],
    *,
    start_session: str | None = None,
    output_dir: PathLike = "outputs",
    **settings: Any,
) -> TrainedSessions:
    """Train a network for each session with at least two speakers; each starts from the same weights.

    The utterances of a session are split as those of a corpus are; with the split ``given``, sessions without a train
    split are left out. The results of each session are in a folder of its name. A run that was interrupted continues with the session and the epoch where it was.

    Parameters
    ----------
    corpus : Corpus
    network : str or sequence of str
        As in `train_encoder`.
    start_session : str, optional
        Session to start with; those before it in the order of their names are not trained.
    output_dir : path-like
        Folder for the folders of the sessions, for ``metrics.csv`` and for ``sessions.csv``.
    **settings
        Other arguments of `train_encoder`.

    Raises
    ------
    TrainingError
        There is no such session, or no session can be trained.
    InputError, OutputError
        As in `train_encoder`.
    """
    of_session: dict[str, list[Utterance]] = {}
    for utterance in sorted(corpus, key=lambda each: each.session):
        of_session.setdefault(utterance.session, []).append(utterance)
    if start_session is not None and start_session not in of_session:
        raise TrainingError(
            f"The corpus has no session {start_session!r} to start with; it has {', '.join(of_session)}."
        )
    folder = Path(output_dir)
    folders = {session: folder / name for session, name in _folder_names(of_session).items()}
    trained: dict[str, TrainedEncoder] = {}
    skipped: dict[str, str] = {}
    rows: list[Record] = []
    for number, (session, utterances) in enumerate(of_session.items(), start=1):
        if start_session is not None and session < start_session:
            continue
        part = Corpus(tuple(utterances), corpus.root, corpus.name)
        if len(part.speakers) < 2:
            skipped[session] = "it has one speaker"
        else:
            size = f"{count_of(len(part.speakers), 'speaker')}, {count_of(len(part), 'utterance')}"
            logger.info("Session %s (%d of %d): %s", session, number, len(of_session), size)
            try:
                trained[session] = _train(part, folders[session], network=network, **settings)
            except UnusableCorpusError as error:
                skipped[session] = str(error)
            gc.collect()  # the network is part of cycles, and memory has room for one
        if session in skipped:
            logger.warning("Session %s is not trained: %s", session, skipped[session])
        rows = write_session_results(folder, folders)
    if not trained:
        reason = next(iter(skipped.values())).rstrip(".")
        raise TrainingError(f"None of {count_of(len(skipped), 'session')} can be trained; the first: {reason}.")
    table = sessions_table(corpus.name, rows, skipped)
    return TrainedSessions(trained, skipped, rows=rows, table=table)


def _train(part: Corpus, folder: Path, **settings: Any) -> TrainedEncoder:
    """Train on one session, and give its classifier the name of the session."""
    folder.mkdir(parents=True, exist_ok=True)
    trained = train_encoder(part, output_dir=folder, **settings)
    assert trained.classifier is not None
    named = trained.classifier.replace(folder / f"{folder.name}-best.pt")
    return replace(trained, classifier=named)


def _folder_names(sessions: Sequence[str] | dict[str, Any]) -> dict[str, str]:
    """Return a name of a folder for each session; names that differ in case alone get numbers."""
    names: dict[str, str] = {}
    taken: set[str] = set()
    for session in sessions:
        safe = safe_file_name(session) or "session"
        name, number = safe, 2
        while name.casefold() in taken:
            name, number = f"{safe}_{number}", number + 1
        taken.add(name.casefold())
        names[session] = name
    return names
