"""Every default and choice, as typed frozen dataclasses. The scripts' command lines are made from them.

Imports nothing heavy: ``--help`` reads this file alone.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

# Choices; a test holds them against the registries.
Layout = Literal["auto", "librispeech", "voxceleb", "folder", "manifest"]
EncoderName = Literal["audiosep", "clap", "wav2vec2", "spectral", "scratch"]
Pooling = Literal["mean", "mean+std"]
StoreDtype = Literal["fp32", "fp16"]
Precision = Literal["auto", "fp32", "bf16", "fp16"]
HeadName = Literal[
    "all", "linear", "mlp", "bn_mlp", "weighted", "cosine", "logistic", "lda", "plda", "centroid"
]  # fmt: skip
ScalerName = Literal[
    "none", "standard", "whiten", "within", "length", "standard+length", "whiten+length", "within+length"
]  # fmt: skip
ClassWeight = Literal["balanced"]
BackendName = Literal["cosine", "whiten", "within", "lda", "plda"]
Existing = Literal["refuse", "add", "replace"]
SplitBy = Literal["utterance", "session"]
LogLevel = Literal["debug", "info", "warning", "error"]

# Lowest and highest value of the numbers.
LIMITS = {
    "max_duration": (0.01, 1e6),
    "window": (0.01, 1e6),
    "hop": (0.01, 1e6),
    "seed": (0, 2**32 - 1),
    "seeds": (1, 1000),
    "tune_budget": (2, 10_000),
    "epochs": (1, 10**6),
    "lr": (1e-12, 1e3),
    "batch_size": (1, 10**7),
    "patience": (1, 10**6),
    "encoder_batch_size": (1, 10**6),
    "num_workers": (0, 1000),
    "top_k": (1, 10**6),
    "triplets": (1, 10**8),
    "p_target": (1e-9, 1 - 1e-9),
    "p_known": (1e-9, 1 - 1e-9),
}


@dataclass(frozen=True)
class ScriptConfig:
    """What every script takes."""

    is_positional: ClassVar[bool] = False
    """Whether what has no default is named without a flag, as in: verify A.wav B.wav."""

    config: Path | None = None
    """YAML file with values for these flags (max_duration: 5.0); flags on the command line override it."""
    log_level: LogLevel = "info"
    """How much is told of the work."""

    def problem(self) -> str | None:
        """Return a sentence that says which value makes no sense, if one does; asked before any work is done."""
        for name, (lowest, highest) in LIMITS.items():
            value = getattr(self, name, None)
            if value is not None and value != "auto" and not lowest <= value <= highest:
                return f"--{name} is {value:g}; expected {lowest:g} to {highest:g}."
        heads, fractions = getattr(self, "heads", ("",)), getattr(self, "fractions", (1.0, 0.0, 0.0))
        if getattr(self, "hop", None) is not None and getattr(self, "window", None) is None:
            return "--hop is the step between windows; give --window too."
        if not heads:
            return "--heads names none; give at least one."
        if not (fractions[0] > 0 and min(fractions) >= 0 and abs(sum(fractions) - 1) <= 1e-6):
            shares = " ".join(map(str, fractions))
            return f"--fractions are {shares}; give three that sum to 1: train above 0, the others 0 or more."
        return None


@dataclass(frozen=True)
class CorpusConfig(ScriptConfig):
    """Which recordings there are, and how their embeddings are made."""

    data_dir: Path | None = None
    """Folder of the corpus, or the CSV file of a manifest."""
    layout: Layout = "auto"
    """How the corpus is laid out; auto tells what it detected."""
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
    num_workers: int | Literal["auto"] = "auto"
    """Processes that decode; auto is one for each core, at most 16; 0 for none."""
    output_dir: Path = Path("outputs")
    """Folder for what is written."""
    device: str = "auto"
    """Where to compute: auto (CUDA where there is one), cpu, cuda, cuda:N or mps."""


@dataclass(frozen=True)
class ExtractionConfig(CorpusConfig):
    """Turn a corpus into cached embeddings."""

    encoder: EncoderName = "audiosep"
    """Frozen encoder; clap is another name of audiosep; spectral needs no weights."""
    encoder_weights: str | None = None
    """File or folder of the encoder's weights, or an id of the Hugging Face hub; by default found or downloaded."""
    features_path: Path | None = None
    """Features file; by default {output_dir}/{corpus}_features_{encoder}.pt."""
    shard: str | None = None
    """Share of the work of several processes, i/n with i from 0; by default that of torchrun's rank."""

    def problem(self) -> str | None:
        """Return a sentence that says which value makes no sense, if one does; asked before any work is done."""
        index, _, count = (self.shard or "0/1").partition("/")
        if not (index.isdecimal() and count.isdecimal() and int(index) < int(count)):
            return f"--shard is {self.shard!r}; expected i/n with i from 0 to n - 1, such as 0/4."
        return super().problem()


@dataclass(frozen=True)
class ComparisonConfig(CorpusConfig):
    """Train heads on cached embeddings, compare them, and save the best by validation."""

    data_dir: Path | None = None
    """Folder of the corpus, or the CSV file of a manifest; not needed with the --features_path of a finished file."""
    encoder: tuple[EncoderName, ...] = ("audiosep",)
    """Frozen encoders, one or several; clap is another name of audiosep; spectral needs no weights."""
    encoder_weights: tuple[str, ...] = ()
    """For each encoder file or folder of its weights, an id of the Hugging Face hub, or auto: found or downloaded."""
    features_path: tuple[Path, ...] = ()
    """Features files, one of each encoder; by default {output_dir}/{corpus}_features_{encoder}.pt."""
    download: bool = False
    """Fetch LibriSpeech dev-clean (338 MB) from OpenSLR into --data_dir (by default data) first."""
    download_url: str = "https://www.openslr.org/resources/12/dev-clean.tar.gz"
    """Where --download fetches from; OpenSLR's page lists mirrors in other parts of the world."""
    heads: tuple[HeadName, ...] = ("linear", "mlp", "lda")
    """Heads to compare, or all."""
    ensemble: bool = False
    """Also average the logits of all heads, of all encoders, and of both, as further rows."""
    scaler: ScalerName = "standard"
    """Scaler before the heads, fitted on training rows alone."""
    split_by: SplitBy = "utterance"
    """Whether utterances of one session may stand in both train and test, where the best head is chosen and saved."""
    fractions: tuple[float, float, float] = (0.8, 0.1, 0.1)
    """Shares of train, validation and test."""
    seed: int = 0
    """Of the split and of the heads."""
    seeds: int = 1
    """Splits, by this seed and the following ones; the table has means and deviations over them."""
    tune: bool = False
    """Try several settings of each head on each split and choose by validation, in parallel on a CPU."""
    tune_budget: int = 16
    """Settings that --tune tries of each head."""
    epochs: int = 100
    """Most passes over the training rows."""
    lr: float | None = None
    """Learning rate of Adam; by default 0.003 for linear and cosine, and 0.001 for the others."""
    batch_size: int = 32
    """Rows in a training step."""
    patience: int = 20
    """Epochs without a better validation accuracy before training stops."""
    class_weight: ClassWeight | None = None
    """With balanced each speaker counts the same in the loss, however many utterances there are."""
    balanced_sampling: bool = False
    """Draw each speaker as often as the others in an epoch."""
    head_options: tuple[str, ...] = ()
    """Further settings of the heads that have them, such as margin=0.3 scale=40 C=10 shrinkage=0.1."""

    def problem(self) -> str | None:
        """Return a sentence that says which value makes no sense, if one does; asked before any work is done."""
        if len(self.encoder_weights) not in (0, len(self.encoder)):
            n_places, n_encoders = len(self.encoder_weights), len(self.encoder)
            return f"--encoder_weights names {n_places}, --encoder {n_encoders}; give one each, auto to find it."
        for option in self.head_options:
            name, _, value = option.partition("=")
            if not (name and value):
                return f"--head_options has {option!r}; expected NAME=VALUE, such as margin=0.3."
            if hasattr(self, name):
                return f"--head_options has {option!r}, which has a flag of its own: --{name} {value}."
        if self.class_weight and self.balanced_sampling:
            return "--class_weight and --balanced_sampling both make rare speakers count more; give one of them."
        return super().problem()


@dataclass(frozen=True)
class InferenceConfig(ScriptConfig):
    """Tell who speaks in a file, or in each file of a folder."""

    audio_path: Path | None = None
    """Audio file, or a folder that is searched with all folders in it."""
    classifier: Path = Path("outputs/speaker_classifier_librispeech.pt")
    """Classifier that speaker_recognition_librispeech.py saved."""
    encoder_weights: tuple[str, ...] = ()
    """File or folder of each encoder's weights, where they are not found by themselves (auto for one that is)."""
    precision: Precision = "auto"
    """What the encoder computes in; auto is what the classifier was trained with."""
    top_k: int = 5
    """Speakers to name for each file."""
    reject: bool = False
    """Say unknown of strangers, by the threshold that training calibrated."""
    output: Path = Path("outputs/predictions.csv")
    """Where the predictions go: a .csv or a .json file."""
    device: str = "auto"
    """Where to compute: auto (CUDA where there is one), cpu, cuda, cuda:N or mps."""


@dataclass(frozen=True)
class ReportConfig(ScriptConfig):
    """Make the report of a comparison again."""

    output_dir: Path = Path("outputs")
    """Folder that the comparison wrote."""


@dataclass(frozen=True)
class TrialsConfig(ScriptConfig):
    """Score pairs of cached embeddings: are they of the same speaker?"""

    features_path: Path | None = None
    """Features file of the utterances that are compared."""
    trials: Path | None = None
    """List of pairs, as VoxCeleb (1 a.wav b.wav) or Kaldi (a b target) write them; by default all pairs."""
    triplets: int | None = None
    """Draw so many triplets at random instead of all pairs, and write them to trials.txt."""
    backend: tuple[BackendName, ...] = ("cosine",)
    """What scores a pair; all but cosine are trained, on other speakers than are scored."""
    train_features: Path | None = None
    """Features file of other speakers to train backends on; by default half of the speakers train."""
    as_norm: bool = False
    """Normalise scores by the nearest recordings of the training speakers."""
    seed: int = 0
    """Of the halves, the triplets and the intervals."""
    output_dir: Path = Path("outputs/verification")
    """Folder for what is written."""

    def problem(self) -> str | None:
        """Return a sentence that says which value makes no sense, if one does; asked before any work is done."""
        if not self.backend:
            return "--backend names none; give at least one."
        if self.trials is not None and self.triplets is not None:
            return "--trials and --triplets both say which pairs are scored; give one of them."
        return super().problem()


@dataclass(frozen=True)
class VerifierConfig(ScriptConfig):
    """Train a backend on cached embeddings, calibrate its scores on other speakers, and save both."""

    features_path: Path | None = None
    """Features file of many speakers; half of them train the backend, the other half calibrates it."""
    backend: BackendName = "cosine"
    """What scores a pair; cosine is not trained, and calibrated on all speakers."""
    seed: int = 0
    """Of the halves."""
    output: Path = Path("outputs/speaker_verifier.pt")
    """Where the verifier goes."""


@dataclass(frozen=True, kw_only=True)
class ListeningConfig(ScriptConfig):
    """What the commands of verification take that listen to audio."""

    encoder_weights: str | None = None
    """File or folder of the encoder's weights, where they are not found by themselves."""
    precision: Precision = "auto"
    """What the encoder computes in; auto is what the verifier was trained with."""
    device: str = "auto"
    """Where to compute: auto (CUDA where there is one), cpu, cuda, cuda:N or mps."""


@dataclass(frozen=True, kw_only=True)
class VerifyConfig(ListeningConfig):
    """Tell whether two recordings are of one speaker, or one is of an enrolled speaker."""

    is_positional: ClassVar[bool] = True
    audio: tuple[Path, ...]
    """The two audio files; with --store one."""
    verifier: Path = Path("outputs/speaker_verifier.pt")
    """Verifier that the command train saved; a store has its own."""
    store: Path | None = None
    """Store of the enrolled speaker."""
    name: str | None = None
    """Name of the enrolled speaker."""
    p_target: float = 0.5
    """How probable one speaker is before anything is heard: the operating point of the decision."""

    def problem(self) -> str | None:
        """Return a sentence that says which value makes no sense, if one does; asked before any work is done."""
        if (self.store is None) != (self.name is None):
            return "--store and --name go together: the speaker of that name in that store."
        if self.store is None and len(self.audio) != 2:
            return f"{len(self.audio)} audio files are named; give two, or one with --store and --name."
        if self.store is not None and len(self.audio) != 1:
            return f"{len(self.audio)} audio files are named; give one to compare with {self.name!r}."
        return super().problem()


@dataclass(frozen=True, kw_only=True)
class StoreConfig(ScriptConfig):
    """List the speakers who are enrolled."""

    store: Path = Path("outputs/speakers.db")
    """Store of the enrolled speakers."""


@dataclass(frozen=True, kw_only=True)
class EnrollConfig(StoreConfig, ListeningConfig):
    """Enrol a speaker by some recordings, or all speakers of a features file."""

    is_positional: ClassVar[bool] = True
    audio: tuple[Path, ...]
    """Audio files of the speaker, and folders of them."""
    name: str | None = None
    """Name of the speaker."""
    features_path: Path | None = None
    """Features file whose speakers are enrolled under their names, in place of audio."""
    existing: Existing = "refuse"
    """What to do with a speaker who is enrolled: refuse, add to the recordings, or replace them."""
    verifier: Path | None = None
    """Verifier for a new store, by default outputs/speaker_verifier.pt; a store that is there has its own."""

    def problem(self) -> str | None:
        """Return a sentence that says which value makes no sense, if one does; asked before any work is done."""
        if self.features_path is None and not (self.name and self.audio):
            return "Say who is enrolled and by what: --name NAME AUDIO ..., or --features_path FILE."
        if self.features_path is not None and (self.name or self.audio):
            return "--features_path enrols the speakers of the file under their own names; leave --name and AUDIO out."
        return super().problem()


@dataclass(frozen=True, kw_only=True)
class RemoveConfig(StoreConfig):
    """Forget an enrolled speaker."""

    name: str | None = None
    """Name of the speaker."""


@dataclass(frozen=True, kw_only=True)
class MergeConfig(StoreConfig):
    """Enrol the speakers of another store."""

    other: Path | None = None
    """The other store, which stays as it is."""
    existing: Existing = "refuse"
    """What to do with speakers who are enrolled in both: refuse, add to the recordings, or replace them."""


@dataclass(frozen=True, kw_only=True)
class IdentifyConfig(StoreConfig, ListeningConfig):
    """Tell which enrolled speaker speaks in a file, or in each file of a folder, or that none does."""

    audio_path: Path | None = None
    """Audio file, or a folder that is searched with all folders in it."""
    top_k: int = 5
    """Speakers to name for each file."""
    p_known: float = 0.5
    """How probable an enrolled speaker is before anything is heard: the operating point of the decision."""
    timeline: bool = False
    """Tell who speaks when, in windows over one file."""
    window: float = 2.0
    """Seconds of the windows of --timeline."""
    hop: float = 0.5
    """Seconds from one window to the next."""
    output: Path | None = None
    """Where the answers go: by default identified.csv beside the store (or a .json), with --timeline timeline.rttm."""


@dataclass(frozen=True, kw_only=True)
class ScoreConfig(StoreConfig):
    """Find the enrolled speakers that cached embeddings are likest to."""

    features_path: Path | None = None
    """Features file of the probes."""
    top_k: int = 5
    """Speakers to give for each probe."""
    output: Path = Path("outputs/scores.csv")
    """Where the scores go: a .csv file."""
