"""The second verb of this room: train a network for each session of a corpus, such as each meeting."""

import gc
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from corpora import Corpus, Utterance
from files import PathLike, Record, Table, count_of, safe_file_name
from training.save_run import TrainedEncoder
from training.session_folders import check_earlier_runs, check_folders, read_results, session_folders
from training.session_results import sessions_table, write_session_results
from training.settings import TrainingError, TrainingSettings, UnusableCorpusError
from training.train_encoder import resolve_settings, train_encoder

logger = logging.getLogger(__name__)

# Settings that `train_encoder` takes under the same name; weights are given as files, and stored as digests.
FIELDS = {each.name for each in fields(TrainingSettings)} - {"networks", "start_from", "init_weights"}


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
    failures : tuple of (str, str)
        Utterances that could not be read, with the reasons; those of skipped sessions too.
    """

    trained: dict[str, TrainedEncoder]
    skipped: dict[str, str]
    rows: list[Record] = field(repr=False)
    table: Table = field(repr=False)
    failures: tuple[tuple[str, str], ...] = ()


def train_sessions(
    corpus: Corpus,
    network: str | Sequence[str],
    *,
    start_session: str | None = None,
    split_by: str = "utterance",
    fractions: Sequence[float] = (0.8, 0.1, 0.1),
    output_dir: PathLike = "outputs",
    **settings: Any,
) -> TrainedSessions:
    """Train a network for each session with at least two speakers; each starts from the same weights.

    The utterances of a session are split as those of a corpus are; with the split ``given``, sessions without a train
    split are left out. The results of each session are in its folder; see `session_folders`. A run that was interrupted
    continues with the session and the epoch where it was.

    Parameters
    ----------
    corpus : Corpus
    network : str or sequence of str
        As in `train_encoder`.
    start_session : str, optional
        Session to start with; those before it in the order of their names are not trained.
    split_by : {"utterance", "given"}
        How the utterances of each session are assigned to the parts, as in `corpora.split`.
    fractions : three floats
        Shares of the training, validation and test parts of a session.
    output_dir : path-like
        Folder for the folders of the sessions, for ``metrics.csv`` and for ``sessions.csv``.
    **settings
        Other arguments of `train_encoder`.

    Raises
    ------
    TrainingError
        There is no such session, no session can be trained, or the output folder has results with other settings.
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
    folder, folders = Path(output_dir), session_folders(corpus, output_dir)
    parts = {
        session: Corpus(tuple(utterances), corpus.root, safe_file_name(f"{corpus.name}_{folders[session].name}"))
        for session, utterances in of_session.items()
        if start_session is None or session >= start_session
    }
    skipped = {session: "it has one speaker" for session, part in parts.items() if len(part.speakers) < 2}
    check_folders(folder, [folders[session] for session in parts.keys() - skipped.keys()])
    chosen = {"network": network, "split_by": split_by, "fractions": fractions, **settings}
    _check_earlier_runs([folders[session] for session in of_session if session not in skipped], chosen)
    trained: dict[str, TrainedEncoder] = {}
    failures: list[tuple[str, str]] = []
    rows: list[Record] = []
    for number, (session, part) in enumerate(parts.items(), start=1 + len(of_session) - len(parts)):
        if session not in skipped:
            size = f"{count_of(len(part.speakers), 'speaker')}, {count_of(len(part), 'utterance')}"
            logger.info("Session %s (%d of %d): %s", session, number, len(of_session), size)
            try:
                trained[session] = _train(part, folders[session], **chosen)
                failures += trained[session].failures
            except UnusableCorpusError as error:
                skipped[session] = str(error)
                failures += sorted(error.faults.items())
            gc.collect()  # the network is part of cycles, and memory has room for one
        if session in skipped:
            logger.warning("Session %s is not trained: %s", session, skipped[session])
        rows = write_session_results(folder, {each: run for each, run in folders.items() if each not in skipped})
    if not trained:
        first, reason = next(iter(skipped.items()))
        raise TrainingError(f"No session can be trained; the first, {first}: {reason.rstrip('.')}.")
    table = sessions_table(corpus.name, rows, skipped)
    return TrainedSessions(trained, skipped, rows=rows, table=table, failures=tuple(failures))


def _check_earlier_runs(folders: Sequence[Path], chosen: dict[str, Any]) -> None:
    """Refuse results of sessions with other settings, whose figures would be in the same table."""
    runs = {folder: metrics for folder in folders if (metrics := read_results(folder)) is not None}
    if not runs:
        return
    network = chosen["network"]
    own = {name: chosen[name] for name in FIELDS & chosen.keys()}
    given = TrainingSettings(networks=(network,) if isinstance(network, str) else tuple(network), **own)
    places = {name: chosen[name] for name in ("start_from", "init_weights", "device") if name in chosen}
    settings, _, _ = resolve_settings(given, **places)
    parts = {"split_by": chosen["split_by"], "fractions": list(chosen["fractions"])}
    check_earlier_runs(runs, {**settings.content(), **parts})


def _train(part: Corpus, folder: Path, **settings: Any) -> TrainedEncoder:
    """Train on one session, and give its classifier the name of the session."""
    trained = train_encoder(part, output_dir=folder, **settings)
    assert trained.classifier is not None
    named = trained.classifier.replace(folder / f"{folder.name}-best.pt")
    return replace(trained, classifier=named)
