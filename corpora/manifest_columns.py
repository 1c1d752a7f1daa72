"""Find the columns of a manifest by the names that people and other programs give them."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from corpora.scan import SUFFIXES

# Each column, and other names of it, without case, spaces and other characters between words. The first name counts.
NAMES: Mapping[str, Sequence[str]] = {
    "path": (
        "path", "file", "filename", "filepath", "audio", "audiopath", "audiofile", "audiofilepath", "wav", "wavpath",
        "wavfile",
    ),
    "speaker": ("speaker", "speakerid", "speakername", "spk", "spkid", "spkr", "clientid"),
    "session": ("session", "sessionid", "sessionname"),
    "start": ("start", "starttime", "begin", "begintime", "onset"),
    "duration": ("duration", "dur"),
    "end": ("end", "endtime", "stop", "stoptime", "finish", "finishtime"),
    "split": ("split",),
    "channel": ("channel", "channelid", "channelnumber", "chan"),
    "name": ("name", "segmentname", "segmentid"),
}  # fmt: skip
TIMES = ("start", "duration", "end")
# NeMo's offset is the start of a segment; beside a column for the start, an offset is its end.
OFFSET = "offset"
TIME_NAMES = frozenset(name for column in TIMES for name in NAMES[column]) | {OFFSET}
# Words before the name of a time that say what it is the time of.
PREFIXES = ("segment", "seg", "utterance", "utt")
# Names that are times only beside another one: alone, a length can be that of the file, and "from" can be a place.
PAIRED: Mapping[str, tuple[str, Sequence[str]]] = {
    "from": ("start", ("to", "end", "duration", "length")),
    "to": ("end", ("from", "start")),
    "length": ("duration", ("from", "start")),
}
# Names and words that are probably those of a time, but of which it is not clear.
PROBABLE: Mapping[str, Sequence[str]] = {
    "start": ("start", "starts", "begin", "begins", "beginning", "onset", "from", "t0", "tmin", "xmin"),
    "end": ("end", "ends", "ending", "stop", "stops", "finish", "to", "t1", "tmax", "xmax"),
}
# Units that may follow the name of a time (seconds), and units that need the sampling rate.
UNITS = {
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), 1.0),
    **dict.fromkeys(("ms", "msec", "millisecond", "milliseconds"), 1e-3),
}
COUNTED_UNITS = ("sample", "samples", "frame", "frames")


@dataclass(frozen=True)
class Columns:
    """Places of the columns of a manifest.

    Attributes
    ----------
    header : sequence of str
        Names of all columns in the file; empty if it has no header.
    places : dict
        Place of each column of `NAMES` that the file has.
    units : dict
        Unit of the times in each column of times (seconds).
    problem : str or None
        Reason why the columns cannot be used.
    """

    header: Sequence[str]
    places: Mapping[str, int]
    units: Mapping[str, float]
    problem: str | None = None

    @property
    def are_complete(self) -> bool:
        """Whether there are columns for the path and the speaker."""
        return {"path", "speaker"} <= self.places.keys()

    @property
    def unused(self) -> list[int]:
        """Places of the columns that are not used."""
        return [place for place in range(len(self.header)) if place not in self.places.values()]

    def probable_time(self, place: int) -> str | None:
        """Return the column of times that one that is not used probably is, if the file has no other for it."""
        words, key = _words(self.header[place]), _key(self.header[place])
        near = get_close_matches(key, TIME_NAMES, n=1, cutoff=0.85)
        for column in TIMES:
            is_near = bool(near) and near[0] in NAMES[column]
            if is_near or not {*words, key}.isdisjoint(PROBABLE.get(column, ())):
                taken = {column} if column == "start" else {"duration", "end"}
                return None if taken & self.places.keys() else column
        return None

    def describe(self, places: Sequence[int]) -> str:
        """Return the names of some columns, with the column that each is probably meant to be."""
        parts = []
        for place in places:
            name = self.header[place]
            near = get_close_matches(_key(name), NAMES, n=1)
            advice = f" (perhaps you meant {near[0]!r})" if near and near[0] not in self.places else ""
            parts.append((repr(name) if name else f"number {place + 1}, without a name") + advice)
        return ", ".join(parts)


def find_columns(header: Sequence[str]) -> Columns:
    """Find the columns of a manifest in its header."""
    keys = [_key(name) for name in header]
    places: dict[str, int] = {}
    for column, names in NAMES.items():
        found = [keys.index(name) for name in names if name in keys]
        if found:
            places[column] = found[0]
    if OFFSET in keys and (column := "end" if "start" in places else "start") not in places:
        places[column] = keys.index(OFFSET)
    for name, (column, others) in PAIRED.items():
        if name in keys and column not in places and (places.keys() | set(keys)) & set(others):
            places[column] = keys.index(name)
    units = {column: _unit(header[place]) for column, place in places.items() if column in TIMES}
    return Columns(header, places, units, problem=_problem(header, keys, places))


def columns_without_header(rows: Sequence[Sequence[str]]) -> Columns | None:
    """Return the columns of a table without a header: of two, the one with all the names of audio files is the path.

    Returns None if the table has other columns, or it is not clear which is the path.
    """
    if not rows or any(len(row) != 2 or not all(row) for row in rows):
        return None
    paths = [place for place in (0, 1) if all(_is_audio(row[place]) for row in rows)]
    if len(paths) != 1 or any(_is_audio(row[1 - paths[0]]) for row in rows):
        return None
    return Columns((), {"path": paths[0], "speaker": 1 - paths[0]}, units={})


def _words(name: str) -> list[str]:
    """Return the words of a name, such as ``start`` and ``time`` of ``startTime``."""
    apart = re.sub(r"(?<=[^\W\d_A-Z])(?=[A-Z])", " ", name)
    return re.findall(r"[^\W_]+", apart.casefold())


def _key(name: str) -> str:
    """Return a name without case, characters between words, and what is beside the name of a time."""
    return _read_name(name)[0]


def _unit(name: str) -> float:
    return _read_name(name)[1]


def _read_name(name: str) -> tuple[str, float]:
    """Return the key of a name, and the unit that follows it if it is that of a time (otherwise 1)."""
    words = _words(name)
    joined = "".join(words)
    inner = "".join(words[1:]) if words[:1] and words[0] in PREFIXES else joined
    for unit, seconds in UNITS.items():
        is_unit = unit in words[1:][-1:] or len(unit) > 1  # "starts" is another word, "startsec" is not
        base = inner.removesuffix(unit)
        if is_unit and base != inner and base in {*TIME_NAMES, *PAIRED}:
            return base, seconds
    return (inner if inner in {*TIME_NAMES, *PAIRED} else joined), 1.0


def _problem(header: Sequence[str], keys: Sequence[str], places: Mapping[str, int]) -> str | None:
    """Return what a header has that must not be left out: a column twice, or times in another unit."""
    counts = Counter(keys)
    for place in places.values():
        if counts[keys[place]] > 1:
            same = [repr(name) for name, key in zip(header, keys, strict=True) if key == keys[place]]
            return f"the columns {' and '.join(same)} have the same meaning; keep one of them"
    for column in TIMES:
        others = [name for name, (meaning, _) in PAIRED.items() if meaning == column]
        units = {f"{name}{unit}" for name in (*NAMES[column], *others, OFFSET) for unit in COUNTED_UNITS}
        units |= {f"{prefix}{name}" for prefix in PREFIXES for name in units}
        counted = next((name for name, key in zip(header, keys, strict=True) if key in units), None)
        if counted is not None and column not in places:
            return f"the column {counted!r} counts samples or frames; give a column {column!r} in seconds"
    return None


def _is_audio(cell: str) -> bool:
    return cell.casefold().endswith(tuple(SUFFIXES))
