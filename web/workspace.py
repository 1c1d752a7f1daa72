"""`Workspace`: what the page works on, and the one place where it opens stores, classifiers and encoders."""

import logging
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import gradio

from encoders import LazyEncoder, encoder_from_spec
from files import InputError, OutputError
from heads import SpeakerClassifier
from verification import Enrolled, SpeakerStore, SpeakerVerifier, StoreError
from web.uploads import Uploads

logger = logging.getLogger(__name__)

# Rooms whose warnings during a call are part of its answer.
REPORTING = ("audio", "corpora", "embedding", "encoders", "features", "heads", "verification")


@dataclass(frozen=True, eq=False, kw_only=True)
class Workspace:
    """What the page works on.

    Attributes
    ----------
    store_path : Path
        Store of the enrolled speakers; the first enrolment makes it.
    verifier : SpeakerVerifier
        Verifier of the store, or of a new store.
    encoder : LazyEncoder
        Encoder of the verifier.
    classifiers : mapping of str to Path
        Files of classifiers, by the names that the page shows.
    results : sequence of Path
        Folders of results whose pages are shown.
    uploads : Uploads
    device : str
        Device of the encoders of classifiers.
    """

    store_path: Path
    verifier: SpeakerVerifier
    encoder: LazyEncoder
    classifiers: Mapping[str, Path]
    results: Sequence[Path]
    uploads: Uploads
    device: str = "auto"
    _loading: threading.Lock = field(default_factory=threading.Lock)
    _loaded: dict[str, tuple[SpeakerClassifier, LazyEncoder | None]] = field(default_factory=dict)

    def store(self) -> SpeakerStore:
        """Open the store, and make it if it does not exist.

        Raises
        ------
        StoreError
            The file is not a store, or has another verifier than at the start of the page.
        """
        return SpeakerStore.create(self.store_path, self.verifier)

    def enrolled_store(self) -> SpeakerStore:
        """Open the store if it has speakers; raise `StoreError` otherwise."""
        if not self.store_path.exists():
            raise StoreError(f"{self.store_path.name}: no speaker is enrolled yet. Enrol speakers first.")
        store = self.store()
        try:
            store.check_not_empty()
        except BaseException:
            store.close()
            raise
        return store

    def speakers(self) -> list[Enrolled]:
        """List the enrolled speakers; empty if there is no store yet."""
        if not self.store_path.exists():
            return []
        with self.store() as store:
            return store.speakers()

    def load_encoder(self) -> None:
        """Build the encoder once, however many calls ask for it at the same time.

        Raises
        ------
        EncoderError
            The weights are not found.
        """
        with self._loading:
            _ = self.encoder.encoder

    def classifier(self, name: str) -> tuple[SpeakerClassifier, LazyEncoder | None]:
        """Return a classifier, and its encoder if it has one for all of its heads; both are kept for later calls.

        Raises
        ------
        InputError
            The file is not a classifier, or the encoder is not found.
        """
        with self._loading:
            if name not in self._loaded:
                classifier = SpeakerClassifier.load(self.classifiers[name])
                specs = [member.encoder for member in classifier.members]
                encoder = None
                if all(spec == specs[0] for spec in specs):
                    encoder = encoder_from_spec(specs[0], None, self.device, folder=classifier.folder)
                self._loaded[name] = classifier, encoder
            return self._loaded[name]

    @contextmanager
    def call(self, paths: Sequence[Path]) -> Iterator[list[str]]:
        """Answer a call that uses uploads, which are deleted at its end; yield the list of its warnings.

        Raises
        ------
        gradio.Error
            Something cannot be used; the sentence says what, and what to do.
        """
        warnings: list[str] = []
        try:
            with _collected(warnings):
                yield warnings
        except (InputError, OutputError, OSError) as error:
            logger.info("%s", error)
            raise gradio.Error(self.uploads.without_folders(str(error)), duration=None, print_exception=False) from error
        finally:
            self.uploads.release(paths)
            warnings[:] = map(self.uploads.without_folders, warnings)


@contextmanager
def _collected(messages: list[str]) -> Iterator[None]:
    """Add the warnings that the rooms log in this thread to a list, until the context ends."""
    handler = _ThreadHandler(messages)
    loggers = [logging.getLogger(name) for name in REPORTING]
    for each in loggers:
        each.addHandler(handler)
    try:
        yield
    finally:
        for each in loggers:
            each.removeHandler(handler)


class _ThreadHandler(logging.Handler):
    """Collects the warnings of the thread that made it."""

    def __init__(self, messages: list[str]) -> None:
        super().__init__(logging.WARNING)
        self._messages, self._thread = messages, threading.get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self._thread:
            self._messages.append(record.getMessage())
