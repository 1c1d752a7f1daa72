"""The folders of a training for each session, and what may be in them before it starts."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from corpora import Corpus
from files import PathLike, Record, check_destination, safe_file_name
from training.checkpoint import check_same_run
from training.settings import TrainingError
from training.training_run import CHECKPOINT

METRICS = "metrics.json"
SESSIONS = "sessions.csv"
# Files of a training beside the folders of its sessions, or of a run in the same folder.
FILES = {METRICS, SESSIONS, "metrics.csv", CHECKPOINT}


def session_folders(corpus: Corpus, output_dir: PathLike) -> dict[str, Path]:
    """Return the folder of each session, in the order of their names.

    A folder has the name of its session. Where that is not a valid name, the name of another file, or differs from that
    of another session in case alone, it has a digest of the session's name.
    """
    sessions = sorted({utterance.session for utterance in corpus})
    counts = Counter(session.casefold() for session in sessions)
    folders = {}
    for session in sessions:
        name = safe_file_name(session)
        if not name or name != session or counts[name.casefold()] > 1 or name.casefold() in FILES:
            digest = hashlib.sha256(session.encode("utf-8", "surrogatepass")).hexdigest()
            name = f"{name or 'session'}_{digest[:8]}"
        folders[session] = Path(output_dir) / name
    return folders


def check_folders(folder: Path, folders: Iterable[Path]) -> None:
    """Refuse an output folder of another run, and folders that cannot be written, before anything is trained.

    Raises
    ------
    TrainingError
        The output folder has the results of a run.
    OutputError
        A folder cannot be written, such as one that is a file.
    """
    if (folder / METRICS).exists() or (folder / CHECKPOINT).exists():
        raise TrainingError(f"{folder}: this folder holds results without --per_session; give another --output_dir.")
    for each in folders:
        check_destination(each / CHECKPOINT)


def check_earlier_runs(runs: Mapping[Path, Record], expected: dict[str, Any]) -> None:
    """Refuse earlier runs of sessions with other settings: figures of both would be in one table.

    Parameters
    ----------
    runs : mapping
        Folder -> what `read_results` returned.
    expected : dict
        Settings of this run, with `split_by` and `fractions`.

    Raises
    ------
    TrainingError
        A run has other settings.
    """
    expected = json.loads(json.dumps(expected))
    for folder, metrics in runs.items():
        parts = {name: metrics[name] for name in ("split_by", "fractions")}
        check_same_run(folder, {**metrics["settings"], **parts}, expected)


def read_results(folder: Path) -> Record | None:
    """Return the content of the ``metrics.json`` of a training run; None if there is none."""
    try:
        content = json.loads((folder / METRICS).read_text(encoding="utf-8"))
    except (OSError, ValueError):  # absent, or cut off: the session is trained, or saved again
        return None
    is_run = isinstance(content, dict) and bool(content.get("rows")) and "selected_epoch" in content
    return content if is_run else None
