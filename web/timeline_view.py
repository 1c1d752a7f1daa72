"""The timeline of a recording: a player, the waveform, a row of segments for each speaker, tables and downloads."""

import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from files import format_percent, printable, safe_file_name
from heads import UNKNOWN
from reports import COLOURS, clock, timeline_title
from verification import Turn, speaking_time, to_csv, to_rttm, turns_by_speaker

# Maximum number of turns in the table; the CSV file has all.
MAX_ROWS = 1000
# Points of the waveform: for each second, and the least and the greatest number.
POINTS_PER_SECOND, MIN_POINTS, MAX_POINTS = 2, 1000, 8000
# Distances of the ticks (seconds); the shortest one is used that makes at most `TICKS_PER_MINUTE`, or `MIN_TICKS`.
TICK_SECONDS = (0.1, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600)
TICKS_PER_MINUTE, MIN_TICKS = 1, 5
UNKNOWN_COLOUR = "var(--timeline-unknown)"


def waveform_points(seconds: float) -> int:
    """Return the number of points of the envelope for the waveform of a recording of this length (seconds)."""
    return min(max(round(POINTS_PER_SECOND * seconds), MIN_POINTS), MAX_POINTS)


def timeline_html(
    turns: Sequence[Turn], envelope: NDArray[np.float32], seconds: float, *, name: str, upload: str
) -> str:
    """Return the timeline of a recording as HTML, for a page with ``timeline.css`` and ``timeline.js``.

    Names are escaped. The result is valid Unicode, whatever they contain.

    Parameters
    ----------
    turns : sequence of Turn
        Turns in order of time.
    envelope : ndarray (points, 2)
        Lowest and highest samples of equal parts of the recording; `waveform_points` is their number.
    seconds : float
        Length of the recording (seconds).
    name : str
        File name of the recording.
    upload : str
        Key of the uploaded file, by which the page finds the audio for the player.
    """
    title = f'<h2 class="timeline-title"><bdi>{_text(timeline_title(name, turns, seconds))}</bdi></h2>\n'
    player = (
        f'<audio controls preload="metadata" data-upload="{_text(upload)}" aria-label="Recording"></audio>\n'
        '<p class="timeline-note" role="status"></p>\n'
    )
    if turns:
        colours = _colours(turns)
        parts = [
            _tools(),
            _drawing(turns, envelope, seconds, colours=colours),
            _totals_table(turns, seconds, colours),
            _downloads(turns, name),
            _turns_table(turns, colours),
        ]
    else:
        parts = ['<p class="timeline-none">No speech was found in this recording.</p>\n']
    body = "".join([title, player, *parts])
    return f'<div class="timeline" data-seconds="{seconds:.3f}">\n{body}</div>\n'


def _text(text: str) -> str:
    """Return plain text for HTML, also inside quotes, without characters that are invisible or not valid Unicode."""
    return escape(printable(text))


def _colours(turns: Sequence[Turn]) -> dict[str, str]:
    """Return the colour of each speaker, in order of speaking time, unknown last."""
    colours = {speaker: COLOURS[place % len(COLOURS)] for place, speaker in enumerate(turns_by_speaker(turns))}
    return colours | ({UNKNOWN: UNKNOWN_COLOUR} if UNKNOWN in colours else {})


def _tools() -> str:
    return (
        '<div class="timeline-tools"><span>Press a segment to play it, and again to pause.</span>'
        '<button type="button" class="timeline-zoom" data-zoom="0.5" aria-label="Zoom out">\N{MINUS SIGN}</button>'
        '<button type="button" class="timeline-zoom" data-zoom="2" aria-label="Zoom in">+</button></div>\n'
    )


def _drawing(
    turns: Sequence[Turn], envelope: NDArray[np.float32], seconds: float, *, colours: Mapping[str, str]
) -> str:
    """Make the box with the waveform, a row for each speaker, and the time axis; its width grows with the length."""
    rows = [_row("waveform", "", _waveform(envelope))]
    places = {id(turn): place for place, turn in enumerate(turns)}
    for speaker, own in turns_by_speaker(turns).items():
        # The first segment of a row is in the tab order; arrow keys move to the others.
        segments = [_segment(turn, seconds, place=places[id(turn)], is_first=turn is own[0]) for turn in own]
        rows.append(_row("speaker", speaker, "".join(segments), colour=colours[speaker]))
    rows.append(_row("axis", "", _ticks(seconds)))
    return (
        f'<div class="timeline-scroll" role="group" aria-label="Timeline">\n'
        f'<div class="timeline-inner" style="--minutes: {seconds / 60:.3f}">\n{"".join(rows)}'
        '<div class="timeline-overlay"><div class="timeline-playhead" style="left: 0%"></div></div>\n</div>\n</div>\n'
    )


def _row(kind: str, speaker: str, lane: str, *, colour: str = "") -> str:
    """Make a row: its label, which stays visible when the box is scrolled, and its lane."""
    label, group = "", ""
    if speaker:
        label = f"{_swatch(colour)}<bdi>{_text(speaker)}</bdi>"
        group = f' role="group" aria-label="{_text(speaker)}" style="--colour: {colour}"'
    title = f' title="{_text(speaker)}"' if speaker else ""
    return (
        f'<div class="timeline-row timeline-{kind}"{group}><div class="timeline-label"{title}>{label}</div>'
        f'<div class="timeline-lane">{lane}</div></div>\n'
    )


def _swatch(colour: str) -> str:
    return f'<span class="timeline-swatch" style="background: {colour}"></span>'


def _waveform(envelope: NDArray[np.float32]) -> str:
    """Draw the envelope as one path, at a scale at which its peak fills the height."""
    if not len(envelope):
        return ""
    scale = 100 / max(float(np.abs(envelope).max()), 1e-9)
    low, high = (np.rint(-scale * envelope[:, side]).astype(int).tolist() for side in (0, 1))
    there = [f"{place} {value}" for place, value in enumerate(high)]
    back = [f"{place} {low[place]}" for place in reversed(range(len(low)))]
    return (
        f'<svg viewBox="-0.5 -100 {len(low)} 200" preserveAspectRatio="none" aria-hidden="true">'
        f'<path d="M{"L".join([*there, *back])}Z"/></svg>'
    )


def _segment(turn: Turn, seconds: float, *, place: int, is_first: bool) -> str:
    """Make the button of a turn, placed by its times."""
    left, right = (100 * min(max(second / max(seconds, 1e-9), 0.0), 1.0) for second in (turn.start, turn.end))
    label = _text(_description(turn))
    return (
        f'<button type="button" class="timeline-segment" {_play_data(turn, place)} tabindex="{0 if is_first else -1}" '
        f'style="left: {left:.4f}%; width: {max(right - left, 0):.4f}%" title="{label}" aria-label="{label}"></button>'
    )


def _play_data(turn: Turn, place: int) -> str:
    """Return the attributes of a button that plays a turn."""
    return f'data-start="{turn.start:.3f}" data-end="{turn.end:.3f}" data-turn="{place}" aria-pressed="false"'


def _description(turn: Turn) -> str:
    """Describe a turn in plain text."""
    share = "" if math.isnan(turn.probability) else f", {format_percent(turn.probability, 0)} %"
    return f"{turn.speaker}, {clock(turn.start, 1)} to {clock(turn.end, 1)}{share}"


def _ticks(seconds: float) -> str:
    """Draw the time axis; there is no tick so near to the end that its text would not fit."""
    limit = max(MIN_TICKS, TICKS_PER_MINUTE * seconds / 60)
    step = next((each for each in TICK_SECONDS if seconds <= limit * each), seconds / MIN_TICKS)
    times = [number * step for number in range(max(round(seconds / step), 1))]
    digits = 1 if step < 1 else 0
    return "".join(
        f'<span class="timeline-tick" style="left: {100 * time / max(seconds, 1e-9):.4f}%">{clock(time, digits)}</span>'
        for time in times
    )


def _totals_table(turns: Sequence[Turn], seconds: float, colours: Mapping[str, str]) -> str:
    """Make the table of the time that each speaker speaks."""
    rows = []
    for speaker, own in turns_by_speaker(turns).items():
        total = speaking_time(own)
        share = total / seconds
        bar = f'<span style="width: {min(100 * share, 100):.1f}%; background: {colours[speaker]}"></span>'
        shown = f'<span class="timeline-share" aria-hidden="true">{bar}</span><span>{format_percent(share)}</span>'
        rows.append([_speaker_cell(speaker, colours), str(len(own)), f"{total:.1f}", shown])
    note = ""
    if UNKNOWN in colours:
        note = '<p class="timeline-faint">Turns of unknown speakers may be of several people.</p>\n'
    return _table("Speakers", ["speaker", "turns", "seconds", "% of recording"], rows, kind="totals") + note


def _turns_table(turns: Sequence[Turn], colours: Mapping[str, str]) -> str:
    """Make the table of the turns, with a button that plays each."""
    rows = []
    for place, turn in enumerate(turns[:MAX_ROWS]):
        label = _text(f"Play {_description(turn)}")
        button = f'<button type="button" class="timeline-play" {_play_data(turn, place)} aria-label="{label}"></button>'
        times = [clock(turn.start, 1), clock(turn.end, 1), f"{turn.end - turn.start:.1f}"]
        speaker = _speaker_cell(turn.speaker, colours)
        rows.append([f"{button}{speaker}", *times, format_percent(turn.probability)])
    note = ""
    if len(turns) > MAX_ROWS:
        note = f'<p class="timeline-faint">The first {MAX_ROWS:,} turns are listed; the CSV file has all.</p>\n'
    return _table("Turns", ["speaker", "from", "to", "seconds", "probability (%)"], rows, kind="turns") + note


def _speaker_cell(speaker: str, colours: Mapping[str, str]) -> str:
    return f'{_swatch(colours[speaker])}<bdi title="{_text(speaker)}">{_text(speaker)}</bdi>'


def _table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]], *, kind: str) -> str:
    """Make a table from cells in HTML, of which the first of a row is its speaker; a long table has a box that scrolls.

    The box can be scrolled by keyboard.
    """
    head = "".join(f'<th scope="col">{escape(each)}</th>' for each in header)
    lines = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>\n" for row in rows)
    return (
        f'<div class="timeline-table timeline-{kind}" role="region" aria-label="{title}" tabindex="0"><table>'
        f"<caption>{title}</caption><thead><tr>{head}</tr></thead>\n<tbody>\n{lines}</tbody></table></div>\n"
    )


def _downloads(turns: Sequence[Turn], name: str) -> str:
    """Make the links of both files, which are in the links themselves: nothing is kept on the server."""
    stem = safe_file_name(printable(Path(name).stem)) or "timeline"
    links = []
    for suffix, text, kind in ((".rttm", to_rttm(turns, name), "text/plain"), (".csv", to_csv(turns), "text/csv")):
        href = f"data:{kind};charset=utf-8,{quote(_encoded(text), safe='')}"
        links.append(f'<a download="{_text(stem)}{suffix}" href="{href}">{suffix[1:].upper()}</a>')
    return f'<p class="timeline-downloads">Download the turns: {" ".join(links)}</p>\n'


def _encoded(text: str) -> bytes:
    """Encode a file as `write_turns` does, and in UTF-8 whatever a name from the network contains."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace")
