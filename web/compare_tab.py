"""The tab "Same speaker?": whether two recordings are of one speaker."""

from dataclasses import asdict
from typing import Any

import gradio

from reports import score_histogram_svg
from verification import describe_errors
from web.elements import notes, paragraph, player, text
from web.events import connect
from web.recordings import Upload, one_recording, refusal
from web.workspace import Workspace, refused

HEADLINES = {"same": "The same speaker", "different": "Two different speakers", "unsure": "Not decided"}


def compare(workspace: Workspace, first: Upload | None, second: Upload | None, *, p_target: float) -> dict[str, Any]:
    """Decide whether two recordings are of one speaker, as the command verify does.

    Parameters
    ----------
    workspace : Workspace
    first, second : Upload or None
        The recordings.
    p_target : float
        Prior probability that the speaker is the same.

    Returns
    -------
    dict
        ``score``, ``llr``, ``probability``, ``same`` and ``same_audio`` of the `Verdict`; ``decision``; ``sentence``;
        ``files`` and ``uploads`` of the two recordings; ``warnings``.
    """
    uploads = [upload for upload in (first, second) if upload is not None]
    with workspace.call(uploads) as call:
        if first is None or second is None:
            raise refused("Give two recordings: record something, or choose a file, on both sides.")
        for upload in uploads:
            reason = refusal(upload)
            if reason is not None:
                raise refused(f"{upload.name}: {reason}.")
        workspace.load_encoder()
        found = workspace.verifier.verify(first.path, second.path, p_target=p_target, encoder=workspace.encoder)
        return {
            **asdict(found),
            "decision": found.decision,
            "sentence": found.describe(p_target),
            "files": [upload.name for upload in uploads],
            "uploads": [upload.key for upload in uploads],
            "warnings": call.notes(),
        }


def compared_html(workspace: Workspace, answer: dict[str, Any]) -> str:
    """Draw the answer of `compare`."""
    headline = "The same recording" if answer["same_audio"] else HEADLINES[answer["decision"]]
    players = "".join(
        f'<div><div class="file">{text(name)}</div>{player(key, name)}</div>'
        for name, key in zip(answer["files"], answer["uploads"], strict=True)
    )
    ratio = f"Log-likelihood ratio {answer['llr']:+.2f} (score {answer['score']:.4f})."
    sentence = paragraph(_capitalised(answer["sentence"]))
    histogram = workspace.verifier.score_histogram
    place = paragraph("The file of the verifier has no histogram of the pairs that calibrated it.", "faint")
    if histogram is not None:
        place = f"{paragraph(histogram.describe(answer['llr']))}{score_histogram_svg(histogram, answer['llr'])}"
    errors = describe_errors(workspace.verifier.training)
    worth = paragraph(f"{errors} Other recordings can have more errors.", "faint") if errors else ""
    return (
        f'<section class="answer"><h2>{text(headline)}</h2>{sentence}{paragraph(ratio)}'
        f'<div class="pair">{players}</div>{place}{worth}{notes(answer["warnings"])}</section>'
    )


def _capitalised(sentence: str) -> str:
    return f"{sentence[:1].upper()}{sentence[1:]}."


def add_compare_tab(workspace: Workspace) -> None:
    """Add the tab to the page that is being built."""
    with gradio.Tab("Same speaker?", id="compare"):
        with gradio.Row():
            first, second = one_recording("First recording"), one_recording("Second recording")
        p_target = gradio.Slider(
            0.01,
            0.99,
            0.5,
            step=0.01,
            label="Prior probability that the speaker is the same",
            info="How probable it is before the recordings are compared.",
        )
        button = gradio.Button("Compare", variant="primary", elem_id="compare-button")
        answer, drawn = gradio.JSON(visible=False), gradio.HTML(elem_id="compared")

    def compare_speakers(first: Upload | None, second: Upload | None, p_target: float) -> dict[str, Any]:
        """Decide whether two recordings are of the same speaker."""
        return compare(workspace, first, second, p_target=p_target)

    def draw(answer: dict[str, Any]) -> str:
        return compared_html(workspace, answer)

    connect(
        button,
        compare_speakers,
        inputs=[first, second, p_target],
        answer=answer,
        draw=draw,
        drawn=drawn,
        recordings=[first, second],
        api_name="compare",
    )
