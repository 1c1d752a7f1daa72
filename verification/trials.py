"""Which pairs are compared: read from files, made of a corpus, written so that a result can be repeated."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from audio import InputError
from features import FeatureSet, write_atomically

Rows = NDArray[np.int64]

# Pairs beyond which a list of all is no longer sensible: 17 bytes each, and as many scores.
MOST_PAIRS = 50_000_000
KALDI = {"target": True, "nontarget": False}
VOXCELEB = {"1": True, "0": False}


class TrialError(InputError):
    """Trials cannot be read, or are not of these utterances."""


@dataclass(frozen=True, eq=False)
class Trials:
    """Pairs of utterances, each of one speaker or of two.

    Attributes
    ----------
    first, second : ndarray (n,)
        int64, rows of the features.
    labels : ndarray (n,)
        bool, whether both are of the same speaker.
    """

    first: Rows
    second: Rows
    labels: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.labels)

    def select(self, chosen: NDArray[np.bool_]) -> "Trials":
        """Return some of the pairs, by a mask."""
        return Trials(self.first[chosen], self.second[chosen], self.labels[chosen])

    def save(self, path: str | os.PathLike[str], ids: Sequence[str]) -> Path:
        """Write ``utterance<TAB>utterance<TAB>target|nontarget`` lines, as Kaldi does; returns the path.

        Raises
        ------
        TrialError
            An utterance has a tab or a line break in its name.
        OutputError
            The file cannot be written.
        """
        for row in np.union1d(self.first, self.second).tolist():
            if set(ids[row]) & set("\t\r\n"):
                raise TrialError(
                    f"{ids[row]!r} has a tab or a line break in its name, which a list of trials cannot hold."
                )
        names = {True: "target", False: "nontarget"}
        lines = (
            f"{ids[one]}\t{ids[other]}\t{names[label]}\n"
            for one, other, label in zip(self.first.tolist(), self.second.tolist(), self.labels.tolist(), strict=True)
        )
        text = "".join(lines).encode("utf-8", "surrogateescape")
        return write_atomically(Path(path), lambda file: file.write(text))


def read_trials(path: str | os.PathLike[str], ids: Sequence[str]) -> Trials:
    """Read the pairs of a file: VoxCeleb's ``1 a.wav b.wav`` or Kaldi's ``a b target`` lines.

    Parameters
    ----------
    path : path-like
        Text file; words are separated by tabs where a line has any, else by spaces.
    ids : sequence of str
        Utterances of the features, in the order of the rows.

    Returns
    -------
    Trials
        In the order of the file.

    Raises
    ------
    TrialError
        The file cannot be read, a line is neither form, or an utterance is not among the ids; the line is named.
    """
    path = Path(path)
    try:
        lines = path.read_bytes().decode("utf-8", "surrogateescape").split("\n")
    except OSError as error:
        raise TrialError(f"{path}: the trials cannot be read ({error.strerror}).") from error
    rows = {utterance: row for row, utterance in enumerate(ids)}
    first, second, labels = [], [], []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        one, other, label = _parse(path, number, line.rstrip("\r"))
        for utterance in (one, other):
            if utterance not in rows:
                raise TrialError(
                    f"{path}, line {number}: there is no utterance {utterance!r} among the {len(ids)} features "
                    f"({ids[0] if len(ids) else 'none'}, ...). Give the features of the corpus that the trials are of."
                )
        first.append(rows[one])
        second.append(rows[other])
        labels.append(label)
    if not labels:
        raise TrialError(f"{path}: there are no trials in this file.")
    return Trials(np.array(first, np.int64), np.array(second, np.int64), np.array(labels, bool))


def _parse(path: Path, number: int, line: str) -> tuple[str, str, bool]:
    words = line.split("\t") if "\t" in line else line.split()
    if len(words) == 3 and words[0] in VOXCELEB and words[2] not in KALDI:
        return words[1], words[2], VOXCELEB[words[0]]
    if len(words) == 3 and words[2] in KALDI:
        return words[0], words[1], KALDI[words[2]]
    raise TrialError(
        f"{path}, line {number}: {line!r} is no trial; expected '1 first.wav second.wav' (1 or 0), or "
        "'first second target' (target or nontarget)."
    )


def all_pairs(features: FeatureSet) -> Trials:
    """Return every pair of two utterances, once.

    Raises
    ------
    TrialError
        There are too many.
    """
    n = len(features)
    if n * (n - 1) // 2 > MOST_PAIRS:
        raise TrialError(
            f"{n} utterances make {n * (n - 1) // 2:,} pairs, more than the {MOST_PAIRS:,} that are sensible to list. "
            "Give a list of trials, or draw some at random."
        )
    first, second = (part.astype(np.int64) for part in np.triu_indices(n, 1))
    labels = features.labels.numpy()
    return Trials(first, second, labels[first] == labels[second])


def random_triplets(features: FeatureSet, n_triplets: int, seed: int = 0) -> Trials:
    """Draw an anchor, another utterance of its speaker and one of somebody else, each time: a target and a nontarget.

    Parameters
    ----------
    features : FeatureSet
    n_triplets : int
        Half the number of trials.
    seed : int
        The same seed draws the same.

    Raises
    ------
    TrialError
        No speaker has two utterances, or there is one speaker.
    """
    labels = features.labels.numpy()
    order = np.argsort(labels, kind="stable")
    counts = np.bincount(labels, minlength=len(features.speakers))
    starts = counts.cumsum() - counts
    repeated = np.flatnonzero(counts > 1)
    if n_triplets < 1 or not len(repeated) or (counts > 0).sum() < 2:
        raise TrialError(
            "Triplets need a speaker with two utterances and another speaker, and at least one of them must be asked "
            f"for; {len(repeated)} of {(counts > 0).sum()} speakers have two, {n_triplets} are asked for."
        )
    random = np.random.default_rng(seed)
    speaker = random.choice(repeated, n_triplets)
    one = random.integers(counts[speaker])
    other = (one + random.integers(1, counts[speaker])) % counts[speaker]  # any but the anchor
    # Any utterance of the others: those before the speaker's own, or those after.
    stranger = random.integers(len(labels) - counts[speaker])
    stranger += np.where(stranger >= starts[speaker], counts[speaker], 0)
    anchor = order[starts[speaker] + one]
    first = np.concatenate([anchor, anchor])
    second = np.concatenate([order[starts[speaker] + other], order[stranger]])
    return Trials(first, second, np.repeat([True, False], n_triplets))


def cross_session(trials: Trials, features: FeatureSet) -> NDArray[np.bool_]:
    """Return which trials are of two sessions; nontargets always are, unless speakers share a session."""
    sessions = features.sessions.numpy()
    different: NDArray[np.bool_] = sessions[trials.first] != sessions[trials.second]
    return different


def same_gender(trials: Trials, features: FeatureSet, genders: Mapping[str, str]) -> NDArray[np.bool_]:
    """Return which trials are of two speakers whose gender is known and the same."""
    known = sorted({gender for gender in genders.values() if gender})
    numbers = np.array([known.index(genders[name]) if genders.get(name) else -1 for name in features.speakers])
    own = numbers[features.labels.numpy()]
    same: NDArray[np.bool_] = (own[trials.first] == own[trials.second]) & (own[trials.first] >= 0)
    return same
