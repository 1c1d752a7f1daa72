"""Write the page that shows who speaks when in a recording."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from audio import measure_envelope, span_seconds
from files import PathLike, Record, count_of, format_percent, write_atomically
from heads import UNKNOWN
from reports.html_page import html_page
from reports.page import Pictures, downloads_section, heading, paragraph, provenance_section, section, table
from reports.timeline_pictures import PANEL_POINTS, clock, draw_timeline, panel_bounds
from verification import Turn, speaking_time, turns_by_speaker

# Maximum number of turns in the table of the page; the CSV file has all.
MAX_ROWS = 1000


def write_timeline_page(
    path: PathLike, recording: PathLike, turns: Sequence[Turn], *, about: Record, channel: int | None = None
) -> Path:
    """Write a page with the waveform of a recording, the turns below it, and tables; return its path.

    Parameters
    ----------
    path : path-like
        The page. It links the ``.rttm`` and ``.csv`` files of the same name, if they exist.
    recording : path-like
        Audio file.
    turns : sequence of Turn
        Turns in order of time.
    about : dict
        ``command``, ``versions`` and ``created``, for the section about the origin of the results; and ``settings``,
        values by name, if they are to be listed.
    channel : int, optional
        Number of the channel that is drawn, from 0; None is the mean of all.

    Raises
    ------
    AudioError
        The recording cannot be read.
    OutputError
        The page cannot be written.
    """
    path, recording = Path(path), Path(recording)
    seconds = span_seconds(recording, channel=channel)
    panels = panel_bounds(seconds)
    n_points = round(PANEL_POINTS * seconds / (panels[0][1] - panels[0][0]))
    envelope = measure_envelope(recording, n_points, channel)
    pictures = Pictures(path.parent, ())  # the page alone has the picture
    figure, titles = draw_timeline(turns, envelope, seconds)
    caption = "Waveform, and the turns of each speaker. The time is in minutes and seconds."
    tables = {
        path.with_suffix(".rttm").name: "the turns of enrolled speakers",
        path.with_suffix(".csv").name: "all turns, with probabilities",
    }
    parts = [
        heading(timeline_title(recording.name, turns, seconds)),
        pictures.add("timeline", figure, caption=caption, titles=titles),
        *_speakers_section(turns, seconds),
        *_turns_section(turns),
        downloads_section(pictures, tables),
        *_settings_section(about.get("settings", {})),
        provenance_section(about),
    ]
    page = html_page(f"{recording.name}: speakers", parts)
    # Names of speakers and files may not be valid Unicode.
    return write_atomically(path, lambda file: file.write(page.encode("utf-8", "backslashreplace")))


def timeline_title(name: str, turns: Sequence[Turn], seconds: float) -> str:
    """Return a title in plain text: the name of the recording, the number of enrolled speakers, and the length."""
    names = {turn.speaker for turn in turns} - {UNKNOWN}
    found = count_of(len(names), "enrolled speaker") if turns else "no speech"
    return f"{name}: {found} in {clock(seconds)}"


def _speakers_section(turns: Sequence[Turn], seconds: float) -> list[str]:
    """Make the section with the time that each speaker speaks."""
    if not turns:
        return []
    own = turns_by_speaker(turns)
    lines = []
    for speaker, of_speaker in own.items():
        count, total = len(of_speaker), speaking_time(of_speaker)
        figures = [(f"{total:.1f}", total), (format_percent(total / seconds), total / seconds)]
        longest = max(turn.end - turn.start for turn in of_speaker)
        lines.append([speaker, (str(count), count), *figures, (f"{longest:.1f}", longest)])
    listed = table(["speaker", "turns", "seconds", "% of recording", "longest turn (s)"], lines)
    note = paragraph("Turns of unknown speakers may be of several people.", "faint") if UNKNOWN in own else ""
    return [section("Speakers", listed, note)]


def _turns_section(turns: Sequence[Turn]) -> list[str]:
    """Make the section that lists the turns."""
    if not turns:
        return []
    has_labels = any(turn.label for turn in turns)
    lines = []
    for turn in turns[:MAX_ROWS]:
        times = [(clock(second, 2), second) for second in (turn.start, turn.end)]
        length = turn.end - turn.start
        figures = [(f"{length:.2f}", length), (format_percent(turn.probability), turn.probability)]
        lines.append([turn.speaker, *times, *figures, *([turn.label] if has_labels else [])])
    header = ["speaker", "from", "to", "seconds", "probability (%)", *(["label"] if has_labels else [])]
    listed = table(header, lines, text=(0, 5))
    note = paragraph(f"The first {MAX_ROWS} turns are listed.", "faint") if len(turns) > MAX_ROWS else ""
    return [section("Turns", listed, note)]


def _settings_section(settings: Mapping[str, str]) -> list[str]:
    """Make the section that lists how the turns were found."""
    lines = [list(each) for each in settings.items()]
    return [section("Settings", table(["setting", "value"], lines, text=(0, 1)))] if lines else []
