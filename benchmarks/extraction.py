"""What extraction costs beside decoding, and beside a plain loop over the files.

python benchmarks/extraction.py --data_dir LibriSpeech/dev-clean
"""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import soundfile

from audio import read_audio
from command_line import EXIT_DONE, run
from config import EncoderName, LogLevel, ScriptConfig
from corpora import Corpus, load_corpus
from encoders import Encoder, load_encoder
from evaluation.table import format_table
from features import extract
from features.provenance import file_digest

DECODE, LOOP, FRESH, CACHED = "decode only", "plain loop", "extract", "extract again"


@dataclass(frozen=True, kw_only=True)
class ExtractionBenchmark(ScriptConfig):
    """Time the extraction of a corpus of whole, readable files."""

    data_dir: Path
    """Folder of the corpus."""
    encoder: EncoderName = "spectral"
    """Frozen encoder."""
    encoder_weights: str | None = None
    """File or folder of the encoder's weights."""
    device: str = "auto"
    """Where to compute: auto (CUDA where there is one), cpu, cuda, cuda:N or mps."""
    max_duration: float = 10.0
    """Seconds of each utterance that are used."""
    repeats: int = 5
    """Times that everything is done, in turn."""
    log_level: LogLevel = "warning"
    """How much is told of the work."""


def main(config: ExtractionBenchmark) -> int:
    """Print the median seconds of each way, its rates, and the ratios."""
    corpus = load_corpus(config.data_dir)
    encoder = load_encoder(config.encoder, config.encoder_weights, config.device)
    hours = _plain_loop(corpus, encoder, config.max_duration) / 3600  # and the files are in the system's cache now
    seconds: dict[str, list[float]] = {DECODE: [], LOOP: [], FRESH: [], CACHED: []}
    for _ in range(config.repeats):
        for name, spent in _once(corpus, encoder, config.max_duration).items():
            seconds[name].append(spent)
    lines = [_line(name, times, len(corpus), hours) for name, times in seconds.items()]
    print(f"{corpus.name}: {len(corpus)} files, {hours:.2f} h of audio used; encoder {encoder.name}; medians")
    print(format_table(["", "seconds", "(least - most)", "files/s", "hours of audio/s"], lines, "<>>>>"))
    print(f"extract / decode only: {_ratio(seconds[FRESH], seconds[DECODE])}")
    print(f"plain loop / extract: {_ratio(seconds[LOOP], seconds[FRESH])}")
    return EXIT_DONE


def _once(corpus: Corpus, encoder: Encoder, max_duration: float) -> dict[str, float]:
    """Return the seconds that each way takes."""
    file_digest.cache_clear()  # a process that begins remembers no digests either
    with TemporaryDirectory() as folder:
        path = Path(folder) / "features.pt"
        return {
            DECODE: _seconds(lambda: _decode(corpus, max_duration)),
            LOOP: _seconds(lambda: _plain_loop(corpus, encoder, max_duration)),
            FRESH: _seconds(lambda: extract(corpus, encoder, path, max_duration, progress=False)),
            CACHED: _seconds(lambda: extract(corpus, encoder, path, max_duration, progress=False)),
        }


def _decode(corpus: Corpus, max_duration: float) -> None:
    for utterance in corpus:
        with soundfile.SoundFile(utterance.path) as file:
            file.read(int(max_duration * file.samplerate), dtype="float32")


def _plain_loop(corpus: Corpus, encoder: Encoder, max_duration: float) -> float:
    """Embed file by file, and return the seconds of audio."""
    samples = 0
    for utterance in corpus:
        waveform = read_audio(utterance.path, encoder.sample_rate, max_duration=max_duration)
        encoder.encode([waveform])
        samples += len(waveform)
    return samples / encoder.sample_rate


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _line(name: str, times: list[float], n_files: int, hours: float) -> list[str]:
    middle = median(times)
    spread = f"{min(times):.2f} - {max(times):.2f}"
    return [name, f"{middle:.2f}", spread, f"{n_files / middle:.0f}", f"{hours / middle:.2f}"]


def _ratio(numerators: list[float], denominators: list[float]) -> str:
    """Write the median of the ratios within a repeat, and their range."""
    ratios = [numerator / denominator for numerator, denominator in zip(numerators, denominators, strict=True)]
    return f"{median(ratios):.2f} ({min(ratios):.2f} - {max(ratios):.2f})"


if __name__ == "__main__":
    run(ExtractionBenchmark, main)
