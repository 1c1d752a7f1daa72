"""What is enrolled: the line at the top of the page, the first steps, and the list of speakers."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import Any

import gradio

from corpora import Utterance, find_recordings
from files import count_of
from verification import Enrolled, Recording, describe_errors
from web.elements import paragraph, player, table, text
from web.events import SHORT
from web.workspace import Workspace, refused

SAMPLE = Path(__file__).resolve().parents[1] / "sample"
# Voices of the sample that are enrolled, and recordings to identify: two of these voices, and another one.
SAMPLE_SPEAKERS, N_RECORDINGS = ("9001", "9002", "9004"), 3
SAMPLE_RECORDINGS = ("9001_1.flac", "9004_2.flac", "9006_1.flac")
# Maximum number of speakers in the list.
MAX_LISTED = 1000
STEPS = (
    "<b>Enrol</b>: give each person a name and a few recordings, by microphone or as files.",
    "<b>Who is it?</b> Give other recordings: the page names the most similar person, or answers 'unknown speaker'.",
    "<b>Who spoke when?</b> Give a long recording: the page shows when each enrolled person speaks.",
)


class Overview:
    """The components that show what is enrolled, and the events that keep them up to date.

    Parameters
    ----------
    workspace : Workspace
    """

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        # Other tabs than that of the list change it too, so its components exist before the tabs.
        self.top, self.steps = (gradio.HTML(elem_id=name, render=False) for name in ("top", "steps"))
        self.listed, self.recordings = (
            gradio.HTML(elem_id=name, render=False) for name in ("speakers", "speaker-recordings")
        )
        self.chosen = gradio.Dropdown([], label="Speaker", elem_id="chosen-speaker", min_width=240, render=False)
        self.recording = gradio.Dropdown([], label="Recording", elem_id="chosen-recording", min_width=240, render=False)
        # Names of the uploads of this page, by the digests of their files.
        self.kept = gradio.State({}, time_to_live=3600, render=False)

    def add_top(self) -> None:
        """Add the heading, and the first steps that are shown while nobody is enrolled."""
        self.top.render()
        self.steps.render()

    def add_sample(self, files: gradio.File) -> None:
        """Add the buttons that enrol voices of the sample, and that put others into the files to identify."""
        if not SAMPLE.is_dir():
            return
        with gradio.Accordion("Try it with the synthetic voices of the sample", open=False):
            gradio.HTML(paragraph("They are no real people, and easier to distinguish than real voices.", "faint"))
            with gradio.Row():
                enrol = gradio.Button("Enrol three voices", elem_id="enrol-sample", size="sm")
                ask = gradio.Button("Take recordings of these and of another one", elem_id="ask-sample", size="sm")
        enrolled = enrol.click(self._enrol_sample, api_visibility="private", concurrency_id=SHORT)
        self.after(enrolled.then)
        ask.click(self._sample_recordings, None, files, api_visibility="private")

    def _enrol_sample(self) -> None:
        folders = [SAMPLE / "LibriSpeech" / "synthetic" / name for name in SAMPLE_SPEAKERS]
        utterances = [
            Utterance(path, f"sample {folder.name}", "")
            for folder in folders
            for path in find_recordings([folder])[:N_RECORDINGS]
        ]
        with self.workspace.call([]), self.workspace.store() as store:
            self.workspace.load_encoder()
            rows = list(store.verifier.embed(utterances, self.workspace.encoder))
            recordings = store.with_known_digests([Recording.of(row) for row in rows])
            owners = store.owners(recordings)
            voices: dict[str, list[Recording]] = {}
            for row, recording, owner in zip(rows, recordings, owners, strict=True):
                if owner is None:
                    named = replace(recording, path=row.utterance.path.name)
                    voices.setdefault(row.utterance.speaker, []).append(named)
            store.enroll_speakers(voices.items(), existing="add")
        names = ", ".join(sorted(set(voices) | {owner for owner in owners if owner}))
        gradio.Info(f"{'Enrolled' if voices else 'Enrolled already'}: {escape(names)}")

    def _sample_recordings(self) -> list[str]:
        return [str(self.workspace.uploads.add(SAMPLE / "held_out" / name)) for name in SAMPLE_RECORDINGS]

    def add_list(self) -> None:
        """Add the list of speakers, with the recordings of the chosen one, which can be removed one by one."""
        self.kept.render()
        self.listed.render()
        with gradio.Column(elem_id="manage"):
            with gradio.Row():
                self.chosen.render()
                self.recording.render()
            self.recordings.render()
            with gradio.Row():
                remove_one = gradio.Button("Remove this recording", size="sm", elem_id="remove-recording")
                remove = gradio.Button("Remove this speaker", variant="stop", size="sm", elem_id="remove-speaker")
        self.chosen.change(
            self._recordings_of,
            [self.chosen, self.kept],
            [self.recordings, self.recording],
            api_visibility="private",
        )
        one = remove_one.click(
            self._remove_recording,
            [self.chosen, self.recording],
            None,
            js="(...values) => voxprobe.begin(values)",
            api_visibility="private",
            concurrency_id=SHORT,
        )
        every = remove.click(
            self._remove,
            self.chosen,
            None,
            js="(name) => voxprobe.confirm(name)",
            api_visibility="private",
            concurrency_id=SHORT,
        )
        for removed in (one, every):  # after an error, the list may be that of another time
            self.after(removed.success)
            self.after(removed.failure)

    def after(self, trigger: Callable[..., Any], answer: gradio.JSON | None = None) -> None:
        """Show what is enrolled after an event.

        Parameters
        ----------
        trigger : callable
            Method of the event: ``then``, ``success`` or ``failure``.
        answer : gradio.JSON, optional
            That of `enrol`, whose speaker is chosen then.
        """
        if answer is not None:
            trigger = trigger(self._keep, [answer, self.kept], self.kept, api_visibility="private", queue=False).then
        listed = trigger(
            self._state if answer is None else self._state_with,
            self.chosen if answer is None else answer,
            [self.top, self.steps, self.listed, self.chosen],
            api_visibility="private",
        )
        listed.then(
            self._recordings_of,
            [self.chosen, self.kept],
            [self.recordings, self.recording],
            api_visibility="private",
        )

    @staticmethod
    def _keep(answer: dict[str, Any], kept: dict[str, str]) -> dict[str, str]:
        return kept | {line["digest"]: line["upload"] for line in answer["recordings"] if line["digest"]}

    def _state_with(self, answer: dict[str, Any]) -> tuple[str, str, str, Any]:
        return self._state(answer["name"])

    def _state(self, chosen: str | None) -> tuple[str, str, str, Any]:
        with self.workspace.call([]):
            speakers = self.workspace.speakers()
        names = [speaker.name for speaker in speakers]
        choice = gradio.Dropdown(names, value=chosen if chosen in names else next(iter(names), None))
        return self._top(speakers), self._steps(speakers), _speakers_html(speakers), choice

    def _top(self, speakers: Sequence[Enrolled]) -> str:
        verifier = self.workspace.verifier
        found = f"{self.workspace.store_path.name}: {count_of(len(speakers), 'enrolled speaker')}"
        about = f"encoder {verifier.encoder.get('name')}, backend {verifier.backend.name}"
        errors = describe_errors(verifier.training)
        worth = (
            f"{errors} Other recordings can have more errors."
            if errors
            else "The errors of this verifier are not known."
        )
        rise = "With more enrolled speakers, the threshold for an unknown speaker is higher, and so is the best score."
        details = paragraph(f"{worth} {rise}", "faint")
        details = f"<details><summary>How reliable are the answers?</summary>{details}</details>"
        return f"<h1>Voxprobe</h1>{paragraph(f'{found}; {about}.')}{details}"

    def _steps(self, speakers: Sequence[Enrolled]) -> str:
        steps = "".join(f"<li>{step}</li>" for step in STEPS)
        return "" if speakers else f"<h2>Nobody is enrolled yet</h2><ol>{steps}</ol>"

    def _recordings_of(self, name: str | None, kept: dict[str, str]) -> tuple[str, Any]:
        recordings = []
        with self.workspace.call([]):
            if name and self.workspace.store_path.exists():
                with self.workspace.store() as store:
                    if name in {speaker.name for speaker in store.speakers()}:
                        recordings = store.recordings(name)
        rows = []
        for recording in recordings:
            key = kept.get(recording.digest.hex())
            played = "" if key is None else player(key, recording.path)
            rows.append([text(Path(recording.path).name), f"{recording.seconds:.1f}", played])
        # A recording that a script enrolled has the path that was given; only the name of the file is shown.
        names = [(Path(recording.path).name, recording.path) for recording in recordings]
        drawn = table([f"recording of {name}", "seconds", ""], rows) if rows else ""
        return drawn, gradio.Dropdown(names, value=names[0][1] if names else None)

    def _remove_recording(self, name: str | None, recording: str | None) -> None:
        with self.workspace.call([]), self.workspace.store() as store:
            if len(store.recordings(str(name))) == 1:
                raise refused(f"This is the only recording of {name}. Press 'Remove this speaker' instead.")
            store.remove_recording(str(name), str(recording))
        gradio.Info(f"The recording of {escape(str(name))} was removed.")

    def _remove(self, name: str | None) -> None:
        if name is None:  # not confirmed
            return
        with self.workspace.call([]), self.workspace.store() as store:
            store.remove(str(name))
        gradio.Info(f"{escape(str(name))} was removed.")


def _speakers_html(speakers: Sequence[Enrolled]) -> str:
    """Draw the list of all speakers."""
    if not speakers:
        return ""
    rows = [
        [text(each.name), str(each.n_recordings), f"{each.seconds:.1f}", text(each.changed)]
        for each in speakers[:MAX_LISTED]
    ]
    listed = table(["speaker", "recordings", "seconds", "last changed (UTC)"], rows)
    more = paragraph(f"The first {MAX_LISTED} are listed.", "faint") if len(speakers) > MAX_LISTED else ""
    return f'<h2>{count_of(len(speakers), "enrolled speaker")}</h2><div class="scrolled">{listed}</div>{more}'
