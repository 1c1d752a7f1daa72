"""Arrays that a user gives, as the vectors and the columns of a set of features."""

import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from corpora import SPLITS, CorpusError, Split, read_split
from features.set_checks import FeaturesError
from files import count_of, describe_similar, is_missing, is_reserved, listing, normal_form, reserved_problem

logger = logging.getLogger(__name__)


def as_vectors(given: ArrayLike | Tensor) -> Tensor:
    """Return vectors as a tensor (n, D) or (n, L, D), float32 if they are neither float32 nor float16.

    Raises
    ------
    FeaturesError
        They have another shape, are not floating point, or there are none.
    """
    try:
        vectors = given.detach() if isinstance(given, Tensor) else torch.from_numpy(_writable(np.asarray(given)))
    except (TypeError, ValueError, RuntimeError) as error:
        raise FeaturesError(f"The vectors are not a table of numbers ({error}).") from error
    is_table = vectors.ndim in (2, 3) and vectors.is_floating_point() and vectors.layout == torch.strided
    if not is_table or not vectors.numel():
        raise FeaturesError(
            f"The vectors are {vectors.dtype} of shape {tuple(vectors.shape)}; expected floating point, (N, D) or "
            "(N, L, D), with at least one row."
        )
    return vectors if vectors.dtype in (torch.float32, torch.float16) else vectors.float()


def as_names(given: ArrayLike | Tensor, what: str, n_rows: int) -> tuple[Tensor, tuple[str, ...]]:
    """Return the index of each row's name among the distinct names, and these names, sorted, as strings.

    Numbers are sorted as numbers.

    Parameters
    ----------
    given : array-like (n_rows,)
        Strings or numbers.
    what : str
        What is named, for the error message, such as ``speakers``.
    n_rows : int
        Expected number.

    Raises
    ------
    FeaturesError
        There is another number of names, one is missing (NaN or None, or the text "nan" for a speaker), a speaker is
        called "unknown", or strings and numbers are mixed.
    """
    names = _column(given, what, n_rows)
    if names.dtype.kind == "f" and np.isnan(names).any():
        raise _missing(np.nan, what, np.flatnonzero(np.isnan(names)))
    try:
        if isinstance(given, list | tuple) or names.dtype == object:
            _check_types(np.asarray(given, dtype=object).reshape(-1), what)
        distinct, numbers = np.unique(_in_normal_form(names), return_inverse=True)
    except TypeError as error:  # objects without an order
        raise FeaturesError(
            f"The {what} are not all strings or all numbers ({error}); give a name for each row."
        ) from error
    numbers = numbers.reshape(-1)
    if what == "speakers":
        _check_speakers(tuple(map(str, distinct.tolist())), numbers)
    return torch.from_numpy(numbers.astype(np.int64)), tuple(map(str, distinct.tolist()))


def as_ids(given: Iterable[Any], n_rows: int) -> tuple[str, ...]:
    """Return the ids of the rows as strings.

    Raises
    ------
    FeaturesError
        There is another number of ids, or two are the same.
    """
    if not isinstance(given, Iterable):
        raise FeaturesError(f"The ids are {given!r}; give one for each row.")
    ids = tuple(map(str, _column(list(given), "ids", n_rows).tolist()))
    repeated = next((each for each, count in Counter(ids).items() if count > 1), None)
    if repeated is not None:
        raise FeaturesError(f"The id {repeated!r} is given for several rows; give each row an id of its own.")
    return ids


def as_durations(given: ArrayLike | Tensor, n_rows: int) -> Tensor:
    """Return the durations of the rows (seconds) as a float32 tensor (n_rows,).

    Raises
    ------
    FeaturesError
        There is another number of durations, or they are not numbers.
    """
    try:
        return torch.from_numpy(_column(given, "durations", n_rows).astype(np.float32))
    except (TypeError, ValueError) as error:
        raise FeaturesError(f"The durations are not numbers ({error}); give seconds.") from error


def as_splits(given: Iterable[str | None], n_rows: int) -> Tensor:
    """Return the given split of each row as an index into `corpora.SPLITS`, -1 for none; int64, (n_rows,).

    Raises
    ------
    FeaturesError
        There is another number of splits, or one has another name.
    """
    names: list[Any] = list(given) if isinstance(given, Iterable) and not isinstance(given, str | Tensor) else [given]
    if len(names) != n_rows:
        raise FeaturesError(f"There are {n_rows} vectors, but {count_of(len(names), 'split')}; give one for each.")
    numbers: dict[Any, int] = {}
    for name in dict.fromkeys(names):
        row = names.index(name)
        if name is not None and not isinstance(name, str):
            raise FeaturesError(f"The splits have {name!r} in row {row}; expected train, validation, test or None.")
        try:
            split = read_split(name)
        except CorpusError as error:
            raise FeaturesError(f"The splits cannot be used: row {row}. {error}") from error
        numbers[name] = -1 if split is None else SPLITS.index(split)
    return torch.tensor([numbers[name] for name in names])


def split_names(splits: Tensor) -> tuple[Split | None, ...]:
    """Return the names of splits, from their indices."""
    return tuple(None if number < 0 else SPLITS[number] for number in splits.tolist())


def _check_types(names: NDArray[Any], what: str) -> None:
    """Refuse names (n_rows,) that are missing or mixed, as they were given: numpy makes NaN the string "nan"."""
    missing = [row for row, name in enumerate(names) if not isinstance(name, str) and is_missing(name)]
    if missing:
        raise _missing(names[missing[0]], what, missing)
    for row, name in enumerate(names):
        if isinstance(name, str) != isinstance(names[0], str):
            raise FeaturesError(
                f"The {what} are not all strings or all numbers: row 0 has {names[0]!r}, row {row} has {name!r}; give "
                "a name for each row."
            )


def _check_speakers(distinct: Sequence[str], numbers: NDArray[Any]) -> None:
    """Refuse names that stand for a missing name or an unknown speaker, and warn of names that look the same.

    `numbers` (n_rows,) are the indices of the rows' names among the distinct names.
    """
    for number, name in enumerate(distinct):
        if is_missing(name.strip()):
            raise _missing(name, "speakers", np.flatnonzero(numbers == number))
        if is_reserved(name):
            rows = np.flatnonzero(numbers == number).tolist()
            raise FeaturesError(reserved_problem(name, [f"row {row}" for row in rows]))
    similar = describe_similar(distinct)
    if similar:
        logger.warning("Some names of different speakers are equal except for case and spaces: %s.", similar)


def _missing(name: Any, what: str, rows: Sequence[int] | NDArray[Any]) -> FeaturesError:
    """Return the error for rows without a name."""
    found = f"{name!r}, which stands for a missing name," if isinstance(name, str) else str(name).replace("nan", "NaN")
    where = f"row {rows[0]}" if len(rows) == 1 else f"rows {listing(list(rows))}"
    return FeaturesError(f"The {what} have {found} in {where}; give a name for each row.")


def _in_normal_form(names: NDArray[Any]) -> NDArray[Any]:
    """Return strings in Unicode's normal form NFC; other names as they are."""
    if names.dtype.kind not in "UO" or not all(isinstance(name, str) for name in names[:1]):
        return names
    return np.array([normal_form(str(name)) for name in names.tolist()], names.dtype)


def _column(given: ArrayLike | Tensor, what: str, n_rows: int) -> NDArray[Any]:
    """Return one value for each row (n_rows,)."""
    try:
        values = given.detach().cpu().numpy() if isinstance(given, Tensor) else np.asarray(given)
    except (TypeError, ValueError) as error:  # lists of different lengths
        raise FeaturesError(f"The {what} are not one for each row ({error}).") from error
    if values.size != n_rows:
        raise FeaturesError(
            f"There are {n_rows} vectors, but {count_of(values.size, what[:-1])}; give one for each vector."
        )
    return values.reshape(-1)


def _writable(array: NDArray[Any]) -> NDArray[Any]:
    """Return an array that a tensor can share: tensors are always writable, and contiguous here."""
    return np.ascontiguousarray(array) if array.flags.writeable else array.copy()
