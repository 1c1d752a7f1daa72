"""Make the sample corpus: twelve synthetic voices in LibriSpeech's layout, and a folder of held-out recordings.

The script needs the Debian packages in ``sample/README.md``. The same package versions give the same bytes.
"""

import argparse
import random
import shutil
import subprocess
import tempfile
from dataclasses import KW_ONLY, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile as sf  # type: ignore[import-untyped, unused-ignore]
from scipy import signal  # type: ignore[import-untyped, unused-ignore]

Audio = npt.NDArray[np.float64]
Samples = npt.NDArray[np.int16]

SAMPLE_RATE = 16_000
SEED = 1
SESSIONS = 3  # two chapters for training and testing, and the held-out folder
CHAPTER_SENTENCES = 5
HELD_OUT_SENTENCES = 2

PACKAGES = {"espeak-ng": "espeak-ng", "flite": "flite", "text2wave": "festival"}
FESTIVAL_PACKAGES = {"kal_diphone": "festvox-kallpc16k", "ked_diphone": "festvox-kdlpc16k"}

# Parts of the four kinds of sentences; every combination is plain English.
PARTS = {
    "who": "my sister|the old baker|our cousin|a young teacher|the night porter|the gardener|your uncle|a tall farmer",
    "did": "painted|washed|found|bought|moved|sold|borrowed|mended|noticed",
    "do": "leave|hide|keep|want|choose|forget",
    "thing": "the blue bicycle|the wooden table|the green umbrella|the kitchen clock|the leather chair|the silver lamp"
    "|the heavy basket|the yellow jacket|the garden bench|the round mirror|the empty barrel|the fishing net",
    "was": "left|found|hidden|standing|kept|seen",
    "where": "behind the chapel|beside the river|under the stairs|near the window|at the station|in the cellar"
    "|by the bridge|outside the school",
    "past": "before lunch|last winter|in the rain|on Sunday|after the storm|yesterday",
    "bring": "bring|carry|take|send|return",
    "place": "the market|the library|the front door|my office|the museum|the farm",
}
TEMPLATES = (
    "{who} {did} {thing} {past}.",
    "{thing} was {was} {where}.",
    "please {bring} {thing} to {place}.",
    "why did {who} {do} {thing}?",
)


@dataclass(frozen=True)
class Voice:
    """One speaker: program and voice of a synthesiser, and the pace of that voice (1 is its own)."""

    speaker: int
    sex: str
    _: KW_ONLY
    program: str
    name: str
    pace: float = 1.0


VOICES = (
    Voice(9001, "M", program="espeak-ng", name="en-us+m3"),
    Voice(9002, "M", program="flite", name="awb", pace=1.05),
    Voice(9003, "F", program="espeak-ng", name="en-gb-x-rp+f2"),
    Voice(9004, "M", program="text2wave", name="kal_diphone", pace=1.15),
    Voice(9005, "M", program="espeak-ng", name="en-gb-scotland+m4"),
    Voice(9006, "F", program="flite", name="slt", pace=1.15),
    Voice(9007, "M", program="espeak-ng", name="en-us+m6"),
    Voice(9008, "M", program="flite", name="rms", pace=1.35),
    Voice(9009, "F", program="espeak-ng", name="en-gb-x-rp+f5"),
    Voice(9010, "M", program="text2wave", name="ked_diphone", pace=1.15),
    Voice(9011, "F", program="espeak-ng", name="en-us+f3"),
    Voice(9012, "F", program="espeak-ng", name="en-us+f4"),
)


def make_sentences(count: int) -> list[str]:
    """Draw distinct sentences of the four kinds in turn, so that all speakers have the same mix of kinds."""
    rng = random.Random(SEED)
    sentences: list[str] = []
    while len(sentences) < count:
        words = {part: rng.choice(choices.split("|")) for part, choices in PARTS.items()}
        sentence = TEMPLATES[len(sentences) % len(TEMPLATES)].format(**words)
        if sentence not in sentences:
            sentences.append(sentence)
    return [sentence[0].upper() + sentence[1:] for sentence in sentences]


def synthesise(voice: Voice, text: str, rate: float, *, folder: Path) -> Audio:
    """Synthesise one sentence.

    Parameters
    ----------
    voice
        The voice.
    text
        The sentence.
    rate
        Speaking rate, relative to the usual one of the voice.
    folder
        An existing folder for the synthesiser's temporary files.

    Returns
    -------
    Audio
        The speech at 16 kHz, with silence at both ends removed.

    Raises
    ------
    SystemExit
        If the program or the voice is not installed.
    """
    package = FESTIVAL_PACKAGES.get(voice.name, PACKAGES[voice.program])
    if shutil.which(voice.program) is None:
        raise SystemExit(f"{voice.program} is missing: install the Debian package {PACKAGES[voice.program]}.")
    source, target = folder / "text.txt", folder / "speech.wav"
    source.write_text(text + "\n", encoding="ascii")
    target.unlink(missing_ok=True)
    pace = rate * voice.pace
    stretch = f"{1 / pace:.3f}"
    scheme = f"(begin (voice_{voice.name}) (Parameter.set 'Duration_Stretch {stretch}))"
    commands = {
        "espeak-ng": ["-v", voice.name, "-s", f"{195 * pace:.0f}", "-w", str(target), "-f", str(source)],
        "flite": ["-voice", voice.name, "--setf", f"duration_stretch={stretch}", "-f", str(source), "-o", str(target)],
        "text2wave": [str(source), "-o", str(target), "-eval", scheme],
    }
    subprocess.run([voice.program, *commands[voice.program]], check=False, capture_output=True)
    # The exit status cannot be used: festival returns 0 for an unknown voice.
    if not target.exists():
        raise SystemExit(f"{voice.program} has no voice {voice.name}: install the Debian package {package}.")
    speech, source_rate = sf.read(target, dtype="float64")
    speech = signal.resample_poly(speech, SAMPLE_RATE, source_rate)
    loud = np.flatnonzero(np.abs(speech) > 0.02 * np.abs(speech).max())
    trimmed: Audio = speech[loud[0] : loud[-1] + 1]
    return trimmed


def check_voices(folder: Path) -> None:
    """Exit if two voices give the same samples for the same sentence.

    For an unknown voice, espeak-ng and flite use their default voice without an error.
    """
    plain = [
        Voice(0, "", program=voice.program, name=voice.name.split("+")[0]) for voice in VOICES if "+" in voice.name
    ]
    defaults = [*dict.fromkeys(plain), Voice(0, "", program="flite", name="kal")]
    takes = [
        synthesise(voice, "One two three.", 1 / voice.pace, folder=folder).tobytes() for voice in (*defaults, *VOICES)
    ]
    if len(set(takes)) < len(takes):
        raise SystemExit("A synthesiser replaced a voice by its default: use the package versions in sample/README.md.")


def record(speech: Audio, session: np.random.Generator, take: np.random.Generator) -> Samples:
    """Simulate a recording: the room, the microphone and the noise of one recording day.

    Parameters
    ----------
    speech
        Clean speech.
    session
        Generator with the same seed for all takes of a day; it draws microphone, room, noise floor and loudness.
    take
        Generator with a seed for this take alone; it draws the noise samples.

    Returns
    -------
    Samples
        The recording; its peak is between 0.3 and 0.45 of full scale.
    """
    # Microphone: a tilt of the spectrum and three broad bumps or dips.
    frequency = np.geomspace(60, SAMPLE_RATE / 2, 120)
    octaves = np.log2(frequency / 1000)
    gain_db = session.uniform(-2, 2) * octaves
    for low, high in ((150, 600), (600, 2000), (2000, 6000)):
        centre = np.log2(session.uniform(low, high) / 1000)
        gain_db += session.uniform(-8, 8) * np.exp(-0.5 * ((octaves - centre) / 0.5) ** 2)
    gain = np.concatenate([[0.0], 10 ** (gain_db / 20)])
    microphone = signal.firwin2(257, np.concatenate([[0.0], frequency]), gain, fs=SAMPLE_RATE)
    # Room: the direct sound, then a short tail of decaying noise.
    time = np.arange(int(0.2 * SAMPLE_RATE)) / SAMPLE_RATE
    tail = session.standard_normal(time.size) * 10 ** (-3 * time / session.uniform(0.12, 0.35))
    tail[: int(0.002 * SAMPLE_RATE)] = 0.0
    room = tail * 10 ** (session.uniform(-12, -4) / 20) / np.sqrt(np.sum(tail**2))
    room[0] = 1.0
    padded = np.pad(speech, (int(0.1 * SAMPLE_RATE), int(0.15 * SAMPLE_RATE)))
    recorded = signal.fftconvolve(signal.fftconvolve(padded, room)[: padded.size], microphone, mode="same")
    # Noise floor: a low rumble, 30 to 45 dB under the speech.
    noise = signal.lfilter([1.0], [1.0, -0.98], take.standard_normal(recorded.size))
    recorded += noise * np.std(recorded) / np.std(noise) * 10 ** (-session.uniform(30, 45) / 20)
    recorded *= session.uniform(0.3, 0.45) / np.abs(recorded).max()
    # 14 bits are much finer than the noise floor, and two bits that are always zero shrink the FLAC files by a fifth.
    recording: Samples = 4 * np.round(recorded * 2**13).astype(np.int16)
    return recording


def check_output_dir(output_dir: Path) -> None:
    """Refuse a folder that has another LibriSpeech, whose list of speakers would be lost."""
    path = output_dir / "LibriSpeech" / "SPEAKERS.TXT"
    if path.exists() and "| synthetic " not in path.read_text(encoding="utf-8", errors="replace"):
        raise SystemExit(f"ERROR {path}: this is not the list of the sample; give another --output_dir.")


def make_sample(output_dir: Path) -> None:
    """Write the corpus and the held-out recordings into subfolders of a folder."""
    check_output_dir(output_dir)
    per_voice = 2 * CHAPTER_SENTENCES + HELD_OUT_SENTENCES
    sentences = make_sentences(per_voice * len(VOICES))
    corpus, held_out = output_dir / "LibriSpeech", output_dir / "held_out"
    speakers = [";ID  |SEX| SUBSET           |MINUTES| NAME"]
    with tempfile.TemporaryDirectory() as scratch:
        check_voices(Path(scratch))
        for voice in VOICES:
            seconds = 0.0
            for session in range(SESSIONS):
                chapter = f"{voice.speaker}{session + 1:02d}"
                folder = corpus / "synthetic" / str(voice.speaker) / chapter
                is_held_out = session == SESSIONS - 1
                lines: list[str] = []
                for number in range(HELD_OUT_SENTENCES if is_held_out else CHAPTER_SENTENCES):
                    text = sentences.pop()
                    day = np.random.default_rng([SEED, voice.speaker, session])
                    speech = synthesise(voice, text, day.uniform(0.93, 1.07), folder=Path(scratch))
                    recording = record(speech, day, np.random.default_rng([SEED, voice.speaker, session, number]))
                    name = f"{voice.speaker}-{chapter}-{number:04d}"
                    if is_held_out:
                        path = held_out / f"{voice.speaker}_{number + 1}.flac"
                    else:
                        path = folder / f"{name}.flac"
                        lines.append(f"{name} {text.strip('.?').upper()}\n")
                        seconds += recording.size / SAMPLE_RATE
                    path.parent.mkdir(parents=True, exist_ok=True)
                    sf.write(path, recording, SAMPLE_RATE, subtype="PCM_16", format="FLAC")
                if not is_held_out:
                    (folder / f"{voice.speaker}-{chapter}.trans.txt").write_text("".join(lines), encoding="ascii")
            name = f"{PACKAGES[voice.program]} {voice.name}"
            speakers.append(f"{voice.speaker:<5}| {voice.sex} | {'synthetic':<17}| {seconds / 60:<6.2f}| {name}")
    (corpus / "SPEAKERS.TXT").write_text("\n".join(speakers) + "\n", encoding="ascii")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", type=Path, default=Path(__file__).parent, help="folder for the sample")
    make_sample(parser.parse_args().output_dir)
