"""Measure every encoder on one device, within a limited time, and print tables for docs/performance.md.

python benchmarks/gpu.py --device cuda
"""

import _thread
import math
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Annotated, Literal

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from audio import read_audio
from benchmarks.gpu_tables import Report, Result
from benchmarks.random_weights import LEFT_OUT, MODELS
from benchmarks.side_by_side import SideBySideConfig, decode_ahead, hardware, measure
from benchmarks.wav2vec2 import distance
from command_line import EXIT_DONE, run
from configs.base import Range
from corpora import Corpus, load_corpus
from encoders import ENCODERS, Encoder, EncoderError, load_encoder, resolve_device
from files import InputError, unknown_choice

SAMPLE = Path(__file__).resolve().parents[1] / "sample" / "LibriSpeech"
# Number of different clips; larger batches repeat them.
N_CLIPS = 16
# Number of clips whose vectors are compared with those of the CPU, and length of the shortest relative to the longest.
N_COMPARED, SHORTEST = 8, 0.4
# Time that is kept for the imports and for the tables, and its largest share of the budget (seconds).
RESERVE, MAX_RESERVE = 30.0, 0.2


@dataclass(frozen=True, kw_only=True)
class GpuBenchmark(SideBySideConfig):
    """Measure every encoder on one device: batch sizes, precisions, parity with the CPU, and the stages apart.

    Weights are the published ones if they are on this machine, and otherwise random ones of that size.
    """

    data_dir: Path = SAMPLE
    """Folder of the corpus."""
    n_files: int = 2000
    """Number of files that are decoded; a corpus with fewer files is read several times."""
    time_budget: float = 480.0
    """Time after which the benchmark ends (seconds); the models share it."""
    models: tuple[str, ...] = ()
    """Names of the models; by default all."""
    size: Literal["published", "tiny"] = "published"
    """Size of the networks; tiny ones test the benchmark."""
    seconds: Annotated[float, Range(1, 10)] = 10.0
    """Length of the clips (seconds)."""
    max_batch: int = 512
    """Largest batch size."""
    point_seconds: float = 0.5
    """Time for the measurement of one batch size (seconds); it takes longer if `repeats` passes do."""


@dataclass
class Recordings:
    """Clips and files of a corpus."""

    config: GpuBenchmark

    @cached_property
    def corpus(self) -> Corpus:
        return load_corpus(self.config.data_dir)

    def clips(self, sample_rate: int) -> Tensor:
        """Return clips of equal length (N_CLIPS, samples), cut from the corpus."""
        n_samples = round(self.config.seconds * sample_rate)
        waves, missing = [], N_CLIPS * n_samples
        for item in cycle(self.corpus):
            waves.append(read_audio(item.path, sample_rate, max_duration=10.0))
            missing -= len(waves[-1])
            if missing <= 0:
                break
        return torch.cat(waves)[: N_CLIPS * n_samples].view(N_CLIPS, n_samples)

    def decoding_rate(self, sample_rate: int) -> float:
        """Return the hours of audio per second that are decoded and resampled, without the start of the processes."""
        utterances = list(islice(cycle(self.corpus), self.config.n_files))
        pieces = decode_ahead(utterances, sample_rate, max_held=128)
        next(pieces)
        started = time.perf_counter()
        n_samples = sum(len(piece.waveform) for piece in pieces if piece.waveform is not None)
        return n_samples / sample_rate / 3600 / (time.perf_counter() - started)


def main(config: GpuBenchmark) -> int:
    """Measure the models one after the other, and print the tables, also if the time is up or the user interrupts."""
    device, waiting = resolve_device(config.device), select_models(config)
    report = Report(notes=[f"{name} is left out: {reason}." for name, reason in encoders_without_model().items()])
    ends = time.monotonic() + config.time_budget - min(RESERVE, MAX_RESERVE * config.time_budget)
    try:
        with TemporaryDirectory() as folder, interrupted_at(ends):
            recordings = Recordings(config)
            while waiting:
                share = (ends - time.monotonic()) / len(waiting)
                measure_model(
                    waiting[0], config, report, recordings=recordings, folder=Path(folder), device=device, share=share
                )
                log_progress(report, waiting.pop(0), left=ends - time.monotonic())
    except KeyboardInterrupt:
        if time.monotonic() < ends:
            raise
    finally:
        if waiting:
            report.notes.append(f"There was no time to finish: {', '.join(waiting)}.")
        print(report.text(f"{hardware(device)}; clips of {config.seconds:g} s; {config.size} size"), flush=True)
    return EXIT_DONE


def select_models(config: GpuBenchmark) -> list[str]:
    """Return the names of the models to measure: those of encoders that are in the registry."""
    known = [name for name, model in MODELS.items() if model.encoder in ENCODERS]
    for name in config.models:
        if name not in known:
            raise EncoderError(unknown_choice("model", name, known))
    return list(config.models) or known


def encoders_without_model() -> dict[str, str]:
    """Return the encoders of the registry that are not measured, with the reason."""
    measured = {model.encoder for model in MODELS.values()}
    reason = "benchmarks/random_weights.py has no model of it"
    return {name: LEFT_OUT.get(name, reason) for name in ENCODERS if name not in measured}


@contextmanager
def interrupted_at(moment: float) -> Iterator[None]:
    """Raise KeyboardInterrupt inside the block at this moment, or at SIGTERM."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    # SIGINT would not do: a shell that starts a script in the background makes it ignore this signal.
    previous = signal.signal(signal.SIGTERM, interrupt)
    timer = threading.Timer(max(moment - time.monotonic(), 0), _thread.interrupt_main, (signal.SIGTERM,))
    timer.daemon = True
    try:
        timer.start()
        yield
    finally:
        timer.cancel()
        signal.signal(signal.SIGTERM, previous)


def measure_model(
    name: str,
    config: GpuBenchmark,
    report: Report,
    *,
    recordings: Recordings,
    folder: Path,
    device: torch.device,
    share: float,
) -> None:
    """Measure a model in each of its precisions, within a share of the time (seconds)."""
    model, ends = MODELS[name], time.monotonic() + share
    try:
        weights, kind = model.weights(folder / f"{name}.weights", config.size == "tiny")
        reference = load_encoder(model.encoder, weights, "cpu", precision="fp32")
        rate = reference.sample_rate
        clips = recordings.clips(rate)
        if rate not in report.decoding:  # several models need it, so it does not count for this one
            started = time.monotonic()
            report.decoding[rate] = recordings.decoding_rate(rate)
            ends += time.monotonic() - started
        compared = [
            clip[: round(part * len(clip))]
            for clip, part in zip(clips, torch.linspace(SHORTEST, 1, N_COMPARED).tolist(), strict=False)
        ]
        expected = reference.encode(compared, batch_size=1)
    except InputError as error:
        report.notes.append(f"{name} is left out: {error}")
        return
    precisions = [each for each in reference.precisions if each != "fp16" or device.type != "cpu"]
    for number, precision in enumerate(precisions):
        until = time.monotonic() + (ends - time.monotonic()) / (len(precisions) - number)
        try:
            encoder = load_encoder(model.encoder, weights, str(device), precision=precision)
            default = default_batch(encoder, config.seconds)
            result = Result(name, precision, kind, sample_rate=rate, default=default)
            report.results.append(result)
            compare(encoder, compared, expected, result=result)
            measure_batches(encoder, clips, config, result=result, until=until)
        except (InputError, RuntimeError) as error:  # other models and precisions are still measured
            reason = str(error).partition("\n")[0] or type(error).__name__
            report.notes.append(f"{name} in {precision}: {reason}")
    if device.type == "cuda":
        torch.cuda.empty_cache()


def log_progress(report: Report, name: str, *, left: float) -> None:
    """Print the main figures of a model at once, in case that the process is killed before it prints the tables."""
    for each in report.results:
        if each.model == name:
            rate = each.rates.get(each.best, math.nan)
            print(
                f"{name} in {each.precision}: {rate:.3g} hours of audio per second with {each.best} clips in a batch; "
                f"1 - cosine {each.angle:.1e}; {left:.0f} s left", file=sys.stderr, flush=True,
            )  # fmt: skip


def default_batch(encoder: Encoder, seconds: float) -> int:
    """Return the batch size that `Encoder.encode` uses for clips of this length."""
    size = encoder.batch_size.get(encoder.device.type, 1)
    longest = encoder.batch_seconds.get(encoder.device.type)
    return size if longest is None else min(size, max(int(longest / seconds), 1))


def compare(encoder: Encoder, clips: list[Tensor], expected: Tensor, *, result: Result) -> None:
    """Compare vectors of one padded batch with those of the CPU, one clip at a time."""
    found = encoder.encode(clips, batch_size=len(clips))
    result.repeats = torch.equal(found, encoder.encode(clips, batch_size=len(clips)))
    found, expected = found.double(), expected.double()
    result.angle = float((1 - torch.cosine_similarity(found, expected, dim=-1)).max())
    result.of_norm = distance(found, expected)
    mean = expected.mean(0)
    result.of_spread = distance(found - mean, expected - mean)


def measure_batches(encoder: Encoder, clips: Tensor, config: GpuBenchmark, *, result: Result, until: float) -> None:
    """Measure the forward pass at growing batch sizes, until it becomes no faster, and then the transfer."""
    device, last = encoder.device, 0.0
    powers = [2**number for number in range(config.max_batch.bit_length())]
    for size in sorted({*powers, min(result.default, config.max_batch)}):
        sizes = sorted(result.rates)
        is_slower = len(sizes) > 2 and result.best <= sizes[-3] and size > result.default
        # A batch of twice the size takes twice the time; three passes are not measured. The first size always is.
        expected = max((config.repeats + 3) * 2 * last, config.point_seconds)
        if is_slower or (result.rates and time.monotonic() + expected > until):
            break
        waves = list(islice(cycle(clips), size))
        try:
            batch, lengths = to_device(waves, device)
            last, result.rates[size], result.memory[size] = measure_forward(encoder, batch, lengths, config=config)
        except torch.OutOfMemoryError:
            result.too_large = size
            break
    if result.rates:
        waves = list(islice(cycle(clips), result.best))
        rates = measure({"transfer": lambda: to_device(waves, device)}, result.best, config.repeats)["transfer"]
        result.transfer = median(rates) * config.seconds / 3600


def to_device(waves: list[Tensor], device: torch.device) -> tuple[Tensor, Tensor]:
    """Pad waveforms and copy them to a device, as `Encoder.encode` does; wait until they are there."""
    batch, lengths = pad_sequence(waves, batch_first=True), torch.tensor([len(wave) for wave in waves])
    if device.type == "cuda":
        batch, lengths = batch.pin_memory(), lengths.pin_memory()
    batch, lengths = batch.to(device, non_blocking=True), lengths.to(device, non_blocking=True)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return batch, lengths


def measure_forward(
    encoder: Encoder, batch: Tensor, lengths: Tensor, *, config: GpuBenchmark
) -> tuple[float, float, float]:
    """Return the time of one call (s), the hours of audio per second, and the largest memory of the device (bytes)."""

    def work() -> Tensor:
        with torch.inference_mode():
            return encoder(batch, lengths).cpu()  # type: ignore[no-any-return]

    device = encoder.device
    work()  # selects kernels
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    started = time.perf_counter()
    work()
    seconds = time.perf_counter() - started
    repeats = max(config.repeats, min(int(config.point_seconds / seconds), 100))
    rates = measure({"forward": work}, len(batch), repeats)["forward"]
    memory = float(torch.cuda.max_memory_allocated(device)) if device.type == "cuda" else math.nan
    return seconds, median(rates) * config.seconds / 3600, memory


if __name__ == "__main__":
    run(GpuBenchmark, main)
