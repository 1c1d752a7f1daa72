"""Results of `gpu.py`, and their tables."""

import math
from dataclasses import dataclass, field

import torch

from embedding import n_workers_of
from files import Table

# A larger batch must be faster by this factor to count as better.
GAIN = 1.02


@dataclass
class Result:
    """Figures of one model in one precision; those that were not measured are absent or NaN.

    Attributes
    ----------
    model, precision : str
    weights : str
        ``published``, ``random`` or ``none``.
    sample_rate : int
        Sampling rate of the waveforms (Hz).
    default : int
        Default batch size of the encoder.
    rates : dict
        Batch size -> hours of audio per second of the forward pass.
    memory : dict
        Batch size -> largest memory of the device (bytes).
    too_large : int or None
        Batch size that did not fit into memory.
    transfer : float
        Hours of audio per second that are padded, pinned and copied to the device, at the best batch size.
    angle, of_norm, of_spread : float
        Largest 1 - cosine to the vector of the CPU in fp32, and largest distance from it, divided by its norm and by
        the distance of vectors from their mean.
    repeats : bool or None
        Whether a second pass gave the same bits.
    """

    model: str
    precision: str
    weights: str
    sample_rate: int
    default: int
    rates: dict[int, float] = field(default_factory=dict)
    memory: dict[int, float] = field(default_factory=dict)
    too_large: int | None = None
    transfer: float = math.nan
    angle: float = math.nan
    of_norm: float = math.nan
    of_spread: float = math.nan
    repeats: bool | None = None

    @property
    def best(self) -> int:
        """The smallest batch size whose rate is the highest, up to 2 percent."""
        highest = max(self.rates.values(), default=0.0)
        return next((size for size, rate in sorted(self.rates.items()) if GAIN * rate >= highest), 0)


@dataclass
class Report:
    """Everything that was measured so far.

    Attributes
    ----------
    results : list of Result
    decoding : dict
        Sampling rate (Hz) -> hours of audio per second that are decoded and resampled.
    notes : list of str
        Sentences about what was not measured.
    """

    results: list[Result] = field(default_factory=list)
    decoding: dict[int, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def text(self, title: str) -> str:
        """Return the title, the tables and the notes in Markdown."""
        tables = [self._stages(), self._batches(), self._parity()]
        headings = [
            "Hours of audio per second of each stage at the best batch size (number of processes that decode: "
            f"{n_workers_of(None)}):",
            "Hours of audio per second of the forward pass at each batch size (*: the default):",
            "Largest difference from the vectors of the CPU in fp32, of clips of different lengths in one batch:",
        ]
        parts = [f"{title}; PyTorch {torch.__version__}."]
        for heading, table in zip(headings, tables, strict=True):
            parts += [heading, table.text("markdown")]
        return "\n\n".join([*parts, "\n".join(f"- {note}" for note in self.notes)]).rstrip()

    def _stages(self) -> Table:
        rows = []
        for each in self.results:
            stages = {
                "decoding": self.decoding.get(each.sample_rate, math.nan),
                "transfer": each.transfer,
                "forward": each.rates.get(each.best, math.nan),
            }
            slowest = "-" if any(map(math.isnan, stages.values())) else min(stages, key=lambda stage: stages[stage])
            memory = each.memory.get(each.best, math.nan) / 1e9
            names = [each.model, each.precision, each.weights, str(each.best or "-")]
            rows.append([*names, *map(_number, stages.values()), slowest, _number(memory)])
        header = ["model", "precision", "weights", "batch", "decoding", "transfer", "forward", "slowest", "memory, GB"]
        return Table("Speed", header, rows, align="<<<>>>><>")

    def _batches(self) -> Table:
        cells: list[dict[int, str]] = []
        for each in self.results:
            cells.append({size: _number(rate) for size, rate in each.rates.items()})
            if each.too_large is not None:
                cells[-1][each.too_large] = "no memory"
            if each.default in cells[-1]:
                cells[-1][each.default] += "*"
        sizes = sorted({size for row in cells for size in row})
        rows = [
            [each.model, each.precision, *(row.get(size, "-") for size in sizes)]
            for each, row in zip(self.results, cells, strict=True)
        ]
        return Table("Batches", ["model", "precision", *map(str, sizes)], rows, align="<<" + ">" * len(sizes))

    def _parity(self) -> Table:
        repeats = {True: "yes", False: "no", None: "-"}
        rows = []
        for each in self.results:
            differences = (_number(value, 2) for value in (each.angle, each.of_norm, each.of_spread))
            rows.append([each.model, each.precision, *differences, repeats[each.repeats]])
        header = ["model", "precision", "1 - cosine", "distance / norm", "distance / spread", "same bits twice"]
        return Table("Parity", header, rows, align="<<>>><")


def _number(value: float, digits: int = 3) -> str:
    return "-" if math.isnan(value) else f"{value:.{digits}g}"
