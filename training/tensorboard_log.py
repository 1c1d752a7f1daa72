"""Curves of a training run for TensorBoard, which a run that is continued goes on with."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from files import OutputError, Record

# Figures of an epoch's rows that have a curve.
CURVES = ("loss", "accuracy", "eer", "learning_rate", "crops_per_second")


class TensorBoardLog:
    """Writes scalars into a folder; use it as a context manager.

    The horizontal axis is the number of training steps that are done. What an interrupted run wrote after the step at
    which this one continues is hidden by TensorBoard.

    Parameters
    ----------
    folder : Path
    n_done : int
        Number of steps that are done.
    enabled : bool
        Whether anything is written; only the first process writes.

    Raises
    ------
    OutputError
        The folder cannot be written.
    """

    def __init__(self, folder: Path, n_done: int, *, enabled: bool = True) -> None:
        self._folder, self._writer = folder, None
        if enabled:
            from torch.utils.tensorboard import SummaryWriter  # slow to import

            with self._errors():
                self._writer = SummaryWriter(folder, purge_step=n_done + 1)

    def __enter__(self) -> "TensorBoardLog":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer is not None:
            with self._errors():
                self._writer.close()

    def add(self, n_done: int, scalars: Mapping[str, float]) -> None:
        """Add a point to each curve, except for figures that are NaN."""
        if self._writer is not None:
            with self._errors():
                for name, value in scalars.items():
                    if math.isfinite(value):
                        self._writer.add_scalar(name, value, n_done)

    def add_rows(self, n_done: int, rows: Sequence[Record]) -> None:
        """Add the rows of an epoch: curves such as ``accuracy/validation``, with the network if there are several."""
        several = len({row["network"] for row in rows}) > 1
        for row in rows:
            end = f"{row['part']}/{row['network']}" if several else row["part"]
            self.add(n_done, {f"{name}/{end}": row[name] for name in CURVES})

    def flush(self) -> None:
        """Write what is pending, so that no point before a checkpoint is lost."""
        if self._writer is not None:
            with self._errors():
                self._writer.flush()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        if self._writer is not None and not self._folder.is_dir():  # its thread would print the error
            self._writer = None
            raise OutputError(f"{self._folder}: the folder was deleted. The same command begins again.")
        try:
            yield
        except OSError as error:
            raise OutputError(
                f"{self._folder}: cannot be written ({error.strerror or error}). Check the permissions of the folder "
                "and the free disk space; the same command continues the run."
            ) from error
