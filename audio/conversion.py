"""How to convert recordings that are not decoded."""

from pathlib import Path

# Suffixes of recordings and films that libsndfile does not decode. PyAV, which is FFmpeg, decodes most of them.
FOREIGN_SUFFIXES = frozenset(
    {".m4a", ".m4b", ".m4r", ".aac", ".mp4", ".m4v", ".mov", ".qt", ".3gp", ".3gpp", ".3g2", ".3ga", ".amr", ".awb"}
    | {".wma", ".wmv", ".asf", ".webm", ".weba", ".mka", ".mkv", ".avi", ".flv", ".mpg", ".mpeg", ".spx", ".wv"}
    | {".ape", ".ac3", ".eac3", ".dts", ".tta", ".tak", ".mpc", ".ra", ".rm", ".qcp", ".dss", ".ds2", ".shn", ".dsf"}
    | {".dff", ".g729"}
)
# Options of FFmpeg for files without a header, whose rate and encoding are not in the file, by suffix.
HEADERLESS = {
    ".raw": "-f s16le -ar RATE -ac 1",
    ".pcm": "-f s16le -ar RATE -ac 1",
    ".sln": "-f s16le -ar 8000 -ac 1",
    ".gsm": "-f gsm -ar 8000",
    ".ul": "-f mulaw -ar 8000 -ac 1",
    ".ulaw": "-f mulaw -ar 8000 -ac 1",
    ".al": "-f alaw -ar 8000 -ac 1",
    ".alaw": "-f alaw -ar 8000 -ac 1",
    ".g722": "-f g722",
    ".vox": "",
}
# Commands of other programs, for what FFmpeg does not decode.
OTHER_COMMANDS = {".vox": "sox -t vox -r 8000 x.vox x.wav", ".sph": "sph2pipe -f wav x.sph x.wav"}


def unknown_format_advice(path: Path) -> str:
    """Return what to do with a file that neither libsndfile nor PyAV decodes.

    Examples
    --------
    >>> unknown_format_advice(Path("ann/call.m4a"))
    'if another program plays it, convert it to WAV or FLAC with that program'
    >>> unknown_format_advice(Path("ann/call.gsm")) == conversion_advice(Path("ann/call.gsm"))
    True
    """
    if path.suffix.lower() in HEADERLESS.keys() | OTHER_COMMANDS.keys():
        return conversion_advice(path)
    return "if another program plays it, convert it to WAV or FLAC with that program"


def conversion_advice(path: Path) -> str:
    """Return how to convert a file that libsndfile does not decode: a command that fits its suffix.

    Examples
    --------
    >>> conversion_advice(Path("ann/call.AMR"))
    'convert it to WAV or FLAC: ffmpeg -i x.amr x.wav'
    >>> conversion_advice(Path("ann/call.gsm"))[-46:]
    'or FLAC: ffmpeg -f gsm -ar 8000 -i x.gsm x.wav'
    """
    suffix = path.suffix.lower()
    name = suffix if suffix in FOREIGN_SUFFIXES or suffix in HEADERLESS else path.suffix
    source, target = f"x{name}", "y.wav" if suffix == ".wav" else "x.wav"
    options = HEADERLESS.get(suffix, "")
    command = OTHER_COMMANDS.get(suffix) or " ".join(filter(None, ["ffmpeg", options, "-i", source, target]))
    advice = f"convert it to WAV or FLAC: {command}"
    if suffix not in HEADERLESS:
        return advice
    rate = ", where RATE is its sampling rate in Hz" if "RATE" in command else ""
    return f"a {suffix} file has no header, so that you must know its encoding and rate; {advice}{rate}"
