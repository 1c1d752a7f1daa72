"""Make meetings of several speakers from their recordings: turns, overlaps, a room, eight microphones and noise."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray
from scipy.fft import irfft, rfftfreq
from scipy.signal import oaconvolve

from audio import read_audio
from corpora import Corpus, Utterance, load_corpus
from files import track

Samples = NDArray[np.float64]

SAMPLE_RATE = 16_000
# Corpora that take turns, and the fewest recordings of a speaker who is used. The speakers of a meeting are of one
# corpus: recordings of two corpora differ in more than their speakers.
CORPORA = {"speechocean762": 20, "open_voices/manifest.csv": 10}
# Turns: the share of those that begin before the last one ends, and by how much at most (seconds), and the pauses
# between the others. With this share, about as many segments overlap as in the test set of AISHELL-4 (28.7 %).
OVERLAPS, MAX_OVERLAP, PAUSES = 0.2, 1.5, (0.2, 1.5)
# A recording begins and ends where its level is within this of its loudest 20 ms (dB).
SILENCE = 35.0
# The room: reverberation time (s), energy of the reverberation relative to the direct sound at 1 m (dB), distances of
# the speakers (m), and differences of their levels (dB).
T60, REVERBERATION, DISTANCES, LEVELS = 0.6, 0.0, (0.6, 4.0), (-3.0, 3.0)
# A circle of microphones (m), as in AISHELL-4.
N_CHANNELS, RADIUS, SPEED_OF_SOUND = 8, 0.05, 343.0
RESPONSE = 12_000  # samples of the response of the room
PEAK = 0.9


@dataclass(frozen=True)
class Turn:
    """What one speaker says at one time in a meeting."""

    speaker: str
    start: int
    samples: Samples

    @property
    def end(self) -> int:
        return self.start + len(self.samples)


def make_meetings(
    data_dir: Path, output_dir: Path, *, n_meetings: int = 10, n_speakers: int = 6, snr: float = 0.0, seed: int = 0
) -> None:
    """Write meetings as ``wav/{meeting}.flac`` and ``rttm/{meeting}.rttm``, the folders that AISHELL-4 has.

    Every speaker is in one meeting only, with all recordings.

    Parameters
    ----------
    data_dir : Path
        Folder of the corpora in `CORPORA`.
    output_dir : Path
    n_meetings, n_speakers : int
        Number of meetings, and of speakers in each.
    snr : float
        Mean level of the speech, with reverberation, above that of the noise of a microphone (dB).
    seed : int
        Seed of the speakers, the turns, the rooms and the noise. The noise alone differs between two values of `snr`.
    """
    random = np.random.default_rng(seed)
    queues = [_draw_speakers(load_corpus(data_dir / name), fewest, random) for name, fewest in CORPORA.items()]
    for folder in ("wav", "rttm"):
        (output_dir / folder).mkdir(parents=True, exist_ok=True)
    for number in track(range(n_meetings), "Making meetings", n_meetings, unit="meeting"):
        queue = queues[number % len(queues)]
        speakers = {f"{index:03d}": queue.pop() for index in range(1, n_speakers + 1)}
        turns = draw_turns(speakers, random)
        mixed = mix(turns, list(speakers), random)
        noisy = mixed + make_noise(mixed, snr, random)
        name = f"M{number + 1:02d}"
        scaled = noisy * (PEAK / np.abs(noisy).max())
        soundfile.write(output_dir / "wav" / f"{name}.flac", scaled.T, SAMPLE_RATE, subtype="PCM_16")
        lines = [
            f"SPEAKER {name} 1 {turn.start / SAMPLE_RATE:.3f} {len(turn.samples) / SAMPLE_RATE:.3f} "
            f"<NA> <NA> {turn.speaker} <NA> <NA>\n"
            for turn in turns
        ]
        (output_dir / "rttm" / f"{name}.rttm").write_text("".join(lines), encoding="utf-8")


def draw_turns(speakers: Mapping[str, Sequence[Utterance]], random: np.random.Generator) -> list[Turn]:
    """Put all recordings of the speakers into a random order, with pauses and overlaps between them."""
    order = [(speaker, utterance) for speaker, utterances in speakers.items() for utterance in utterances]
    random.shuffle(order)
    turns: list[Turn] = []
    for speaker, utterance in order:
        samples = _speech(utterance)
        start = SAMPLE_RATE // 2
        if turns:
            last = turns[-1]
            if random.random() < OVERLAPS and last.speaker != speaker:
                # At most half of each, so that no more than two speak at a time.
                most = min(MAX_OVERLAP * SAMPLE_RATE, len(last.samples) / 2, len(samples) / 2)
                start = last.end - int(random.uniform(0.1, 1.0) * most)
            else:
                start = last.end + int(random.uniform(*PAUSES) * SAMPLE_RATE)
        turns.append(Turn(speaker, start, samples))
    return turns


def mix(turns: Sequence[Turn], speakers: Sequence[str], random: np.random.Generator) -> Samples:
    """Return what the microphones record of the turns: (channels, samples)."""
    responses = dict(zip(speakers, _responses(len(speakers), random), strict=True))
    mixed = np.zeros((N_CHANNELS, turns[-1].end + SAMPLE_RATE + RESPONSE))
    for turn in turns:
        received = oaconvolve(responses[turn.speaker], turn.samples[None], axes=1)
        mixed[:, turn.start : turn.start + received.shape[1]] += received
    return mixed


def make_noise(speech: Samples, snr: float, random: np.random.Generator) -> Samples:
    """Return noise whose power falls by 3 dB an octave, as in rooms, and which differs from channel to channel."""
    frequencies = rfftfreq(RESPONSE, 1 / SAMPLE_RATE)
    colour = np.roll(irfft(1 / np.sqrt(np.maximum(frequencies, 50.0)), RESPONSE), RESPONSE // 2)
    noise = oaconvolve(random.standard_normal(speech.shape), colour[None], mode="same", axes=1)
    ratio = np.sqrt((speech**2).mean() / (noise**2).mean()) * 10 ** (-snr / 20)
    return np.asarray(noise * ratio)


def _draw_speakers(corpus: Corpus, fewest: int, random: np.random.Generator) -> list[list[Utterance]]:
    """Return the recordings of each speaker who has at least `fewest` of them, in random order of the speakers."""
    of_speaker: dict[str, list[Utterance]] = {}
    for utterance in corpus:
        of_speaker.setdefault(utterance.speaker, []).append(utterance)
    found = [utterances for _, utterances in sorted(of_speaker.items()) if len(utterances) >= fewest]
    return [found[place] for place in random.permutation(len(found))]


def _speech(utterance: Utterance) -> Samples:
    """Read a recording at one level, without the silence at its start and end."""
    samples = read_audio(utterance.path, SAMPLE_RATE).numpy().astype(np.float64)
    size = SAMPLE_RATE // 50
    frames = samples[: len(samples) // size * size].reshape(-1, size)
    energies = (frames**2).mean(1)
    loud = np.flatnonzero(energies >= energies.max() * 10 ** (-SILENCE / 10))
    speech = frames[loud[0] : loud[-1] + 1].ravel()
    return np.asarray(speech / np.sqrt((speech**2).mean()))


def _responses(n_speakers: int, random: np.random.Generator) -> list[Samples]:
    """Return the responses of the room from each speaker to each microphone: (channels, samples).

    The direct sound has the delay and level of its distance; the reverberation is noise that decays exponentially
    (Polack's model), which differs from microphone to microphone.
    """
    around = 2 * np.pi * np.arange(N_CHANNELS) / N_CHANNELS
    microphones = RADIUS * np.stack([np.cos(around), np.sin(around)], 1)
    decay = 10 ** (-3 * np.arange(RESPONSE) / SAMPLE_RATE / T60)
    frequencies = rfftfreq(RESPONSE, 1 / SAMPLE_RATE)
    responses = []
    for number in range(n_speakers):
        angle = 2 * np.pi * (number + random.uniform(-0.3, 0.3)) / n_speakers
        place = random.uniform(*DISTANCES) * np.array([np.cos(angle), np.sin(angle)])
        distances = np.linalg.norm(place - microphones, axis=1)
        delays = distances / SPEED_OF_SOUND
        direct = irfft(np.exp(-2j * np.pi * frequencies * delays[:, None]) / distances[:, None], RESPONSE, axis=1)
        tail = random.standard_normal((N_CHANNELS, RESPONSE)) * decay
        tail[:, : int(delays.max() * SAMPLE_RATE) + 1] = 0  # nothing is received before the direct sound
        tail *= 10 ** (REVERBERATION / 20) / np.sqrt((tail**2).sum(1, keepdims=True))
        level = 10 ** (random.uniform(*LEVELS) / 20)
        responses.append(level * (direct + tail))
    return responses
