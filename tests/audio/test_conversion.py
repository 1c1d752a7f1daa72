"""`read_audio` of recordings that are not decoded: what to do with them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from audio import FOREIGN_SUFFIXES, HEADERLESS, AudioError

FaultOf = Callable[..., AudioError]
STARTS = {
    ".3gp": b"\0\0\0\x18ftyp3gp4",
    ".mov": b"\0\0\0\x14ftypqt  ",
    ".mka": b"\x1a\x45\xdf\xa3",
    ".wv": b"wvpk",
    ".ape": b"MAC ",
    ".ac3": b"\x0bw",
    ".spx": b"OggS\0\2" + bytes(20) + b"\1\x50Speex   ",
    ".wma": b"0&\xb2u\x8ef\xcf\x11",
}


@pytest.mark.parametrize(("suffix", "start"), STARTS.items())
def test_file_that_only_begins_as_a_recording_is_not_audio(
    suffix: str, start: bytes, fault_of: FaultOf, tmp_path: Path
) -> None:
    path = tmp_path / f"call{suffix.upper()}"
    path.write_bytes(start + bytes(range(1, 250)) * 4)
    error = fault_of(path)
    assert error.fault == "not_audio"
    assert error.reason.endswith("if another program plays it, convert it to WAV or FLAC with that program")


@pytest.mark.parametrize(
    ("suffix", "command"),
    [
        (".raw", "ffmpeg -f s16le -ar RATE -ac 1 -i x.raw x.wav, where RATE is its sampling rate in Hz"),
        (".pcm", "ffmpeg -f s16le -ar RATE -ac 1 -i x.pcm x.wav, where RATE is its sampling rate in Hz"),
        (".gsm", "ffmpeg -f gsm -ar 8000 -i x.gsm x.wav"),
        (".ulaw", "ffmpeg -f mulaw -ar 8000 -ac 1 -i x.ulaw x.wav"),
        (".vox", "sox -t vox -r 8000 x.vox x.wav"),
    ],
)
def test_file_without_a_header_needs_its_encoding_and_rate(
    suffix: str, command: str, fault_of: FaultOf, tmp_path: Path
) -> None:
    path = tmp_path / f"call{suffix}"
    path.write_bytes(bytes(range(1, 250)) * 8)
    error = fault_of(path)
    assert error.fault == "not_audio"
    assert "has no header, so that you must know its encoding and rate" in error.reason
    assert error.reason.endswith(command)


def test_each_suffix_is_listed_once() -> None:
    assert not FOREIGN_SUFFIXES & HEADERLESS.keys()
    assert {suffix.lower() for suffix in [*FOREIGN_SUFFIXES, *HEADERLESS]} == FOREIGN_SUFFIXES | HEADERLESS.keys()
