"""Figures of networks on whole utterances, embedded as the saved encoder embeds them."""

import math
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from corpora import Indices
from features import FeatureSet
from files import Record
from metrics import equal_error_rate, equal_error_threshold, macro_f1, min_dcf, top_k_accuracy
from networks import FrontEnd
from training.crop_reader import CropReader, CropRequest, read_crops
from training.data import TrainingData
from training.member import Member
from training.processes import exchange_faults
from verification import random_triplets

if TYPE_CHECKING:
    from lightning.fabric import Fabric

# Utterances of similar length that are embedded together: their number, and their length with padding (seconds), which
# bounds the memory of large networks.
BATCH, BATCH_SECONDS = 16, 320.0
# Most utterances of which all pairs are trials; of more, these are drawn.
MAX_UTTERANCES = 3000
P_TARGET = 0.01
# Triplets that are drawn for the second EER, as in wq2012's "speaker recognition from scratch".
TRIPLETS = 10_000
VERIFICATION_FIGURES = ("eer", "eer_threshold", "eer_triplets", "eer_triplets_threshold", "min_dcf")


@dataclass(frozen=True, eq=False)
class Outputs:
    """Outputs of a network for the utterances that could be read.

    Attributes
    ----------
    rows : ndarray (n,)
        Rows of the data.
    embeddings : Tensor (n, dim)
    logits : Tensor (n, n_speakers) or None
    """

    rows: Indices
    embeddings: Tensor
    logits: Tensor | None


@dataclass(frozen=True, kw_only=True)
class Evaluator:
    """Runs networks over parts of the data, in every process a share.

    Attributes
    ----------
    data : TrainingData
    front_end : FrontEnd
    reader : CropReader
    fabric : Fabric
    num_workers : int
    """

    data: TrainingData
    front_end: FrontEnd
    reader: CropReader
    fabric: "Fabric"
    num_workers: int

    def run(self, members: Sequence[Member], rows: Indices) -> list[Outputs]:
        """Embed utterances with every network, in fp32; return the outputs of each, sorted by row."""
        data, rank, n_ranks = self.data, self.fabric.global_rank, self.fabric.world_size
        order = rows[np.argsort(-data.n_samples[rows], kind="stable")][rank::n_ranks]
        batches = self._batches(order)
        requests = (CropRequest(tuple(data.crop(row) for row in batch.tolist()), batch) for batch in batches)
        found = []
        for member in members:
            member.share_buffers()
            member.model.eval()
        with torch.inference_mode(), closing(read_crops(self.reader, requests, self.num_workers)) as crops:
            for batch in crops:
                data.faults.update({data.utterances[batch.what[place]].id: reason for place, reason in batch.faults})
                if not len(batch.kept):
                    continue
                n_frames = batch.n_frames.to(self.fabric.device)
                frames = self.frames_of(batch.inputs.to(self.fabric.device), n_frames)
                found.append((batch.what[batch.kept.numpy()], [member.embed(frames, n_frames) for member in members]))
        for member in members:
            member.model.train()
        exchange_faults(self.fabric, data.faults)
        return _join(_gather(found, n_ranks), len(members))

    def _batches(self, order: Indices) -> Iterator[Indices]:
        """Yield the rows of each batch, from rows that are sorted by length, the longest first."""
        while len(order):
            longest = self.data.n_samples[order[0]] / self.data.sample_rate
            size = max(min(int(BATCH_SECONDS / longest), BATCH), 1)
            yield order[:size]
            order = order[size:]

    def frames_of(self, inputs: Tensor, n_frames: Tensor) -> Tensor:
        """Return the frames of crops: a reader without a front end has read waveforms."""
        return inputs if inputs.ndim == 3 else self.front_end.frames(inputs, n_frames)

    def figures(self, outputs: Outputs) -> Record:
        """Return the figures of a network for a part.

        Speakers of the training part are classified: loss, accuracies, macro-F1. Pairs of utterances are verified by
        the cosine: EER with its threshold, of all pairs and of drawn triplets, and minDCF of all pairs. A figure that
        the part has no rows or pairs for is NaN.
        """
        labels = torch.from_numpy(self.data.labels[outputs.rows])
        known = labels >= 0
        figures: Record = {
            "loss": math.nan,
            "accuracy": math.nan,
            "macro_f1": math.nan,
            "top3": math.nan,
            "top5": math.nan,
        }
        if outputs.logits is not None and bool(known.any()):
            logits, targets = outputs.logits[known], labels[known]
            figures["loss"] = float(cross_entropy(logits, targets))
            figures["accuracy"] = float(top_k_accuracy(targets.numpy(), logits.numpy(), 1))
            figures["macro_f1"] = float(macro_f1(targets.numpy(), logits.argmax(1).numpy()))
            figures["top3"], figures["top5"] = (
                float(top_k_accuracy(targets.numpy(), logits.numpy(), k)) for k in (3, 5)
            )
        return {"n_utterances": len(outputs.rows), **figures, **self._verification_figures(outputs)}

    def _verification_figures(self, outputs: Outputs) -> Record:
        is_target, scores = self.all_pairs(outputs)
        if not is_target.any() or is_target.all():
            return dict.fromkeys(VERIFICATION_FIGURES, math.nan)
        drawn_targets, drawn_scores = self.triplet_pairs(outputs)
        return {
            "eer": equal_error_rate(is_target, scores),
            "eer_threshold": equal_error_threshold(is_target, scores),
            "eer_triplets": equal_error_rate(drawn_targets, drawn_scores),
            "eer_triplets_threshold": equal_error_threshold(drawn_targets, drawn_scores),
            "min_dcf": min_dcf(is_target, scores, P_TARGET),
        }

    def all_pairs(self, outputs: Outputs) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
        """Return for all pairs of utterances whether they are of one speaker, and the cosine of their embeddings."""
        n = len(outputs.rows)
        rows = np.arange(n)
        if n > MAX_UTTERANCES:
            rows = np.sort(np.random.default_rng(0).permutation(n)[:MAX_UTTERANCES])
        speakers = self.data.speaker_numbers[outputs.rows[rows]]
        vectors = normalize(outputs.embeddings[rows].float(), dim=1)
        first, second = np.triu_indices(len(rows), 1)
        return speakers[first] == speakers[second], (vectors @ vectors.T).numpy()[first, second]

    def triplet_pairs(self, outputs: Outputs) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
        """Return the pairs of `TRIPLETS` drawn triplets as `all_pairs` does; the draws are the same in each epoch."""
        vectors = normalize(outputs.embeddings.float(), dim=1)
        trials = random_triplets(FeatureSet.from_arrays(vectors, self.data.speaker_numbers[outputs.rows]), TRIPLETS)
        return trials.labels, (vectors[trials.first] * vectors[trials.second]).sum(1).numpy()


_Found = list[tuple[Indices, list[tuple[Tensor, Tensor | None]]]]


def _gather(found: _Found, n_ranks: int) -> _Found:
    """Return the outputs of all processes."""
    if n_ranks == 1:
        return found
    parts: list[_Found] = [[] for _ in range(n_ranks)]
    torch.distributed.all_gather_object(parts, found)
    return [each for part in parts for each in part]


def _join(found: _Found, n_members: int) -> list[Outputs]:
    if not found:
        return [Outputs(np.empty(0, np.int64), torch.empty(0, 1), None)] * n_members
    rows = np.concatenate([rows for rows, _ in found])
    back = np.argsort(rows, kind="stable")
    joined = []
    for number in range(n_members):
        embeddings, logits = zip(*(outputs[number] for _, outputs in found), strict=True)
        has_logits = logits[0] is not None
        joined.append(Outputs(rows[back], torch.cat(embeddings)[back], torch.cat(logits)[back] if has_logits else None))
    return joined


def average(outputs: Sequence[Outputs]) -> Outputs:
    """Return the averaged logits of an ensemble; its embeddings are those of all networks, one after another."""
    logits = [each.logits for each in outputs if each.logits is not None]  # none if no utterance could be read
    embeddings = torch.cat([normalize(each.embeddings, dim=1) for each in outputs], dim=1)
    return Outputs(outputs[0].rows, embeddings, torch.stack(logits).mean(0) if logits else None)
