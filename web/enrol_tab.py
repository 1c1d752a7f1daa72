"""The tab "Enrol": check recordings of a speaker, and store what is needed to identify the speaker."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import gradio

from corpora import Utterance
from files import count_of, normal_form
from verification import (
    CheckedRecording,
    Recording,
    SpeakerStore,
    check_name,
    check_recordings,
)
from web.elements import notes, paragraph, player, table, text
from web.events import SHORT, connect
from web.overview import Overview
from web.recordings import Upload, refusal, several_recordings, unique_names
from web.workspace import Workspace, refused

# Number of recordings from which on the page gives no advice to enrol more.
ADVISED = 3
# Sentences with all vowels and consonants of English, in everyday words.
READING = (
    "This morning the old ferry left the harbour twenty minutes late. A boy in a yellow coat watched the shore go by, "
    "while his father bought two cups of tea and some toast. They talked about the weather, the church on the hill and "
    "the noise of the engine. Just before noon, we saw a pleasure boat turn round and vanish in the fog."
)
STORED = (
    "For each recording, the store keeps its name, its length, a digest of the file and one vector of "
    "{dim} numbers; the audio itself is deleted on this machine as soon as it has been checked. Vectors are biometric "
    "data: enrol only people who agree. Removing a speaker erases the vectors from the file."
)


@dataclass(frozen=True)
class Doubtful:
    """Recordings of a speaker that have warnings, and are not enrolled unless the user confirms it."""

    name: str
    recordings: tuple[Recording, ...] = ()


def enrol(
    workspace: Workspace, name: str, uploads: Sequence[Upload], *, keep_doubtful: bool
) -> tuple[dict[str, Any], Doubtful]:
    """Check recordings of a speaker, and enrol the speaker with those that have no fault.

    Parameters
    ----------
    workspace : Workspace
    name : str
        Name of the speaker; a speaker who is enrolled already gets further recordings.
    uploads : sequence of Upload
        The recordings.
    keep_doubtful : bool
        Whether to enrol recordings with warnings too. Those with errors are never enrolled.

    Returns
    -------
    dict
        ``name``; ``n_enrolled``; ``recordings``, a list of dicts with ``file``, ``upload``, ``digest``, ``seconds``,
        ``enrolled``, ``error`` and ``warnings``; ``warnings``.
    Doubtful
        The recordings with warnings, if they are not enrolled.
    """
    name = normal_form(name)
    with workspace.call(uploads) as call:
        _check_given(name)
        if not uploads:
            raise refused("There is no recording. Record something, or choose one or more files.")
        reasons = [refusal(upload) for upload in uploads]
        used = [upload for upload, reason in zip(uploads, reasons, strict=True) if reason is None]
        with workspace.store() as store:
            workspace.load_encoder()
            utterances = [Utterance(upload.path, name, "") for upload in used]
            rows = list(store.verifier.embed(utterances, workspace.encoder))
            detector = workspace.speech_detector()
            warnings = call.notes()  # those of the checks, which embed halves of the same recordings, repeat them
            checked = iter(check_recordings(store, name, rows, encoder=workspace.encoder, detector=detector))
            lines: list[dict[str, Any]] = []
            good: list[Recording] = []
            doubtful: list[Recording] = []
            for upload, reason, stored in zip(uploads, reasons, _names(store, name, uploads), strict=True):
                each = next(checked) if reason is None else None
                line = _plain(upload, each, reason)
                lines.append(line)
                if each is None or line["error"] is not None:
                    continue
                recording = replace(Recording.of(each.row), path=stored)
                line["digest"] = recording.digest.hex()
                line["enrolled"] = keep_doubtful or not each.warnings
                (good if line["enrolled"] else doubtful).append(recording)
            n_enrolled = store.enroll(name, good, existing="add") if good else 0
            n_recordings = len(store.recordings(name)) if good else 0
        for line in lines:
            line["warnings"] = list(map(call.with_names, line["warnings"]))
            line["error"] = line["error"] and call.with_names(line["error"])
        if 0 < n_recordings < ADVISED:
            have = count_of(n_recordings, "recording")
            warnings.append(f"{name} has {have} now; with {ADVISED} or more, the answers are more reliable.")
        answer = {"name": name, "n_enrolled": n_enrolled, "recordings": lines, "warnings": warnings}
        return answer, Doubtful(name, tuple(doubtful))


def _check_given(name: str) -> None:
    """Raise an error if a speaker cannot have a name."""
    if not name:
        raise refused("Give the speaker a name.")
    check_name(name)


def _names(store: SpeakerStore, name: str, uploads: Sequence[Upload]) -> list[str]:
    """Return the names that the recordings have in the store; each recording of a speaker has another one."""
    enrolled = {speaker.name for speaker in store.speakers()}
    taken = [recording.path for recording in store.recordings(name)] if name in enrolled else []
    return unique_names(uploads, taken)


def _plain(upload: Upload, checked: CheckedRecording | None, reason: str | None) -> dict[str, Any]:
    """Return the result for a recording as plain values."""
    return {
        "file": upload.name,
        "upload": upload.key,
        "digest": None,
        "seconds": None if checked is None or checked.row.vector is None else round(checked.row.seconds, 2),
        "enrolled": False,
        "error": reason if checked is None else checked.error,
        "warnings": [] if checked is None else list(checked.warnings),
    }


def enrolled_html(answer: dict[str, Any]) -> str:
    """Draw the answer of `enrol`."""
    rows = []
    for recording in answer["recordings"]:
        file = f'<div class="file">{text(recording["file"])}</div>{player(recording["upload"], recording["file"])}'
        seconds = "" if recording["seconds"] is None else f"{recording['seconds']:.1f} s"
        state = "enrolled" if recording["enrolled"] else "not enrolled"
        remarks = [recording["error"]] if recording["error"] else recording["warnings"]
        kind = "good" if recording["enrolled"] and not remarks else "error" if recording["error"] else "doubtful"
        rows.append([file, seconds, f'<b class="{kind}">{state}</b>{notes(remarks)}'])
    count = count_of(answer["n_enrolled"], "recording")
    headline = f"{count} of {answer['name']} enrolled" if answer["n_enrolled"] else "Nothing was enrolled"
    listed = table(["recording", "length", "result"], rows)
    return f'<section class="answer"><h2>{text(headline)}</h2>{listed}{notes(answer["warnings"])}</section>'


def add_enrol_tab(workspace: Workspace, overview: Overview) -> None:
    """Add the tab to the page that is being built."""
    with gradio.Tab("Enrol", id="enrol") as tab:
        name = gradio.Textbox(label="Name of the speaker", max_lines=1, elem_id="speaker-name")
        files = several_recordings("Recordings of this speaker: three or more of 3 s")
        with gradio.Accordion("A text to read aloud", open=False):
            gradio.HTML(paragraph(READING))
        keep_doubtful = gradio.Checkbox(False, label="Also enrol recordings with warnings")
        button = gradio.Button("Check and enrol", variant="primary", elem_id="enrol-button")
        answer, drawn = gradio.JSON(visible=False), gradio.HTML(elem_id="enrolled")
        confirm = gradio.Button("Enrol the recordings with warnings too", visible=False, elem_id="confirm-button")
        doubtful = gradio.State(Doubtful(""), time_to_live=3600)
        gradio.HTML(paragraph(STORED.format(dim=workspace.verifier.encoder["dim"]), "faint"))
        overview.add_list()

    def enrol_speaker(name: str | None, files: list[Upload], keep_doubtful: bool) -> tuple[dict[str, Any], Doubtful]:
        """Check recordings of a speaker, and enrol the speaker with those that have no fault."""
        return enrol(workspace, (name or "").strip(), files, keep_doubtful=keep_doubtful)

    def confirm_doubtful(doubtful: Doubtful, answer: dict[str, Any]) -> tuple[dict[str, Any], Doubtful]:
        with workspace.call([]), workspace.store() as store:
            added = store.enroll(doubtful.name, doubtful.recordings, existing="add")
        digests = {recording.digest.hex() for recording in doubtful.recordings}
        lines = [{**line, "enrolled": line["enrolled"] or line["digest"] in digests} for line in answer["recordings"]]
        return {**answer, "n_enrolled": answer["n_enrolled"] + added, "recordings": lines}, Doubtful("")

    def show_confirm(doubtful: Doubtful) -> Any:
        return gradio.Button(visible=bool(doubtful.recordings))

    def check(name: str | None) -> None:
        with workspace.call([]):
            _check_given((name or "").strip())

    shown = connect(
        button,
        enrol_speaker,
        inputs=[name, files, keep_doubtful],
        answer=[answer, doubtful],
        draw=enrolled_html,
        drawn=drawn,
        recordings=[files],
        api_name="enrol",
        precondition=check,
        checked=[name],
    )
    shown.then(show_confirm, doubtful, confirm, api_visibility="private", queue=False)
    shown.then(None, None, keep_doubtful, js="() => false", api_visibility="private")  # it holds for one enrolment
    overview.after(shown.then, answer)
    confirmed = confirm.click(
        confirm_doubtful, [doubtful, answer], [answer, doubtful], api_visibility="private", concurrency_id=SHORT
    )
    redrawn = confirmed.success(enrolled_html, answer, drawn, api_visibility="private", queue=False)
    overview.after(tab.select(None, None, None, api_visibility="private").then)  # others may have changed the store
    redrawn.then(show_confirm, doubtful, confirm, api_visibility="private", queue=False)
    overview.after(redrawn.then, answer)
