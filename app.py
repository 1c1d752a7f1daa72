"""Serve a page on which speakers are enrolled and identified in a browser.

python app.py --store outputs/speakers.db
"""

from __future__ import annotations

import gc
import os
import threading
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING

from command_line import EXIT_DONE, run
from config import TIMELINE, TIMELINE_OF_SPEECH, PageConfig, is_loopback
from files import InputError, optional_imports
from speaker_verification import encoder_of, verifier_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from encoders import LazyEncoder
    from verification import SpeakerVerifier
    from web import Uploads, Workspace


def main(config: PageConfig) -> int:
    from files import private_folder, read_accounts

    with private_folder("voxprobe_page_") as folder, ExitStack() as stack:
        with without_garbage_collection():
            check_folders(config)
            accounts = read_accounts(config.auth_file) if config.auth_file else []
            with optional_imports():
                if find_spec("gradio") is None:  # before anything is loaded
                    raise ModuleNotFoundError(name="gradio")
            verifier = verifier_of(config, is_changed=False)
            encoder = encoder_of(verifier, config)
            stack.enter_context(building(encoder))  # while Gradio is imported, which takes longer
            # Gradio reads the first two when it is imported, and asks for the third at each call: without an answer, it
            # would import pyplot.
            os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "GRADIO_TEMP_DIR": str(folder), "MPLBACKEND": "agg"}
            from web import Uploads, build_page, served

            workspace = open_workspace(config, Uploads(folder), verifier, encoder=encoder)
            page = build_page(workspace)
        address = stack.enter_context(
            served(
                page,
                workspace,
                host=config.host,
                port=config.port,
                accounts=accounts,
                private=[config.auth_file] if config.auth_file else [],
                max_megabytes=config.max_upload,
            )
        )
        port = address.rstrip("/").rpartition(":")[2]
        elsewhere = "" if is_loopback(config.host) else f", and for other machines at port {port} of this one"
        with suppress(KeyboardInterrupt):
            print(f"The page is at {address}{elsewhere} (Ctrl-C stops it)", flush=True)
            threading.Event().wait()
        print("The page is closed.", flush=True)
    return EXIT_DONE


@contextmanager
def without_garbage_collection() -> Iterator[None]:
    """Do not search for garbage in this context: imports make little, and the search takes a sixth of the start."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def check_folders(config: PageConfig) -> None:
    """Refuse folders of results that do not exist."""
    for folder in config.results_dir:
        if not folder.is_dir():
            raise InputError(
                f"{folder}: no such folder. Give --results_dir the folder of a comparison, or one above it."
            )


def open_workspace(
    config: PageConfig, uploads: Uploads, verifier: SpeakerVerifier, *, encoder: LazyEncoder
) -> Workspace:
    """Return what the page works on, from the flags."""
    from encoders import encoder_from_spec
    from web import Workspace, find_classifiers

    load = partial(
        encoder_from_spec, verifier.encoder, config.encoder_weights, config.device, precision=config.precision
    )
    speech = config if config.vad else replace(config, vad=True)
    return Workspace(
        store_path=config.store,
        verifier=verifier,
        encoder=encoder,
        make_speech_encoder=partial(load, speech_detection=speech.speech_detection()),
        classifiers=find_classifiers(config.results_dir),
        results=config.results_dir,
        timeline=dict(TIMELINE),
        timeline_of_speech=dict(TIMELINE_OF_SPEECH),
        max_seconds=60 * config.max_minutes,
        uploads=uploads,
        device=config.device,
    )


@contextmanager
def building(encoder: LazyEncoder) -> Iterator[None]:
    """Build an encoder in a thread, before the first recording arrives; a call that needs it shows an error."""

    def build() -> None:
        try:
            import matplotlib  # noqa: F401  # by Gradio, at the first call

            _ = encoder.encoder
        except InputError as error:
            print(f"ERROR {error}", flush=True)

    thread = threading.Thread(target=build, daemon=True)
    thread.start()
    try:
        yield
    finally:
        thread.join()  # PyTorch aborts a process that ends while it builds a network


if __name__ == "__main__":
    run(PageConfig, main)
