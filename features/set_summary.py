"""A set of features in a sentence and in a table, for a notebook."""

import math
from typing import TYPE_CHECKING

from files import count_of, html_table, note_of_rest

if TYPE_CHECKING:
    from features.feature_set import FeatureSet

# Number of rows in the table.
SHOWN = 5


def summary(features: "FeatureSet") -> str:
    """Return the numbers of utterances, speakers and sessions, the shape of the vectors, and the encoder."""
    n_speakers, n_sessions = (len(set(column.tolist())) for column in (features.labels, features.sessions))
    counts = f"{count_of(len(features), 'utterance')} of {count_of(n_speakers, 'speaker')}"
    dtype, shape = str(features.features.dtype).removeprefix("torch."), tuple(features.features.shape)
    failures = f", {count_of(len(features.failures), 'failure')}" if features.failures else ""
    origin = f"{dtype} {shape} of {features.encoder.get('name')}"
    return f"{features.corpus}: {counts} in {count_of(n_sessions, 'session')}, {origin}{failures}"


def first_rows(features: "FeatureSet") -> str:
    """Return the first rows as a table in HTML."""
    columns = (features.labels, features.sessions, features.durations)
    rows = []
    for utterance, *values in zip(features.ids[:SHOWN], *(column[:SHOWN].tolist() for column in columns), strict=True):
        label, session, seconds = values
        length = "-" if math.isnan(seconds) else f"{seconds:.2f}"
        rows.append([utterance, features.speakers[label], features.session_names[session], length])
    return html_table(
        ["id", "speaker", "session", "seconds"],
        rows,
        "<<<>",
        title=f"Features of {summary(features)}",
        notes=note_of_rest(len(rows), len(features), "row"),
    )
