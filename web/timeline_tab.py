"""The tab "Who spoke when?": the turns of enrolled speakers in a long recording."""

from typing import Any

import gradio
import numpy as np

from audio import measure_envelope, span_seconds
from files import observe_progress
from verification import Turn, find_turns, to_csv, to_rttm
from web.elements import notes, paragraph
from web.events import LONG, connect
from web.recordings import Upload, one_long_recording, refusal
from web.timeline_view import timeline_html, waveform_points
from web.workspace import Workspace, refused


def find_timeline(
    workspace: Workspace, upload: Upload | None, *, p_known: float, vad: bool, progress: gradio.Progress
) -> dict[str, Any]:
    """Find who speaks when in a recording, as the command identify --timeline does.

    Parameters
    ----------
    workspace : Workspace
    upload : Upload or None
        The recording.
    p_known : float
        Prior probability that a speaker is enrolled.
    vad : bool
        Whether to find the speech first, and to leave out everything else.
    progress : gradio.Progress
        Shows the progress.

    Returns
    -------
    dict
        ``file``, ``upload``, ``seconds``; ``turns``, a list of dicts with ``start``, ``end`` (seconds), ``speaker`` and
        ``probability``; ``rttm`` and ``csv``, the contents of these files; ``envelope``, the lowest and highest sample
        of each of some equal parts; ``warnings``.
    """
    with workspace.call([] if upload is None else [upload]) as call:
        if upload is None:
            raise refused("There is no recording. Choose a file.")
        reason = refusal(upload, workspace.max_seconds)
        if reason is not None:
            raise refused(f"{upload.name}: {reason}.")
        seconds = span_seconds(upload.path)
        with workspace.enrolled_store() as store, observe_progress(_shown(progress)):
            encoder = workspace.speech_encoder() if vad else workspace.encoder
            settings = workspace.timeline_of_speech if "speech_detection" in encoder.spec else workspace.timeline
            turns = find_turns(store, upload.path, encoder, p_known=p_known, progress=True, **settings)
        envelope = measure_envelope(upload.path, waveform_points(seconds)).astype(np.float64).round(3) + 0.0  # no -0
        return {
            "file": upload.name,
            "upload": upload.key,
            "seconds": seconds,
            "turns": [
                {"start": turn.start, "end": turn.end, "speaker": turn.speaker, "probability": turn.probability}
                for turn in turns
            ],
            "rttm": to_rttm(turns, upload.name),
            "csv": to_csv(turns),
            "envelope": envelope.tolist(),
            "warnings": call.notes(),
        }


def _shown(progress: gradio.Progress) -> Any:
    """Return the function that shows the steps of a task in the browser."""

    def show(task: str, done: int, total: int | None) -> None:
        progress((done, total) if total else None, desc=task)

    return show


def timeline_answer_html(answer: dict[str, Any]) -> str:
    """Draw the answer of `find_timeline`."""
    turns = [Turn(**turn) for turn in answer["turns"]]
    envelope = np.array(answer["envelope"], dtype=np.float32).reshape(-1, 2)
    drawn = timeline_html(turns, envelope, answer["seconds"], name=answer["file"], upload=answer["upload"])
    return f'<section class="answer">{drawn}{notes(answer["warnings"])}</section>'


def add_timeline_tab(workspace: Workspace) -> None:
    """Add the tab to the page that is being built."""
    with gradio.Tab("Who spoke when?", id="timeline"):
        file = one_long_recording("A conversation, a meeting, an interview")
        gradio.HTML(
            paragraph(
                "Only enrolled speakers are named. With speech detection, pauses and other sounds belong to nobody.",
                "faint",
            )
        )
        p_known = gradio.Slider(
            0.01,
            0.99,
            0.5,
            step=0.01,
            label="Prior probability that a speaker is enrolled",
            info="If all speakers of the recording are enrolled, 0.99 names more of them.",
        )
        vad = gradio.Checkbox(True, label="Find the speech first (silero-vad)")
        button = gradio.Button("Find who spoke when", variant="primary", elem_id="timeline-button")
        answer, drawn = gradio.JSON(visible=False), gradio.HTML(elem_id="timeline-answer")

    def who_spoke_when(
        file: Upload | None,
        p_known: float,
        vad: bool,
        progress: gradio.Progress = gradio.Progress(),  # noqa: B008
    ) -> dict[str, Any]:
        """Find who speaks when in a recording."""
        return find_timeline(workspace, file, p_known=p_known, vad=vad, progress=progress)

    connect(
        button,
        who_spoke_when,
        inputs=[file, p_known, vad],
        answer=answer,
        draw=timeline_answer_html,
        drawn=drawn,
        recordings=[file],
        api_name="timeline",
        precondition=workspace.check_not_empty,
        queue=LONG,
    )
