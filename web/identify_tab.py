"""The tab "Who is it?": the most similar enrolled speakers of recordings, or a classifier's answer."""

import math
from collections.abc import Sequence
from typing import Any

import gradio

from files import UNKNOWN, count_of
from heads import Prediction
from web.elements import bar, notes, paragraph, player, table, text
from web.events import connect
from web.overview import Overview
from web.recordings import Upload, refusal, several_recordings
from web.workspace import Workspace, refused

# Maximum number of speakers in an answer.
TOP_K = 5
# Choice of the enrolled speakers, instead of a classifier.
ENROLLED = "enrolled speakers"


def identify(
    workspace: Workspace, uploads: Sequence[Upload], *, against: str, p_known: float, reject: bool
) -> dict[str, Any]:
    """Identify the speakers of recordings, as the scripts do, and return the answer as plain values.

    Parameters
    ----------
    workspace : Workspace
    uploads : sequence of Upload
        The recordings.
    against : str
        `ENROLLED`, or the name of a classifier.
    p_known : float
        Prior probability that the speaker is enrolled.
    reject : bool
        Whether a classifier may reject a recording as of an unknown speaker.

    Returns
    -------
    dict
        ``recordings``, a list of dicts with ``file``, ``upload``, ``predictions`` (``speaker``, ``probability``),
        ``score``, ``threshold`` and ``error``; ``against``; ``warnings``.
    """
    with workspace.call(uploads) as call:
        if not uploads:
            raise refused("There is no recording. Record something, or choose one or more files.")
        reasons = [refusal(upload) for upload in uploads]
        used = [upload for upload, reason in zip(uploads, reasons, strict=True) if reason is None]
        found = iter(_predict(workspace, used, against, p_known=p_known, reject=reject) if used else ())
        predictions = [
            next(found) if reason is None else Prediction(upload.path, error=reason)
            for upload, reason in zip(uploads, reasons, strict=True)
        ]
        recordings = [
            {**_plain(prediction), "file": upload.name, "upload": upload.key}
            for upload, prediction in zip(uploads, predictions, strict=True)
        ]
        return {"recordings": recordings, "against": against, "warnings": call.notes()}


def _predict(
    workspace: Workspace, uploads: Sequence[Upload], against: str, *, p_known: float, reject: bool
) -> list[Prediction]:
    paths = [upload.path for upload in uploads]
    if against != ENROLLED:
        classifier, encoder = workspace.classifier(against)
        return classifier.predict(paths, TOP_K, encoder=encoder, device=workspace.device, reject=reject)
    with workspace.enrolled_store() as store:
        workspace.load_encoder()
        return store.identify_files(paths, workspace.encoder, top_k=TOP_K, p_known=p_known)


def _plain(prediction: Prediction) -> dict[str, Any]:
    """Return a prediction as plain values; a probability that is not known is None."""
    pairs = zip(prediction.speakers, prediction.probabilities, strict=True)
    return {
        "predictions": [
            {"speaker": speaker, "probability": None if math.isnan(probability) else probability}
            for speaker, probability in pairs
        ],
        "score": prediction.score,
        "threshold": prediction.threshold,
        "error": prediction.error,
    }


def identified_html(answer: dict[str, Any]) -> str:
    """Draw the answer of `identify`."""
    recordings = answer["recordings"]
    drawn = _one(recordings[0]) if len(recordings) == 1 else _several(recordings)
    return f'<section class="answer">{drawn}{notes(answer["warnings"])}</section>'


def _headline(recording: dict[str, Any]) -> str:
    best = recording["predictions"][0]["speaker"]
    return "Unknown speaker" if best == UNKNOWN else str(best)


def _reason(recording: dict[str, Any]) -> str:
    """Describe how far the most similar speaker is from the threshold."""
    score, threshold = recording["score"], recording["threshold"]
    speakers = [each["speaker"] for each in recording["predictions"] if each["speaker"] != UNKNOWN]
    if score is None or threshold is None:  # the answer of a classifier
        is_rejected = bool(speakers) and len(speakers) < len(recording["predictions"])
        return f"{speakers[0]} is the most similar, but not similar enough." if is_rejected else ""
    side = "above" if score >= threshold else "below"
    name = speakers[0] if speakers else "the most similar speaker"
    return (
        f"The score of {name} is {score:+.2f}, {abs(score - threshold):.2f} {side} the threshold of {threshold:+.2f} "
        "(log-likelihood ratios)."
    )


def _bars(recording: dict[str, Any], count: int) -> str:
    bars = "".join(bar(each["speaker"], each["probability"]) for each in recording["predictions"][:count])
    return f'<div class="bars">{bars}</div>'


def _file(recording: dict[str, Any]) -> str:
    return f'<div class="file">{text(recording["file"])}</div>{player(recording["upload"], recording["file"])}'


def _one(recording: dict[str, Any]) -> str:
    if recording["error"]:
        return f"{paragraph(recording['error'], 'error')}{_file(recording)}"
    return (
        f"<h2>{text(_headline(recording))}</h2>{_bars(recording, TOP_K)}{paragraph(_reason(recording), 'faint')}"
        f"{_file(recording)}"
    )


def _several(recordings: Sequence[dict[str, Any]]) -> str:
    rows = []
    for recording in recordings:
        if recording["error"]:
            rows.append([_file(recording), "", paragraph(recording["error"], "error")])
            continue
        details = f"{_bars(recording, 3)}{paragraph(_reason(recording), 'faint')}"
        rows.append([_file(recording), f"<b>{text(_headline(recording))}</b>", details])
    failed = sum(recording["error"] is not None for recording in recordings)
    caption = count_of(len(recordings), "recording") + (f", {failed} not usable" if failed else "")
    return f"<h2>{text(caption)}</h2>{table(['recording', 'speaker', 'probabilities'], rows)}"


def add_identify_tab(workspace: Workspace, overview: Overview) -> None:
    """Add the tab to the page that is being built."""
    with gradio.Tab("Who is it?", id="identify"):
        files = several_recordings("Recordings to identify")
        with gradio.Accordion("Settings", open=False):
            against = gradio.Dropdown(
                [ENROLLED, *workspace.classifiers],
                value=ENROLLED,
                label="Compare with",
                info="The enrolled speakers, or a classifier that was trained with speaker_recognition_librispeech.py.",
            )
            p_known = gradio.Slider(
                0.01,
                0.99,
                0.5,
                step=0.01,
                label="Prior probability that the speaker is enrolled",
                info="A lower value answers 'unknown' for more recordings.",
            )
            reject = gradio.Checkbox(False, label="The classifier may answer 'unknown'", visible=False)
        button = gradio.Button("Identify", variant="primary", elem_id="identify-button")
        answer, drawn = gradio.JSON(visible=False), gradio.HTML(elem_id="identified")
        overview.add_sample(files)

    def settings_of(against: str) -> tuple[Any, Any]:
        is_enrolled = against == ENROLLED
        return gradio.Slider(visible=is_enrolled), gradio.Checkbox(visible=not is_enrolled)

    against.change(settings_of, against, [p_known, reject], api_visibility="private", queue=False)

    def identify_speakers(files: list[Upload], against: str, p_known: float, reject: bool) -> dict[str, Any]:
        """Identify the speaker of each recording among the enrolled speakers, or by a classifier."""
        return identify(workspace, files, against=against, p_known=p_known, reject=reject)

    def check(against: str) -> None:
        if against == ENROLLED:
            workspace.check_not_empty()

    connect(
        button,
        identify_speakers,
        inputs=[files, against, p_known, reject],
        answer=answer,
        draw=identified_html,
        drawn=drawn,
        recordings=[files],
        api_name="identify",
        precondition=check,
        checked=[against],
    )
