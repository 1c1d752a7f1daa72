"""Settings of the scripts that extract features, compare heads and use the classifier."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from configs.base import (
    ClassWeight,
    CorpusConfig,
    Count,
    EncoderChoice,
    HeadChoice,
    InputPath,
    InputText,
    PictureFormat,
    Pooling,
    Precision,
    Range,
    RecordingsConfig,
    Reference,
    ScalerName,
    ScriptConfig,
    Seconds,
    Seed,
    SpeechConfig,
    SplitBy,
    StoreDtype,
    TableFormat,
    assignment_problem,
    fractions_problem,
)
from configs.paths import COMPARISON_FILES, ONNX_FILES, PREDICTIONS_FILES, REPORT_FILES, Continues, Writes, WritesInto


@dataclass(frozen=True, kw_only=True)
class EmbeddedCorpusConfig(SpeechConfig, CorpusConfig):
    """Settings of the corpus and of its embeddings."""

    max_duration: Seconds | Literal["auto"] | None = "auto"
    """Maximum duration of an utterance (seconds); None is no limit; auto is no limit with --window and for campplus,
    ecapa, resemblyzer, onnx and trained, and 10 otherwise."""
    max_bandwidth: Annotated[int, Range(1000, 192_000)] | None = None
    """Highest frequency that is kept of all audio (Hz), such as 4000 if some recordings come from a telephone; by
    default all frequencies."""
    window: Seconds | None = None
    """Length of windows (seconds) that cover a whole utterance; their embeddings are averaged (campplus, ecapa, onnx,
    audiosep, wav2vec2)."""
    hop: Seconds | None = None
    """Time from the start of a window to the start of the next (seconds); by default half a window."""
    layers: str | None = None
    """Layers of the encoder: all, last, a number N, or a range N-M; or xvector, the embedding of a speaker model
    (wav2vec2; by default xvector for speaker models, and all for others)."""
    pooling: Pooling | None = None
    """Statistics of the frames over time: mean or mean+std for wav2vec2, mean or last for scratch; by default mean."""
    encoder_options: tuple[str, ...] = ()
    """Other options of the encoder, such as n_mfcc=30 for spectral."""
    precision: Precision = "auto"
    """Precision of the encoder; auto is fp32."""
    store_dtype: StoreDtype = "fp32"
    """Data type of the stored features; fp16 halves the size of the file."""
    encoder_batch_size: Count | None = None
    """Maximum number of utterances per forward pass of the encoder; the default depends on the device."""
    num_workers: Annotated[int, Range(0, 1000)] | Literal["auto"] = "auto"
    """Number of processes that decode audio; auto is one per core, at most 16; 0 uses threads instead."""
    output_dir: Annotated[Path, WritesInto({})] = Path("outputs")
    """Folder for the output files."""
    device: str = "auto"
    """Device: auto (CUDA if available), cpu, cuda, cuda:N or mps."""

    def encoder_settings(self) -> dict[str, Any]:
        """Return the encoder options that have their own flag and were given; `encoder_options` holds the others."""
        return _given({"layers": self.layers, "pooling": self.pooling, "window": self.window, "hop": self.hop})

    def problem(self) -> str | None:
        if self.hop is not None and self.window is None:
            return "--hop is the step between windows; give --window too."
        # The option vad of resemblyzer is that of its own package.
        return assignment_problem(self, "encoder_options", also=("vad",)) or super().problem()


@dataclass(frozen=True, kw_only=True)
class ExtractionConfig(EmbeddedCorpusConfig):
    """Extract the embeddings of a corpus into a features file."""

    encoder: EncoderChoice = "audiosep"
    """Frozen encoder, or an own one as FILE.py:CLASS or MODULE:CLASS; clap is another name of audiosep; spectral needs
    no weights."""
    encoder_weights: InputText | None = None
    """File or folder of the encoder's weights, or a Hugging Face hub id; by default searched for or downloaded."""
    features_path: Annotated[Path, Continues()] | None = None
    """Features file, .pt or .npz; by default {output_dir}/{corpus}_features_{encoder}.pt."""
    download_weights: bool = False
    """Only download the encoder's weights, and with --vad those of the speech detection, if they are not on this
    machine."""
    export_onnx: Annotated[Path, Writes(ONNX_FILES)] | None = None
    """Only write the network of the encoder as this .onnx file, with the metadata of sherpa-onnx (campplus, and trained
    with the front end fbank)."""
    shard: str | None = None
    """Part of the corpus to extract, as i/n: part i of n, with i from 0; by default all, or that of torchrun's rank."""

    def problem(self) -> str | None:
        index, _, count = (self.shard or "0/1").partition("/")
        if not (index.isdecimal() and count.isdecimal() and int(index) < int(count)):
            return f"--shard is {self.shard!r}; expected i/n with i from 0 to n - 1, such as 0/4."
        if self.export_onnx is not None:
            given = {
                f"the corpus, {self.data_dir}": self.data_dir is not None,
                "--features_path": self.features_path is not None,
                "--shard": self.shard is not None,
                "--download_weights": self.download_weights,
            }
            if any(given.values()):
                unused = " and ".join(name for name, is_given in given.items() if is_given)
                return f"--export_onnx writes the encoder alone; leave out {unused}."
        return super().problem()


@dataclass(frozen=True, kw_only=True)
class ComparisonConfig(EmbeddedCorpusConfig):
    """Train heads on cached embeddings, compare them, and save the best by validation."""

    after_interrupt: ClassVar[str] = "The same command keeps finished embeddings, and trains all heads again."

    corpus: tuple[InputPath, ...]
    """Folder of the corpus, or the CSV file of a manifest; not needed with a finished --features_path."""
    encoder: tuple[EncoderChoice, ...] = ("audiosep",)
    """Frozen encoders, one or several, or own ones as FILE.py:CLASS or MODULE:CLASS; clap is another name of audiosep;
    spectral needs no weights."""
    encoder_weights: tuple[InputText, ...] = ()
    """For each encoder, the file or folder of its weights, a Hugging Face hub id, or auto to search or download."""
    features_path: tuple[Annotated[Path, Continues()], ...] = ()
    """Features files, .pt or .npz, one for each encoder; by default {output_dir}/{corpus}_features_{encoder}.pt."""
    download: bool = False
    """First download LibriSpeech dev-clean (338 MB) from OpenSLR into --data_dir (by default data)."""
    download_url: str = "https://www.openslr.org/resources/12/dev-clean.tar.gz"
    """URL for --download; OpenSLR lists mirrors in other parts of the world."""
    heads: tuple[HeadChoice, ...] = ("linear", "mlp", "lda")
    """Heads to compare, or all; own heads and classifiers of scikit-learn as FILE.py:CLASS or MODULE:CLASS, such as
    sklearn.svm:SVC."""
    ensemble: bool = False
    """Also evaluate ensembles, which average the logits of all heads, of all encoders, and of both."""
    refit: bool = True
    """Fit the saved classifier on all utterances after the figures are made, instead of on the training part only."""
    scaler: ScalerName = "standard"
    """Scaler that transforms the embeddings before the heads; fitted on the training set only."""
    split_by: SplitBy = "utterance"
    """Kind of split that selects the saved head; with session, each speaker is tested in new sessions; given uses the
    splits of the corpus."""
    fractions: tuple[float, float, float] = (0.8, 0.1, 0.1)
    """Shares of the training, validation and test sets."""
    seed: Seed = 0
    """Random seed of the first split and of its heads."""
    seeds: Annotated[int, Range(1, 1000)] = 1
    """Number of splits; their seeds count up from --seed. The table shows means and standard deviations."""
    tune: bool = False
    """Try several settings of each head on each split, in parallel on a CPU, and keep the best on validation data."""
    tune_budget: Annotated[int, Range(2, 10_000)] = 16
    """Number of settings that --tune tries for each head."""
    epochs: Count = 100
    """Maximum number of passes over the training set."""
    lr: Annotated[float, Range(1e-12, 1e3)] | None = None
    """Learning rate of Adam; by default 0.003 for linear and cosine, and 0.001 for the others."""
    batch_size: Annotated[int, Range(1, 10**7)] = 32
    """Number of embeddings per training step."""
    patience: Count = 20
    """Number of epochs without a better validation accuracy after which training stops."""
    class_weight: ClassWeight | None = None
    """Weights in the loss; balanced gives every speaker the same total weight, however many utterances there are."""
    balanced_sampling: bool = False
    """Draw each speaker equally often in an epoch."""
    head_options: tuple[str, ...] = ()
    """Other options of the heads, such as margin=0.3 scale=40 C=10 shrinkage=0.1."""
    output_dir: Annotated[Path, WritesInto(COMPARISON_FILES)] = Path("outputs")
    """Folder for the output files."""
    picture_formats: tuple[PictureFormat, ...] = ("png",)
    """Formats of the pictures that are written beside the report."""
    table_format: TableFormat = "plain"
    """Format of the printed table; in Markdown and LaTeX it is also written to table.md or table.tex."""

    def head_settings(self) -> dict[str, Any]:
        """Return the hyper-parameters that have their own flag and were given; `head_options` holds the others."""
        return _given(
            {
                "epochs": self.epochs,
                "lr": self.lr,
                "batch_size": self.batch_size,
                "patience": self.patience,
                "device": self.device,
                "class_weight": self.class_weight,
                "balanced_sampling": self.balanced_sampling,
            }
        )

    def problem(self) -> str | None:
        if len(self.encoder_weights) not in (0, len(self.encoder)):
            n_weights, n_encoders = len(self.encoder_weights), len(self.encoder)
            values = "value" if n_weights == 1 else "values"
            return (
                f"--encoder_weights has {n_weights} {values}, but --encoder has {n_encoders}; give one value (or auto) "
                "for each encoder."
            )
        of_extraction = ("pattern", "pooling", "max_bandwidth", "vad", "window", "hop", "encoder_options")
        unused = [name for name in of_extraction if getattr(self, name) not in (None, ())]
        unused += [] if self.channel == "mean" else ["channel"]
        if self.data_dir is None and self.features_path and unused:
            name = unused[0]
            return f"--{name} has no effect on a finished features file; give the corpus too, or leave --{name} out."
        if not self.heads:
            return "--heads is empty; give at least one head."
        shares_problem = fractions_problem(self.fractions)
        if shares_problem is not None:
            return shares_problem
        if self.split_by == "given" and self.fractions != (0.8, 0.1, 0.1):
            return "--fractions has no effect on the splits that the corpus gives; leave out --fractions or --split_by."
        if self.class_weight and self.balanced_sampling:
            return "--class_weight and --balanced_sampling both give rare speakers more weight; give one of them."
        return assignment_problem(self, "head_options") or super().problem()


@dataclass(frozen=True, kw_only=True)
class InferenceConfig(SpeechConfig, RecordingsConfig):
    """Identify the speaker of a file, or of each file in a folder."""

    classifier: InputPath = Path("outputs/speaker_classifier_librispeech.pt")
    """Classifier that speaker_recognition_librispeech.py saved."""
    encoder_weights: tuple[InputText, ...] = ()
    """For each encoder, the file or folder of its weights, or auto if they are in the usual places."""
    encoder: tuple[Annotated[str, Reference("encoder")], ...] = ()
    """Own encoders of the classifier, as FILE.py:CLASS or MODULE:CLASS; those of this project are found by name."""
    heads: tuple[Annotated[str, Reference("head")], ...] = ()
    """Own heads of the classifier, as FILE.py:CLASS or MODULE:CLASS; those of this project are found by name."""
    precision: Precision = "auto"
    """Precision of the encoder; auto is the precision of the training features."""
    top_k: Count = 5
    """Maximum number of speakers per file."""
    reject: bool = False
    """Report unknown for recordings whose score is below the threshold stored in the classifier."""
    output: Annotated[Path, Writes(PREDICTIONS_FILES)] = Path("outputs/predictions.csv")
    """File for the predictions, .csv or .json."""
    device: str = "auto"
    """Device: auto (CUDA if available), cpu, cuda, cuda:N or mps."""


@dataclass(frozen=True, kw_only=True)
class ReportConfig(ScriptConfig):
    """Make the report of a comparison again from its saved results."""

    is_positional: ClassVar[bool] = True

    folder: tuple[Annotated[Path, WritesInto(REPORT_FILES)], ...]
    """Folder with the results of the comparison."""
    output_dir: Annotated[Path, WritesInto(REPORT_FILES)] | None = None
    """Folder with the results, instead of FOLDER; by default outputs."""
    picture_formats: tuple[PictureFormat, ...] = ("png",)
    """Formats of the pictures that are written beside the report."""
    table_format: TableFormat = "plain"
    """Format in which the table is printed and written to table.md or table.tex; plain prints no table."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.folder:
            object.__setattr__(self, "output_dir", self.results)

    @property
    def results(self) -> Path:
        """Folder of the results, as an argument or from the flag."""
        return self.folder[0] if self.folder else self.output_dir or Path("outputs")

    def problem(self) -> str | None:
        if len(self.folder) > 1:
            return f"{len(self.folder)} folders are given; make the report of one."
        if self.folder and self.output_dir is not None:
            return "The folder is given as an argument and with --output_dir; give it in one of the two ways."
        return super().problem()


def _given(settings: dict[str, Any]) -> dict[str, Any]:
    """Return only the settings that were given."""
    return {name: value for name, value in settings.items() if value is not None}
