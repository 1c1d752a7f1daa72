"""The registry of corpus layouts. To add a layout, write one function with the `layout` decorator."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from corpora.corpus import Utterance


@dataclass(frozen=True)
class Unused:
    """A file that belongs to a layout, but is not an utterance of the corpus; it is counted in a warning.

    Attributes
    ----------
    file : str
        POSIX path relative to the root.
    reason : str
        Clause that follows "audio files that", such as "validated.tsv does not list".
    """

    file: str
    reason: str


# A reader takes the root and the audio files below it (POSIX paths relative to the root), and yields an utterance for
# each file that it recognises. Detection tries the readers in the order in which they are registered.
Reader = Callable[[Path, Sequence[str]], Iterable[Utterance | Unused]]
LAYOUTS: dict[str, Reader] = {}


def layout(name: str) -> Callable[[Reader], Reader]:
    """Register a reader under a name for ``--layout``."""

    def register(reader: Reader) -> Reader:
        LAYOUTS[name] = reader
        return reader

    return register
