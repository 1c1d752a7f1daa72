"""Sentences about the validation and test parts: what they cannot measure, and which speakers they leave out."""

import numpy as np

from files import count_of
from training.data import TrainingData

# Maximum number of speakers that a sentence names.
MAX_NAMED = 5


def missing_speakers(data: TrainingData, part: str) -> tuple[str, ...]:
    """Return the training speakers without an utterance in a part; none if the part is of other speakers by design."""
    found = np.unique(data.labels[data.parts[part]])
    if not (found >= 0).any():
        return ()
    return tuple(data.speakers[label] for label in np.setdiff1d(np.arange(len(data.speakers)), found).tolist())


def part_problems(data: TrainingData, objective: str) -> list[str]:
    """Return a sentence for each problem of the validation and test parts.

    The problems are parts without utterances, without pairs to verify, or with speakers that are not in the training
    part, and training speakers that a part leaves out.

    Parameters
    ----------
    data : TrainingData
    objective : {"classification", "triplet"}
    """
    notes = []
    for part, consequence in (("validation", "the last epoch is selected"), ("test", "there is no test")):
        if not len(data.parts[part]):
            notes.append(f"The {part} part has no utterances, so {consequence}.")
            continue
        if objective == "classification":
            notes += _unknown_speakers(data, part)
        if objective == "triplet" or not (data.labels[data.parts[part]] >= 0).any():
            notes += _no_pairs(data, part)
        missing = missing_speakers(data, part)
        if missing:
            names = ", ".join(missing[:MAX_NAMED]) + (", ..." if len(missing) > MAX_NAMED else ".")
            n_speakers = count_of(len(data.speakers), "training speaker")
            notes.append(f"The {part} part has no utterance of {len(missing)} of the {n_speakers}: {names}")
    return notes


def _unknown_speakers(data: TrainingData, part: str) -> list[str]:
    """Return a sentence if there are speakers in a part that the network is not trained to classify."""
    rows = data.parts[part]
    unknown = rows[data.labels[rows] < 0]
    if not len(unknown):
        return []
    n_speakers = len({data.utterances[row].speaker for row in unknown.tolist()})
    verb = "is" if n_speakers == 1 else "are"
    rest = "that part has" if len(unknown) == len(rows) else "the others give"
    figures = "no loss and no accuracy, only an EER" if len(unknown) == len(rows) else "its loss and its accuracies"
    return [
        f"{len(unknown)} of the {count_of(len(rows), 'utterance')} of the {part} part are of "
        f"{count_of(n_speakers, 'speaker')} that {verb} not in the training part, so {rest} {figures}."
    ]


def _no_pairs(data: TrainingData, part: str) -> list[str]:
    """Return a sentence if a part has no EER because it lacks targets or nontargets."""
    counts = np.unique(data.speaker_numbers[data.parts[part]], return_counts=True)[1]
    if counts.max() > 1 and len(counts) > 1:
        return []
    found = "utterances of one speaker only" if len(counts) == 1 else "one utterance of each speaker"
    consequence = "no EER, and the last epoch is selected" if part == "validation" else "no EER"
    return [f"The {part} part has {found}, so there are no pairs to compare: it has {consequence}."]
