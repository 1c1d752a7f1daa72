"""Every default and choice, as typed frozen dataclasses. The scripts' command lines are made from them.

Imports nothing heavy: ``--help`` reads this file alone.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

# Choices; a test holds them against the registries.
Layout = Literal["auto", "librispeech", "voxceleb", "folder", "manifest"]
EncoderName = Literal["audiosep", "clap", "wav2vec2", "spectral"]
Pooling = Literal["mean", "mean+std"]
StoreDtype = Literal["fp32", "fp16"]
Precision = Literal["auto", "fp32", "bf16", "fp16"]
HeadName = Literal["linear", "mlp", "bn_mlp", "lda", "weighted"]
ScalerName = Literal["standard", "whiten"]
SplitBy = Literal["utterance", "session"]
LogLevel = Literal["debug", "info", "warning", "error"]

# Lowest and highest value of the numbers.
LIMITS = {
    "max_duration": (0.01, 1e6),
    "window": (0.01, 1e6),
    "hop": (0.01, 1e6),
    "seed": (0, 2**32 - 1),
    "epochs": (1, 10**6),
    "lr": (1e-12, 1e3),
    "batch_size": (1, 10**7),
    "patience": (1, 10**6),
    "encoder_batch_size": (1, 10**6),
    "top_k": (1, 10**6),
}


@dataclass(frozen=True)
class ScriptConfig:
    """What every script takes."""

    config: Path | None = None
    """YAML file with values for these flags (max_duration: 5.0); flags on the command line override it."""
    log_level: LogLevel = "info"
    """How much is told of the work."""

    def problem(self) -> str | None:
        """Return a sentence that says which value makes no sense, if one does; asked before any work is done."""
        for name, (lowest, highest) in LIMITS.items():
            value = getattr(self, name, None)
            if value is not None and not lowest <= value <= highest:
                return f"--{name} is {value:g}; expected {lowest:g} to {highest:g}."
        heads, fractions = getattr(self, "heads", ("",)), getattr(self, "fractions", (1.0, 0.0, 0.0))
        if getattr(self, "hop", None) is not None and getattr(self, "window", None) is None:
            return "--hop is the step between windows; give --window too."
        if not heads:
            return "--heads names none; give at least one."
        if not (fractions[0] > 0 and min(fractions) >= 0 and abs(sum(fractions) - 1) <= 1e-6):
            return f"--fractions are {' '.join(map(str, fractions))}; give three, of 0 or more, that sum to 1."
        return None


@dataclass(frozen=True)
class ExtractionConfig(ScriptConfig):
    """Turn a corpus into cached embeddings."""

    data_dir: Path | None = None
    """Folder of the corpus, or the CSV file of a manifest."""
    layout: Layout = "auto"
    """How the corpus is laid out; auto tells what it detected."""
    encoder: EncoderName = "audiosep"
    """Frozen encoder; clap is another name of audiosep; spectral needs no weights."""
    encoder_weights: str | None = None
    """File or folder of the encoder's weights, or an id of the Hugging Face hub; by default found or downloaded."""
    max_duration: float | None = 10.0
    """Seconds of each utterance that are used; None uses all."""
    window: float | None = None
    """Average over windows of so many seconds instead, however long the utterance (audiosep, wav2vec2)."""
    hop: float | None = None
    """Seconds from one window to the next; by default half a window."""
    layers: str | None = None
    """Layers of the encoder: all, last, a number N, or a range N-M (wav2vec2; by default all)."""
    pooling: Pooling | None = None
    """Statistics of the frames over time (wav2vec2; by default mean)."""
    precision: Precision = "auto"
    """What the encoder computes in; auto is fp32."""
    store_dtype: StoreDtype = "fp32"
    """What the features are stored in; fp16 halves the file."""
    encoder_batch_size: int | None = None
    """Most utterances that the encoder takes at a time; by default what suits the device."""
    features_path: Path | None = None
    """Features file; by default {output_dir}/{corpus}_features_{encoder}.pt."""
    output_dir: Path = Path("outputs")
    """Folder for what is written."""
    device: str = "auto"
    """Where to compute: auto (CUDA where there is one), cpu, cuda, cuda:N or mps."""


@dataclass(frozen=True)
class ComparisonConfig(ExtractionConfig):
    """Train heads on cached embeddings, compare them, and save the best by validation."""

    data_dir: Path | None = None
    """Folder of the corpus, or the CSV file of a manifest; not needed with the --features_path of a finished file."""
    download: bool = False
    """Fetch LibriSpeech dev-clean (338 MB) from OpenSLR into --data_dir (by default data) first."""
    download_url: str = "https://www.openslr.org/resources/12/dev-clean.tar.gz"
    """Where --download fetches from; OpenSLR's page lists mirrors in other parts of the world."""
    heads: tuple[HeadName, ...] = ("linear", "mlp", "lda")
    """Heads to compare."""
    scaler: ScalerName = "standard"
    """Scaler before the heads, fitted on training rows alone."""
    split_by: SplitBy = "utterance"
    """Whether utterances of one session may stand in both train and test."""
    fractions: tuple[float, float, float] = (0.8, 0.1, 0.1)
    """Shares of train, validation and test."""
    seed: int = 0
    """Of the split and of the heads."""
    epochs: int = 100
    """Most passes over the training rows."""
    lr: float = 1e-3
    """Learning rate of Adam."""
    batch_size: int = 32
    """Rows in a training step."""
    patience: int = 20
    """Epochs without a better validation accuracy before training stops."""


@dataclass(frozen=True)
class InferenceConfig(ScriptConfig):
    """Tell who speaks in a file, or in each file of a folder."""

    audio_path: Path | None = None
    """Audio file, or a folder that is searched with all folders in it."""
    classifier: Path = Path("outputs/speaker_classifier_librispeech.pt")
    """Classifier that speaker_recognition_librispeech.py saved."""
    encoder_weights: str | None = None
    """File or folder of the encoder's weights, where they are not found by themselves."""
    precision: Precision = "auto"
    """What the encoder computes in; auto is what the classifier was trained with."""
    top_k: int = 5
    """Speakers to name for each file."""
    output: Path = Path("outputs/predictions.csv")
    """Where the predictions go: a .csv or a .json file."""
    device: str = "auto"
    """Where to compute: auto (CUDA where there is one), cpu, cuda, cuda:N or mps."""
