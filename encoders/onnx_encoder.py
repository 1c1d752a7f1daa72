"""The `onnx` encoder: a speaker network in an ONNX file of WeSpeaker, 3D-Speaker or sherpa-onnx."""

import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from encoders.base import CPU, EncoderError
from encoders.campplus import FRAME, FRONT_ENDS, HOP, PIECE_SECONDS, WHOLE_SECONDS, CampPlusOptions
from encoders.checkpoint_file import require_file
from encoders.onnx_checks import FILE_KIND, SAMPLE_RATE
from encoders.onnx_graph import OnnxGraph
from encoders.speaker_encoder import SpeakerEncoder
from encoders.spec import Spec
from encoders.training_corpora import training_corpora
from encoders.weights import check_digest
from files import remembered
from networks import KaldiFbank

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class OnnxOptions(CampPlusOptions):
    """Options of `onnx`; the front end ``auto`` is the one that the file's metadata, or its names, indicate."""


class OnnxEncoder(SpeakerEncoder):
    """A speaker network in an ONNX file: 16 kHz in, one vector out, which the cosine compares.

    1. Compute log-mel spectrograms as Kaldi does: 80 bands, a frame of 25 ms every 10 ms. Those of WeSpeaker have
       Hamming windows and samples on the scale of 16 bits, those of 3D-Speaker Povey windows and samples in [-1, 1].
    2. Subtract their mean over the recording.
    3. Compute the graph with onnxruntime, on the CPU. Vectors are not normalised.

    Graphs know no padding, so each recording is computed alone. One of more than 90 s is cut into pieces of 10 s, whose
    vectors are averaged. If the graph takes a fixed number of frames, recordings are cut into pieces of that length
    instead, and shorter recordings are repeated up to that length, as in WeSpeaker's training.
    """

    Options = OnnxOptions
    batch_size: ClassVar[dict[str, int]] = {"cpu": 1}

    def __init__(self, spec: Spec, weights: str | Path | None = None, device: torch.device = CPU) -> None:
        super().__init__(spec, weights, CPU)
        path = _require(weights)
        graph = OnnxGraph.load(path)
        check_digest(path, graph.digest, spec["weights"])
        if device.type != "cpu":
            logger.info("The encoder 'onnx' computes on the CPU, not on %s.", device)
        self.network = graph.build()
        self.n_samples = None if graph.n_frames is None else _n_samples(graph.n_frames)
        window, factor = FRONT_ENDS[spec["options"]["front_end"]]
        self.front_end = KaldiFbank(window, factor)

    @classmethod
    def find_weights(cls, weights: str | Path | None, download: bool = True) -> Path | None:
        if weights is None and not download:
            return None
        return require_file(_require(weights), f"Give {FILE_KIND}, as --encoder_weights.")

    @classmethod
    def describe(cls, weights: str | Path | None, options: OnnxOptions) -> Spec:
        path = _require(weights)

        def read_graph() -> Spec:
            graph = OnnxGraph.load(path)
            dim, min_frames = graph.build().measure()
            return {
                "weights": graph.digest,
                "dim": dim,
                "n_frames": graph.n_frames,
                "min_frames": min_frames,
                "front_end": graph.front_end,
                "names": [graph.input, graph.output],
            }

        found = remembered(path, "onnx 1", read_graph)
        front_end = found["front_end"] if options.front_end == "auto" else options.front_end
        if front_end is None:
            source, target = found["names"]
            raise EncoderError(
                f"{path}: neither its metadata nor the names of its input and output, {source!r} and {target!r}, show "
                "the front end of its training. Give --encoder_options front_end=wespeaker or front_end=3dspeaker."
            )
        return {
            "name": "onnx",
            "version": 1,
            "sample_rate": SAMPLE_RATE,
            "layers": [],
            "weights": found["weights"],
            "dim": found["dim"],
            **_lengths(path, found["n_frames"], found["min_frames"], options=options),
            "trained_on": training_corpora(path),
            "options": {**asdict(options), "hop": options.resolved_hop(), "front_end": front_end},
        }

    def forward(self, waveforms: Tensor, lengths: Tensor) -> Tensor:
        return torch.stack(
            [self._embed_alone(wave[:length]) for wave, length in zip(waveforms, lengths.tolist(), strict=True)]
        )

    def _embed_alone(self, wave: Tensor) -> Tensor:
        if self.n_samples is not None and len(wave) < self.n_samples:
            wave = wave.repeat(-(-self.n_samples // len(wave)))[: self.n_samples]
        return torch.from_numpy(self.network(self.front_end.spectrogram(wave).numpy()))


def _lengths(path: Path, n_frames: int | None, min_frames: int, *, options: OnnxOptions) -> Spec:
    """Return the lengths of recordings that are refused, and that are cut, and check the window (seconds)."""
    window = None if options.window is None else round(options.window * SAMPLE_RATE)
    if n_frames is None:
        min_samples = _n_samples(min_frames)
        if window is not None and window < min_samples:
            raise EncoderError(
                f"{path}: window is {options.window:g} s; its graph needs at least {min_samples / SAMPLE_RATE:g} s."
            )
        return {
            "min_seconds": min_samples / SAMPLE_RATE, "whole_seconds": WHOLE_SECONDS, "piece_seconds": PIECE_SECONDS,
        }  # fmt: skip
    seconds = _n_samples(n_frames) / SAMPLE_RATE
    if window not in (None, _n_samples(n_frames)):
        raise EncoderError(
            f"{path}: window is {options.window:g} s; its graph takes {n_frames} frames, which is {seconds:g} s. Leave "
            f"out window, or set window={seconds:g}."
        )
    return {"min_seconds": FRAME / SAMPLE_RATE, "whole_seconds": seconds, "piece_seconds": seconds}


def _n_samples(n_frames: int) -> int:
    return FRAME + (n_frames - 1) * HOP


def _require(weights: str | Path | None) -> Path:
    if weights is None:
        raise EncoderError(f"The encoder 'onnx' needs a file: give --encoder_weights FILE, {FILE_KIND}.")
    return Path(weights)
