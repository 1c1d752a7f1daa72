"""Trials: pairs of utterances that are read from a file or drawn from a set of features."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from corpora import Indices
from features import FeatureSet
from files import InputError, count_of, fields_repr, normal_form, other_kind, read_lines, write_atomically

# Maximum number of pairs that `all_pairs` returns. Each pair takes 17 bytes, and its score 4 more.
MAX_PAIRS = 50_000_000
FILE_KIND = "a list of trials, with lines such as '1 first.wav second.wav'"
KALDI = {"target": True, "nontarget": False}
VOXCELEB = {"1": True, "0": False}


class TrialError(InputError):
    """Trials cannot be read, drawn or saved, or name utterances that are not among the features."""


@dataclass(frozen=True, eq=False)
class Trials:
    """Pairs of utterances, labelled as target or nontarget.

    Attributes
    ----------
    first, second : ndarray (n,)
        int64, rows of the features.
    labels : ndarray (n,)
        bool, whether both utterances are of the same speaker (a target).
    """

    first: Indices
    second: Indices
    labels: NDArray[np.bool_]

    __repr__ = fields_repr

    def __len__(self) -> int:
        return len(self.labels)

    def select(self, mask: NDArray[np.bool_]) -> "Trials":
        """Return the pairs that a mask (n,) selects."""
        return Trials(self.first[mask], self.second[mask], self.labels[mask])

    def save(self, path: str | os.PathLike[str], ids: Sequence[str]) -> Path:
        """Write ``utterance<TAB>utterance<TAB>target|nontarget`` lines, as Kaldi does; return the path.

        Raises
        ------
        TrialError
            The id of an utterance has a tab or a line break.
        OutputError
            The file cannot be written.
        """
        check_trial_ids([ids[row] for row in np.union1d(self.first, self.second).tolist()])
        names = {True: "target", False: "nontarget"}
        lines = (
            f"{ids[one]}\t{ids[other]}\t{names[label]}\n"
            for one, other, label in zip(self.first.tolist(), self.second.tolist(), self.labels.tolist(), strict=True)
        )
        text = "".join(lines).encode("utf-8", "surrogateescape")
        return write_atomically(Path(path), lambda file: file.write(text))


def check_trial_ids(ids: Iterable[str]) -> None:
    """Refuse ids that cannot be written into a list of trials.

    Raises
    ------
    TrialError
        An id has a tab or a line break.
    """
    for each in ids:
        if set(each) & set("\t\r\n"):
            raise TrialError(
                f"{each!r} has a tab or a line break, which is not allowed in a list of trials; rename the file."
            )


def read_trials(path: str | os.PathLike[str], ids: Sequence[str]) -> Trials:
    """Read trials from lines in the format of VoxCeleb (``1 a.wav b.wav``) or Kaldi (``a b target``).

    Parameters
    ----------
    path : path-like
        Text file. Fields are separated by tabs if a line has any, otherwise by spaces.
    ids : sequence of str
        Ids of the utterances, in the order of the rows.

    Returns
    -------
    Trials
        Trials in the order of the file.

    Raises
    ------
    TrialError
        The file cannot be read, a line has neither format, or an utterance is not among the ids. The message gives the
        line number.
    """
    path = Path(path)
    rows = {normal_form(utterance): row for row, utterance in enumerate(ids)}
    first, second, labels = [], [], []
    for number, line in enumerate(read_lines(path, FILE_KIND, TrialError), 1):
        if not line.strip():
            continue
        trial = _parse(normal_form(line))
        if trial is None:
            raise TrialError(
                other_kind(path, FILE_KIND)
                or f"{path}, line {number}: {line!r} is not a trial; expected '1 first.wav second.wav' (1 or "
                "0), or 'first second target' (target or nontarget)."
            )
        one, other, label = trial
        for utterance in (one, other):
            if utterance not in rows:
                raise TrialError(
                    f"{path}, line {number}: there is no utterance {utterance!r} among the {len(ids)} features "
                    f"({ids[0] if len(ids) else 'none'}, ...). Give the features file of the corpus that the trials "
                    "refer to."
                )
        first.append(rows[one])
        second.append(rows[other])
        labels.append(label)
    if not labels:
        raise TrialError(f"{path}: there are no trials in this file. Expected lines such as '1 first.wav second.wav'.")
    return Trials(np.array(first, np.int64), np.array(second, np.int64), np.array(labels, bool))


def _parse(line: str) -> tuple[str, str, bool] | None:
    """Return the utterances and the label of a line, or None if it is not a trial."""
    line = line.rstrip().lstrip("\t")
    words = line.split("\t") if "\t" in line else line.split()
    if len(words) == 3 and words[0] in VOXCELEB and words[2] not in KALDI:
        return words[1], words[2], VOXCELEB[words[0]]
    if len(words) == 3 and words[2] in KALDI:
        return words[0], words[1], KALDI[words[2]]
    return None


def all_pairs(features: FeatureSet) -> Trials:
    """Return all pairs of two different utterances, each pair once.

    Raises
    ------
    TrialError
        There are more than `MAX_PAIRS` pairs.
    """
    n = len(features)
    n_pairs = n * (n - 1) // 2
    if n_pairs > MAX_PAIRS:
        raise TrialError(
            f"{n} utterances make {n_pairs:,} pairs; expected at most {MAX_PAIRS:,}. Give a list of trials, or draw "
            "some at random."
        )
    first, second = (part.astype(np.int64) for part in np.triu_indices(n, 1))
    labels = features.labels.numpy()
    return Trials(first, second, labels[first] == labels[second])


def random_triplets(features: FeatureSet, n_triplets: int, seed: int = 0) -> Trials:
    """Draw triplets of an anchor, an utterance of the same speaker and an utterance of another speaker.

    Each triplet makes two trials: the anchor with the same speaker (target), and the anchor with the other speaker
    (nontarget). All targets come before all nontargets.

    Parameters
    ----------
    features : FeatureSet
    n_triplets : int
        Number of triplets, which is half the number of trials.
    seed : int
        Random seed.

    Raises
    ------
    TrialError
        No speaker has two utterances, there is only one speaker, or `n_triplets` is below 1.
    """
    labels = features.labels.numpy()
    order = np.argsort(labels, kind="stable")
    counts = np.bincount(labels, minlength=len(features.speakers))
    starts = counts.cumsum() - counts
    repeated = np.flatnonzero(counts > 1)
    if n_triplets < 1 or not len(repeated) or (counts > 0).sum() < 2:
        raise TrialError(
            "Triplets need at least two speakers, one of them with two utterances, and at least 1 triplet; found "
            f"{count_of(int((counts > 0).sum()), 'speaker')}, {len(repeated)} of them with two utterances, and "
            f"{count_of(n_triplets, 'requested triplet')}."
        )
    random = np.random.default_rng(seed)
    speaker = random.choice(repeated, n_triplets)
    one = random.integers(counts[speaker])
    other = (one + random.integers(1, counts[speaker])) % counts[speaker]  # any utterance but the anchor
    # An utterance of another speaker: draw a position among the others, and skip the speaker's own rows in `order`.
    nontarget = random.integers(len(labels) - counts[speaker])
    nontarget += np.where(nontarget >= starts[speaker], counts[speaker], 0)
    anchor = order[starts[speaker] + one]
    first = np.concatenate([anchor, anchor])
    second = np.concatenate([order[starts[speaker] + other], order[nontarget]])
    return Trials(first, second, np.repeat([True, False], n_triplets))


def cross_session(trials: Trials, features: FeatureSet) -> NDArray[np.bool_]:
    """Return a mask (n,) of the trials whose two utterances are from different sessions.

    It includes all nontargets, except those of two speakers in the same session.
    """
    sessions = features.sessions.numpy()
    different: NDArray[np.bool_] = sessions[trials.first] != sessions[trials.second]
    return different
