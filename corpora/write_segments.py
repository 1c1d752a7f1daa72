"""Write the segments of a meeting corpus: a manifest, and files of the segments."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

from audio import AudioError, read_audio, write_audio
from corpora.manifest import MANIFEST
from corpora.meeting_segments import MeetingSegment
from files import OutputError, PathLike, Record, read_csv, track, write_csv

AudioFormat = Literal["wav", "flac"]
# Sampling rate of the files of segments (Hz).
SAMPLE_RATE = 16_000
# List of the files that were cut into a folder, with what each was cut from.
CUTS = "segments.csv"
# Number of segments that are given to the threads at a time: a list of all would be larger than the corpus.
BATCH = 1000


def write_manifest(
    folder: PathLike, segments: Sequence[MeetingSegment], audio_format: AudioFormat | None = None
) -> Path:
    """Write a manifest of one or more segments into a folder, and return its path.

    Parameters
    ----------
    folder : path-like
        Paths in the manifest are relative to it.
    segments : sequence of MeetingSegment
    audio_format : {"wav", "flac"}, optional
        Format of the files that `cut_segments` wrote into the folder, which are listed then; by default the parts of
        the recordings are listed.

    Raises
    ------
    OutputError
        The manifest cannot be written.
    """
    folder = Path(folder)
    rows: list[Record] = [
        {
            "path": _relative(each.path, folder) if audio_format is None else f"{each.name}.{audio_format}",
            "speaker": each.speaker,
            "session": each.session,
            **(_span(each) if audio_format is None else dict.fromkeys(("start", "duration", "channel"))),
            "name": each.name,
        }
        for each in segments
    ]
    return write_csv(folder / MANIFEST, rows)


def cut_segments(
    folder: PathLike, segments: Sequence[MeetingSegment], audio_format: AudioFormat = "wav", *, progress: bool = True
) -> dict[str, str]:
    """Cut segments into 16 kHz mono files of 16 bits, in threads.

    Each file is complete or does not exist, so an interrupted run can be repeated: a file that was cut from the same
    part of the same recording is not cut again. `segments.csv` in the folder lists what each file was cut from.

    Parameters
    ----------
    folder : path-like
        Folder for the files, ``<name>.wav`` or ``<name>.flac``.
    segments : sequence of MeetingSegment
    audio_format : {"wav", "flac"}
    progress : bool
        Whether to show the progress.

    Returns
    -------
    dict
        Segments that could not be cut: name -> why.

    Raises
    ------
    OutputError
        A file cannot be written, or exists and is not one that this function cut.
    """
    folder = Path(folder)
    cuts = {f"{each.name}.{audio_format}": _cut_row(each, folder, audio_format) for each in segments}
    waiting = _prepare(folder, cuts)
    todo = [each for each in segments if f"{each.name}.{audio_format}" in waiting]

    def cut(each: MeetingSegment) -> str | None:
        return _cut(each, folder / f"{each.name}.{audio_format}")

    reasons = track(_in_threads(cut, todo), "Cutting segments", len(todo), unit="segment", visible=progress)
    return {each.name: reason for each, reason in zip(todo, reasons, strict=True) if reason is not None}


def _prepare(folder: Path, cuts: Mapping[str, Record]) -> set[str]:
    """Return the files that are still to be cut, and write down what they will be cut from.

    Files that were cut from something else are removed first, so that each file is what the list says at any moment.
    """
    for left in folder.glob(".*.tmp"):  # by a run that was killed
        if left.name[1:].rsplit(".", 2)[0] in cuts:
            left.unlink(missing_ok=True)
    before = {row["file"]: row for row in read_csv(folder / CUTS)}
    waiting = set()
    for name, row in cuts.items():
        if (folder / name).exists():
            if name not in before:
                raise OutputError(
                    f"{folder / name}: this file exists, and {CUTS} does not list it as a segment. Give another "
                    "--output_dir, or remove the file."
                )
            if before[name] == row:
                continue
            (folder / name).unlink()
        waiting.add(name)
    write_csv(folder / CUTS, list({**before, **cuts}.values()))
    return waiting


def _cut_row(segment: MeetingSegment, folder: Path, audio_format: AudioFormat) -> Record:
    """Return what a file is cut from, in the form in which `read_csv` returns it."""
    status = os.stat(segment.path)
    row = {
        "file": f"{segment.name}.{audio_format}",
        "source": _relative(segment.path, folder),
        **_span(segment),
        "source_bytes": status.st_size,
        "source_mtime_ns": status.st_mtime_ns,
    }
    return {key: "" if value is None else str(value) for key, value in row.items()}


def _cut(segment: MeetingSegment, path: Path) -> str | None:
    """Cut a segment into a file; return why it cannot be used, or None."""
    try:
        waveform = read_audio(
            segment.path, SAMPLE_RATE, segment.start, duration=segment.duration, channel=segment.channel
        )
    except AudioError as error:
        return str(error)
    write_audio(path, waveform, SAMPLE_RATE)
    return None


def _in_threads(
    cut: Callable[[MeetingSegment], str | None], segments: Sequence[MeetingSegment]
) -> Iterator[str | None]:
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # decoding and resampling release the interpreter lock
        for first in range(0, len(segments), BATCH):
            yield from pool.map(cut, segments[first : first + BATCH])


def _span(segment: MeetingSegment) -> Record:
    """Return the part of the recording, as columns of a manifest."""
    return {"start": round(segment.start, 6), "duration": round(segment.duration, 6), "channel": segment.channel}


def _relative(path: Path, folder: Path) -> str:
    """Return a path relative to a folder, both without links in their folders; absolute on another drive."""
    target = Path(os.path.realpath(path.parent)) / path.name
    try:
        return Path(os.path.relpath(target, os.path.realpath(folder))).as_posix()
    except ValueError:
        return target.as_posix()
