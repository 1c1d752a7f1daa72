"""Measure speech detection: which threshold suits quiet meetings and noise, its speed, and what it does to embeddings.

python benchmarks/speech_detection.py --clips ami_clips --data_dir LibriSpeech/dev-clean
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import soundfile
import torch
from numpy.typing import NDArray

from audio import SpeechDetector, SpeechSettings, read_audio
from audio.speech_segments import find_segments
from command_line import EXIT_DONE, run
from config import LogLevel, ScriptConfig
from corpora import Corpus, Utterance, load_corpus, read_rttm
from embedding import embed_utterances
from encoders import encoder_from_spec, lazy_encoder
from files import format_table
from metrics import equal_error_rate
from networks import single_thread

RATE = 16_000
STEP = 512 / RATE
THRESHOLDS = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5)
# Made recordings: level of the speech (dB of full scale), and how much lower the noise is (dB).
LEVELS, RATIOS = (-25, -50), (30, 20, 10, 5)
# Utterances in a made recording, and shortest and longest pause between two (seconds).
N_TOGETHER, PAUSES = 3, (1.0, 4.0)
# Number of recordings of each speaker that enrol them.
N_ENROLLED = 3
# Clean speech is where its level is at most this far below the loudest tenth (dB), with pauses of up to 0.3 s, as in
# the references of NIST's evaluations. Levels are those of frames of 20 ms (samples).
DEPTH, FRAME, LONGEST_GAP = 30.0, 320, 0.3

# Groups of recordings. The threshold is chosen by the mean of the training meetings and of the made recordings.
TRAINING, OTHERS, MADE = "meetings, training", "meetings, others", "made"
CHOICE = "mean of training meetings and made"

Audio = NDArray[np.float32]
Segments = list[tuple[float, float]]


@dataclass(frozen=True, kw_only=True)
class SpeechBenchmark(ScriptConfig):
    """Settings of the measurement."""

    clips: Path
    """Folder with recordings in wav/ and their RTTM files in rttm/; names of training clips begin with trn."""
    data_dir: Path
    """Corpus of clean speech."""
    max_utterances: int = 12
    """Number of utterances of each speaker that are embedded."""
    log_level: LogLevel = "error"
    """Lowest level of the messages that are logged."""


@dataclass(frozen=True)
class Marked:
    """A recording whose speech is known.

    Attributes
    ----------
    kind : str
        Group that it is counted in.
    probabilities : sequence of float
        Probability of speech of each 32 ms.
    speech : list of (float, float)
        Where somebody speaks (seconds).
    seconds : float
        Length of the recording.
    """

    kind: str
    probabilities: Sequence[float]
    speech: Segments
    seconds: float


def main(config: SpeechBenchmark) -> int:
    """Print the tables."""
    corpus = load_corpus(config.data_dir)
    detector = SpeechDetector()
    marked = [*read_clips(config.clips, detector), *make_recordings(corpus, detector)]
    groups = {kind: [each for each in marked if each.kind == kind] for kind in dict.fromkeys(e.kind for e in marked)}
    groups["meetings, all"] = [each for each in marked if each.kind in (TRAINING, OTHERS)]
    lines = []
    for threshold in THRESHOLDS:
        found = {kind: errors(each, SpeechSettings(threshold=threshold)) for kind, each in groups.items()}
        made = np.mean([wrong for kind, (_, _, wrong) in found.items() if kind.startswith(MADE)])
        lines += [[f"{threshold:g}", kind, *(f"{value:.1f}" for value in each)] for kind, each in found.items()]
        lines.append([f"{threshold:g}", CHOICE, "", "", f"{(found[TRAINING][2] + made) / 2:.1f}"])
    heading = ["threshold", "recordings", "missed % of speech", "added % of pauses", "wrong % of time"]
    print(format_table(heading, lines, "><>>>"), flush=True)
    print(describe_speed(config.clips, detector), flush=True)
    chosen = SpeechSettings().threshold
    heading = ["recordings", "pauses", "embedded", "EER %", "wrong speaker %", "seconds"]
    print(format_table(heading, list(embedding_errors(config, corpus)), "<<>>>>"))
    print(
        f"without: --vad with the threshold {chosen:g}; wrong speaker: of the recordings after the first {N_ENROLLED} "
        "of each speaker, which enrol them; seconds: mean length of the audio in a vector"
    )
    return EXIT_DONE


def read_clips(folder: Path, detector: SpeechDetector) -> Iterator[Marked]:
    """Yield the recordings of meetings."""
    for path in sorted((folder / "wav").iterdir()):
        segments = [(each.start, each.end) for each in read_rttm(folder / "rttm" / f"{path.stem}.rttm")]
        samples = read_audio(path, RATE)
        kind = TRAINING if path.stem.startswith("trn") else OTHERS
        probabilities = detector.probabilities(samples).tolist()
        yield Marked(kind, probabilities, speech=segments, seconds=len(samples) / RATE)


def make_recordings(corpus: Corpus, detector: SpeechDetector) -> Iterator[Marked]:
    """Yield one made recording of each speaker, for each level of the speech and of the noise."""
    for level in LEVELS:
        for ratio in RATIOS:
            for number, speaker in enumerate(corpus.speakers):
                utterances = [each for each in corpus if each.speaker == speaker][:N_TOGETHER]
                samples, segments = with_pauses(utterances, level, ratio, seed=number)
                kind = f"{MADE}, {level} dB"
                probabilities = detector.probabilities(torch.from_numpy(samples)).tolist()
                yield Marked(kind, probabilities, speech=segments, seconds=len(samples) / RATE)


def with_pauses(utterances: Sequence[Utterance], level: float, ratio: float, *, seed: int) -> tuple[Audio, Segments]:
    """Return utterances between pauses, with noise over all, and where somebody speaks (seconds).

    Half of the recordings have white noise, the others noise that falls with the frequency, as that of a room.
    """
    random = np.random.default_rng(seed)
    parts, segments, n_samples = [], Segments(), 0
    for utterance in utterances:
        pause = round(random.uniform(*PAUSES) * RATE)
        samples = read_audio(utterance.path, RATE).numpy()
        speech = speech_of(samples)
        loud = np.concatenate([samples[round(begin * RATE) : round(end * RATE)] for begin, end in speech])
        scaled = samples * (10 ** (level / 20) / np.sqrt(np.mean(loud.astype(np.float64) ** 2)))
        n_samples += pause
        segments += [(begin + n_samples / RATE, end + n_samples / RATE) for begin, end in speech]
        parts += [np.zeros(pause), scaled]
        n_samples += len(samples)
    spectrum = np.fft.rfft(random.standard_normal(n_samples))
    if seed % 2:
        spectrum[1:] /= np.sqrt(np.arange(1, len(spectrum)))
    noise = np.fft.irfft(spectrum, n_samples)
    noise *= 10 ** ((level - ratio) / 20) / np.sqrt(np.mean(noise**2))
    return (np.concatenate(parts) + noise).astype(np.float32), segments


def speech_of(samples: Audio) -> Segments:
    """Return where somebody speaks in a clean recording, by its level."""
    frames = samples[: len(samples) // FRAME * FRAME].reshape(-1, FRAME).astype(np.float64)
    decibels = 10 * np.log10(np.mean(frames**2, axis=1) + 1e-12)
    levels = (decibels > np.quantile(decibels, 0.9) - DEPTH).astype(float).tolist()
    settings = SpeechSettings(min_silence=LONGEST_GAP, min_speech=0.05, padding=0.0)
    return find_segments(levels, settings, FRAME / RATE, seconds=len(samples) / RATE)


def errors(recordings: Sequence[Marked], settings: SpeechSettings) -> tuple[float, float, float]:
    """Return the speech that is missed, the pauses that are taken for speech, and the time that is wrong (percent)."""
    from pyannote.core import Annotation, Segment, Timeline
    from pyannote.metrics.detection import DetectionErrorRate

    def annotation(segments: Segments) -> Annotation:
        found = Annotation()
        for begin, end in segments:
            found[Segment(begin, end)] = "speech"
        return found

    metric, seconds = DetectionErrorRate(), 0.0
    for each in recordings:
        found = find_segments(each.probabilities, settings, STEP, seconds=each.seconds)
        metric(annotation(each.speech), annotation(found), uem=Timeline([Segment(0, each.seconds)]))
        seconds += each.seconds
    missed, added, speech = metric["miss"], metric["false alarm"], metric["total"]
    return 100 * missed / speech, 100 * added / (seconds - speech), 100 * (missed + added) / seconds


SILERO = """
import sys, time, torch, soundfile
from silero_vad import get_speech_timestamps, load_silero_vad
samples, model = torch.from_numpy(soundfile.read(sys.argv[1], dtype="float32")[0]), load_silero_vad()
get_speech_timestamps(samples[:16000], model)
started = time.perf_counter()
get_speech_timestamps(samples, model)
print(len(samples) / 16000 / (time.perf_counter() - started))
"""


def describe_speed(clips: Path, detector: SpeechDetector) -> str:
    """Return a sentence about the speed, with one thread, beside that of silero-vad's own loop."""
    samples = torch.cat([read_audio(path, RATE) for path in sorted((clips / "wav").iterdir())])
    speeds = []
    with single_thread():
        for _ in range(5):
            started = time.perf_counter()
            detector.find(samples)
            speeds.append(len(samples) / RATE / (time.perf_counter() - started))
    with tempfile.NamedTemporaryFile(suffix=".wav") as file:
        soundfile.write(file.name, samples.numpy(), RATE, subtype="FLOAT")
        command = [sys.executable, "-c", SILERO, file.name]  # it sets the number of threads of its process
        theirs = float(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
    ours = sorted(speeds)[2]
    return f"{ours:.0f} s of audio a second on one thread; silero-vad's own loop: {theirs:.0f}"


def embedding_errors(config: SpeechBenchmark, corpus: Corpus) -> Iterator[list[str]]:
    """Yield error rates of `campplus` vectors, of recordings as they are and between pauses with noise."""
    groups = [[each for each in corpus if each.speaker == speaker] for speaker in corpus.speakers]
    chosen = [each for group in groups for each in group[: config.max_utterances]]
    spec = lazy_encoder("campplus").spec
    with tempfile.TemporaryDirectory() as folder:
        made = list(write_with_pauses(chosen, Path(folder)))
        for name, utterances in (("as they are", chosen), ("between pauses with noise", made)):
            for pauses, detection in (("with", None), ("without", {})):
                encoder = encoder_from_spec(spec, speech_detection=detection)
                rows = [row for row in embed_utterances(utterances, encoder, num_workers=0) if row.vector is not None]
                vectors = torch.stack([row.vector for row in rows if row.vector is not None])
                speakers = np.array([row.utterance.speaker for row in rows])
                eer, wrong = pair_eer(vectors, speakers), enrolment_errors(vectors, speakers)
                seconds = np.mean([row.seconds for row in rows])
                counts = f"{len(rows)} of {len(utterances)}"
                yield [name, pauses, counts, f"{100 * eer:.2f}", f"{100 * wrong:.2f}", f"{seconds:.1f}"]


def enrolment_errors(vectors: torch.Tensor, speakers: NDArray[np.str_]) -> float:
    """Return the share of recordings whose most similar speaker is wrong; the first of each speaker enrol them."""
    unit = torch.nn.functional.normalize(vectors, dim=1)
    names = np.unique(speakers)
    enrolled = [np.flatnonzero(speakers == name)[:N_ENROLLED] for name in names]
    tested = np.setdiff1d(np.arange(len(speakers)), np.concatenate(enrolled))
    models = torch.nn.functional.normalize(torch.stack([unit[rows].mean(0) for rows in enrolled]), dim=1)
    best = (unit[tested] @ models.T).argmax(1).numpy()
    return float(np.mean(names[best] != speakers[tested]))


def write_with_pauses(utterances: Sequence[Utterance], folder: Path) -> Iterator[Utterance]:
    """Write each utterance between two pauses with noise 20 dB below it, and yield the recordings."""
    for number, utterance in enumerate(utterances):
        samples, _ = with_pauses([utterance], -35, 20, seed=number)
        pause = np.random.default_rng(number).standard_normal(3 * RATE).astype(np.float32) * 10 ** (-55 / 20)
        path = folder / f"{number}.wav"
        soundfile.write(path, np.concatenate([samples, pause]), RATE)
        yield replace(utterance, path=path)


def pair_eer(vectors: torch.Tensor, speakers: NDArray[np.str_]) -> float:
    """Return the equal error rate of the cosines of all pairs."""
    unit = torch.nn.functional.normalize(vectors, dim=1)
    first, second = np.triu_indices(len(unit), 1)
    scores = (unit @ unit.T).numpy()[first, second]
    return float(equal_error_rate(speakers[first] == speakers[second], scores))


if __name__ == "__main__":
    run(SpeechBenchmark, main)
