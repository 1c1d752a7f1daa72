"""Search for the enrolled speakers that recordings are most similar to."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from files import PathLike, fields_repr, format_table, write_csv
from verification.backends import Backend
from verification.calibration import Calibration, Conditions
from verification.store_file import damaged
from verification.store_rows import StoreRows

# Maximum number of speakers in a block, and maximum number of scores (recordings times speakers) in a block.
SPEAKERS = 8_192
SCORES = 4_000_000
# Maximum number of rows in the table for the terminal; the CSV file has all rows.
SHOWN = 20


@dataclass(frozen=True, eq=False)
class Nearest:
    """The enrolled speakers that recordings are most similar to.

    Attributes
    ----------
    names : list of list of str
        For each recording, the most similar speaker first.
    scores, llrs : Tensor (n, k)
        float32, scores of the backend, and natural log-likelihood ratios.
    total : Tensor (n,)
        float32, logarithm of the sum of the likelihood ratios of all enrolled speakers, for each recording.
    n_speakers : int
        Number of enrolled speakers.
    """

    names: list[list[str]]
    scores: Tensor
    llrs: Tensor
    total: Tensor
    n_speakers: int

    __repr__ = fields_repr


class _Best:
    """The most similar speakers of each probe (a recording to identify), among the blocks added so far."""

    def __init__(self, n_probes: int, top_k: int) -> None:
        self.llrs = torch.full((n_probes, top_k), -math.inf)
        self.scores = torch.zeros(n_probes, top_k)
        self.numbers = torch.full((n_probes, top_k), -1)
        self.total = torch.full((n_probes,), -math.inf)
        self.n_speakers = 0

    def add(self, scores: Tensor, llrs: Tensor, numbers: Tensor) -> None:
        """Add a block of speakers (n,) with their scores and log-likelihood ratios (n_probes, n)."""
        self.n_speakers += len(numbers)
        highest = llrs.amax(dim=1)
        # Likelihood ratios below e^-60 times the highest do not change the sum. They are clamped, because arithmetic on
        # denormal numbers is ten times slower.
        self.total = torch.logaddexp(self.total, llrs.clamp_min(highest[:, None] - 60).logsumexp(dim=1))
        # After the first blocks, few probes have a more similar speaker in a new block; only those are updated.
        rows = (highest > self.llrs[:, -1]).nonzero().flatten()
        if not len(rows):
            return
        top_k = self.llrs.shape[1]
        found = llrs[rows].topk(min(top_k, len(numbers)), dim=1)
        candidates = torch.cat([self.llrs[rows], found.values], dim=1)
        kept = candidates.argsort(dim=1, descending=True, stable=True)[:, :top_k]
        of_block = scores[rows].gather(1, found.indices)
        self.llrs[rows] = candidates.gather(1, kept)
        self.scores[rows] = torch.cat([self.scores[rows], of_block], dim=1).gather(1, kept)
        self.numbers[rows] = torch.cat([self.numbers[rows], numbers[found.indices]], dim=1).gather(1, kept)


def find_nearest(
    rows: StoreRows,
    backend: Backend,
    calibration: Calibration,
    *,
    vectors: Tensor,
    seconds: Tensor,
    top_k: int,
) -> Nearest:
    """Find the enrolled speakers that embeddings (n, D) are most similar to.

    Speakers are read and scored in blocks to limit memory use. The caller must have opened a transaction.

    Parameters
    ----------
    rows : StoreRows
        Rows of a store with at least one speaker.
    backend : Backend
    calibration : Calibration
        Calibration of the scores against one speaker.
    vectors : Tensor (n, D)
    seconds : Tensor (n,)
        Lengths of the recordings (seconds); 0 or NaN if not known.
    top_k : int
        Maximum number of speakers per embedding.

    Raises
    ------
    StoreError
        A stored vector is damaged.
    """
    probes = backend.embed(vectors.float())
    # The terms of the calibration add up: those of the probes, and those of the speakers. Only one has the offset.
    of_probe = calibration.llrs(0.0, Conditions(seconds=seconds.numpy())) - calibration.llrs(0.0)
    probe_terms = torch.from_numpy(of_probe).float()[:, None]
    block_size = min(max(SCORES // max(len(probes), 1), 1), SPEAKERS)
    best = _Best(len(probes), min(top_k, rows.count()))
    for block in rows.models(block_size):
        scores = backend.score_speakers(probes, block.models, block.counts)
        of_speaker = torch.from_numpy(calibration.llrs(0.0, block.conditions())).float()
        # If the slope is 0, scores carry no information; a tiny slope still ranks the speakers by score.
        best.add(scores, torch.add(of_speaker, scores, alpha=calibration.slope or 1e-9), block.numbers)
        if not bool(torch.isfinite(best.total).all()):
            raise damaged(rows.path, "a vector holds NaN or infinity")
    best.llrs += probe_terms
    best.total += probe_terms[:, 0]
    names = rows.names(best.numbers)
    listed = [[names[number] for number in row] for row in best.numbers.tolist()]
    return Nearest(listed, best.scores, best.llrs, total=best.total, n_speakers=best.n_speakers)


def scores_table(ids: Sequence[str], nearest: Nearest) -> str:
    """Format a table of the first `SHOWN` utterances with the most similar speakers of each."""
    lines = []
    for name, names, scores, llrs in zip(ids[:SHOWN], nearest.names, nearest.scores, nearest.llrs, strict=False):
        lines.append([name, names[0], f"{scores[0]:.4f}", f"{llrs[0]:+.2f}", ", ".join(names[1:])])
    return format_table(["utterance", "speaker", "score", "LLR", "then"], lines, "<<>><")


def write_scores(path: PathLike, ids: Sequence[str], nearest: Nearest) -> Path:
    """Write the most similar speakers of each utterance, with scores and log-likelihood ratios, to a CSV file.

    Raises
    ------
    OutputError
        The file cannot be written.
    """
    records = []
    for name, *best in zip(ids, nearest.names, nearest.scores.tolist(), nearest.llrs.tolist(), strict=True):
        record = {"id": name}
        for rank, (speaker, score, llr) in enumerate(zip(*best, strict=True), start=1):
            suffix = f"_{rank}" if rank > 1 else ""
            record |= {f"speaker{suffix}": speaker, f"score{suffix}": score, f"llr{suffix}": llr}
        records.append(record)
    return write_csv(path, records)
