"""`Workspace`: what the page works on, and the one place where it opens stores, classifiers and encoders."""

import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

import gradio

from audio import SpeechDetector, SpeechError
from encoders import LazyEncoder, encoder_from_spec
from files import InputError, OutputError, printable
from heads import SpeakerClassifier
from verification import Enrolled, SpeakerStore, SpeakerVerifier, StoreError
from web.recordings import Upload
from web.uploads import Uploads

logger = logging.getLogger(__name__)

# Rooms whose warnings during a call are part of its answer.
REPORTING = ("audio", "corpora", "embedding", "encoders", "features", "heads", "verification", "web")


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
    make_speech_encoder : callable
        Function that returns the encoder of the verifier with speech detection.
    timeline, timeline_of_speech : mapping
        Arguments of `find_turns`, for an encoder without and with speech detection.
    max_seconds : float
        Longest recording in which is found who speaks when (seconds).
    """

    store_path: Path
    verifier: SpeakerVerifier
    encoder: LazyEncoder
    classifiers: Mapping[str, Path]
    results: Sequence[Path]
    uploads: Uploads
    device: str
    make_speech_encoder: Callable[[], LazyEncoder]
    timeline: Mapping[str, Any]
    timeline_of_speech: Mapping[str, Any]
    max_seconds: float
    _loading: threading.Lock = field(default_factory=threading.Lock)
    _loaded: dict[str, tuple[SpeakerClassifier, LazyEncoder | None]] = field(default_factory=dict)
    _speech_encoders: list[LazyEncoder] = field(default_factory=list)
    _detectors: list[SpeechDetector] = field(default_factory=list)

    def store(self) -> SpeakerStore:
        """Open the store, and make it if it does not exist; an existing one is only read.

        Raises
        ------
        StoreError
            The file is not a store, or has another verifier than at the start of the page.
        """
        if not self.store_path.exists() or not self.store_path.stat().st_size:
            return SpeakerStore.create(self.store_path, self.verifier)
        store = SpeakerStore.open(self.store_path)
        if not store.verifier.same_decisions_as(self.verifier):
            store.close()
            raise StoreError(
                f"{self.store_path.name}: the store has another verifier than when the page started. Start it again."
            )
        return store

    def enrolled_store(self) -> SpeakerStore:
        """Open the store if it has speakers; raise `StoreError` otherwise."""
        if not self.store_path.exists():
            raise StoreError(f"{self.store_path.name}: no speaker is enrolled yet. Enrol speakers first.")
        store = self.store()
        if not len(store):
            store.close()
            raise StoreError(f"{self.store_path.name}: no speaker is enrolled yet. Enrol speakers first.")
        return store

    def check_not_empty(self) -> None:
        """Raise an error for the page if nobody is enrolled."""
        with self.call([]):
            self.enrolled_store().close()

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

    def speech_encoder(self) -> LazyEncoder:
        """Return the encoder of the verifier with speech detection, the same one each time.

        Raises
        ------
        EncoderError
            The weights of the speech detection cannot be had.
        """
        with self._loading:
            if not self._speech_encoders:
                self._speech_encoders.append(self.make_speech_encoder())
            return self._speech_encoders[0]

    def speech_detector(self) -> SpeechDetector | None:
        """Return the speech detector; None, with a warning, if its weights cannot be had."""
        with self._loading:
            if not self._detectors:
                try:
                    self._detectors.append(SpeechDetector())
                except SpeechError as error:
                    logger.warning("How long somebody speaks is not checked. %s", error)
                    return None
            return self._detectors[0]

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
    def call(self, uploads: Sequence[Upload]) -> Iterator["Call"]:
        """Answer a call that uses uploads, which are deleted at its end.

        Raises
        ------
        gradio.Error
            Something cannot be used; the sentence says what, and what to do.
        """
        call = Call(uploads, self.store_path)
        try:
            with _collected(call.warnings):
                yield call
        except (InputError, OutputError, OSError) as error:
            logger.info("%s", error)
            raise refused(call.with_names(str(error))) from error
        finally:
            self.uploads.release([upload.path for upload in uploads])


@dataclass(frozen=True)
class Call:
    """A call of an action: its uploads, the store, and the warnings that the rooms log meanwhile."""

    uploads: Sequence[Upload]
    store_path: Path
    warnings: list[str] = field(default_factory=list)

    def with_names(self, message: str) -> str:
        """Return a message in which the uploads and the store have their names instead of their paths here."""
        for upload in self.uploads:
            message = message.replace(str(upload.path), upload.name)
        return message.replace(str(self.store_path), self.store_path.name)

    def notes(self) -> list[str]:
        """Return the warnings, each once."""
        return list(dict.fromkeys(map(self.with_names, self.warnings)))


def refused(sentence: str) -> gradio.Error:
    """Return the error that shows a sentence; the browser takes it for HTML."""
    return gradio.Error(escape(printable(sentence), quote=False), duration=None, print_exception=False)


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


def find_classifiers(folders: Sequence[Path]) -> dict[str, Path]:
    """Find the classifiers in folders and their subfolders; return their files by names that differ."""
    paths = sorted({path for folder in folders for path in folder.glob("**/speaker_classifier_*.pt")})
    counts = Counter(path.name for path in paths)
    return {path.name if counts[path.name] == 1 else str(path): path for path in paths}
