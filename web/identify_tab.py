"""The tab "Who is it?": the most similar enrolled speakers of recordings, or a classifier's answer."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio

from files import UNKNOWN, count_of
from heads import Prediction
from web.elements import bar, notes, paragraph, player, table, text
from web.events import connect
from web.recordings import given_paths, recording_files, recording_input, refusal
from web.workspace import Workspace

# Maximum number of speakers in an answer.
TOP_K = 5
# Choice of the enrolled speakers, instead of a classifier.
ENROLLED = "enrolled speakers"


def identify(
    workspace: Workspace, paths: Sequence[Path], *, against: str, p_known: float, reject: bool
) -> dict[str, Any]:
    """Identify the speakers of recordings, as the scripts do, and return the answer as plain values.

    Parameters
    ----------
    workspace : Workspace
    paths : sequence of Path
        Uploaded recordings.
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
    with workspace.call(paths) as warnings:
        if not paths:
            raise gradio.Error("Record something, or choose one or more files.", print_exception=False)
        refused = {path: reason for path in paths if (reason := refusal(path)) is not None}
        predictions = {path: Prediction(path, error=reason) for path, reason in refused.items()}
        used = [path for path in paths if path not in refused]
        if used:
            found = _predict(workspace, used, against, p_known=p_known, reject=reject)
            predictions |= dict(zip(used, found, strict=True))
        recordings = [_record(workspace, predictions[path]) for path in paths]
    return {"recordings": recordings, "against": against, "warnings": warnings}


def _predict(
    workspace: Workspace, paths: Sequence[Path], against: str, *, p_known: float, reject: bool
) -> list[Prediction]:
    if against != ENROLLED:
        classifier, encoder = workspace.classifier(against)
        return classifier.predict(paths, TOP_K, encoder=encoder, device=workspace.device, reject=reject)
    with workspace.enrolled_store() as store:
        workspace.load_encoder()
        return store.identify_files(paths, workspace.encoder, top_k=TOP_K, p_known=p_known)


def _record(workspace: Workspace, prediction: Prediction) -> dict[str, Any]:
    """Return a prediction as plain values; a probability that is not known is None."""
    pairs = zip(prediction.speakers, prediction.probabilities, strict=True)
    return {
        "file": prediction.path.name,
        "upload": workspace.uploads.key(prediction.path),
        "predictions": [
            {"speaker": speaker, "probability": None if math.isnan(probability) else probability}
            for speaker, probability in pairs
        ],
        "score": prediction.score,
        "threshold": prediction.threshold,
        "error": prediction.error and workspace.uploads.without_folders(prediction.error),
    }


def identified_html(answer: dict[str, Any]) -> str:
    """Draw the answer of `identify`."""
    recordings = answer["recordings"]
    drawn = _one(recordings[0]) if len(recordings) == 1 else _several(recordings)
    return f'<section class="answer" aria-live="polite">{drawn}{notes(answer["warnings"])}</section>'


def _headline(recording: dict[str, Any]) -> str:
    best = recording["predictions"][0]["speaker"]
    return "Unknown speaker" if best == UNKNOWN else best


def _reason(recording: dict[str, Any]) -> str:
    """Describe how far the most similar speaker is from the threshold."""
    score, threshold = recording["score"], recording["threshold"]
    if score is None or threshold is None:
        return ""
    speakers = [each["speaker"] for each in recording["predictions"] if each["speaker"] != UNKNOWN]
    side = "above" if score >= threshold else "below"
    name = speakers[0] if speakers else "the most similar speaker"
    return (
        f"The score of {name} is {score:+.2f}, which is {abs(score - threshold):.2f} {side} the threshold "
        f"({threshold:+.2f}, log-likelihood ratio)."
    )


def _one(recording: dict[str, Any]) -> str:
    file = f'<p class="file">{text(recording["file"])} {player(recording["upload"], recording["file"])}</p>'
    if recording["error"]:
        return f"{file}{paragraph(recording['error'], 'error')}"
    bars = "".join(bar(each["speaker"], each["probability"]) for each in recording["predictions"])
    return f"<h3>{text(_headline(recording))}</h3>{paragraph(_reason(recording))}<div class='bars'>{bars}</div>{file}"


def _several(recordings: Sequence[dict[str, Any]]) -> str:
    rows = []
    for recording in recordings:
        file = f'<span class="file">{text(recording["file"])}</span>{player(recording["upload"], recording["file"])}'
        if recording["error"]:
            rows.append([file, "", paragraph(recording["error"], "error")])
            continue
        bars = "".join(bar(each["speaker"], each["probability"]) for each in recording["predictions"][:3])
        rows.append([file, f"<b>{text(_headline(recording))}</b>", f"{bars}{paragraph(_reason(recording), 'faint')}"])
    failed = sum(recording["error"] is not None for recording in recordings)
    caption = f"{count_of(len(recordings), 'recording')}" + (f", {failed} not usable" if failed else "")
    return f"<h3>{text(caption)}</h3>{table(['recording', 'speaker', 'probabilities'], rows)}"


def add_identify_tab(workspace: Workspace) -> None:
    """Add the tab to the page that is being built."""
    choices = [ENROLLED, *workspace.classifiers]
    with gradio.Tab("Who is it?", id="identify"):
        with gradio.Row():
            files = recording_files("Recordings")
            recorded = recording_input("Microphone", ["microphone"])
        with gradio.Accordion("Settings", open=False):
            against = gradio.Dropdown(
                choices, value=ENROLLED, label="Compare with", info="The enrolled speakers, or a trained classifier."
            )
            p_known = gradio.Slider(
                0.01, 0.99, 0.5, step=0.01, label="Probability that the speaker is enrolled, before listening",
                info="A lower value reports unknown for more recordings.",
            )  # fmt: skip
            reject = gradio.Checkbox(False, label="A classifier may answer: unknown speaker")
        button = gradio.Button("Identify", variant="primary", elem_id="identify")
        answer, drawn = gradio.JSON(visible=False), gradio.HTML()

    def run(
        files: list[str], recorded: str | None, against: str, p_known: float, reject: bool
    ) -> dict[str, Any]:
        paths = given_paths(files, recorded)
        return identify(workspace, paths, against=against, p_known=p_known, reject=reject)

    run.__doc__ = "Identify the speaker of each recording among the enrolled speakers, or by a classifier."
    connect(
        button,
        run,
        inputs=[files, recorded, against, p_known, reject],
        answer=answer,
        draw=identified_html,
        drawn=drawn,
        recordings=[files, recorded],
        api_name="identify",
    )
