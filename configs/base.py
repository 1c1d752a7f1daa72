"""Choices, ranges, and the settings that all scripts have."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, get_args, get_origin, get_type_hints

from configs.paths import Reads, check_outputs, use_existing_forms
from files import is_reference, unknown_choice

# Choices. A test compares them with the registries.
Layout = Literal[
    "auto", "librispeech", "voxceleb", "vctk", "aishell1", "aishell4", "timit", "commonvoice", "folder", "manifest"
]  # fmt: skip
EncoderName = Literal[
    "campplus", "ecapa", "resemblyzer", "audiosep", "clap", "wav2vec2", "spectral", "scratch", "trained", "onnx"
]  # fmt: skip
Pooling = Literal["mean", "mean+std", "last"]
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
SplitBy = Literal["utterance", "session", "given"]
PictureFormat = Literal["png", "pdf", "svg"]
TableFormat = Literal["plain", "markdown", "latex"]
LogLevel = Literal["debug", "info", "warning", "error"]


@dataclass(frozen=True)
class Range:
    """Lowest and highest value of a setting; `is_open` excludes both."""

    lowest: float
    highest: float
    is_open: bool = False

    def __contains__(self, value: float) -> bool:
        if self.is_open:
            return self.lowest < value < self.highest
        return self.lowest <= value <= self.highest

    def problem(self, flag: str, value: Any, *, names: Sequence[str]) -> str | None:
        """Return a sentence about a number out of the range, or None; other values, such as `names`, are valid."""
        if isinstance(value, int | float) and value not in self:
            return f"--{flag} is {value:g}; expected {self}."
        return None

    def __str__(self) -> str:
        if self.is_open:
            return f"above {self.lowest:g} and below {self.highest:g}"
        return f"{self.lowest:g} to {self.highest:g}"


@dataclass(frozen=True)
class Reference:
    """A class of the user, as FILE.py:CLASS or MODULE:CLASS.

    Attributes
    ----------
    what : str
        Kind of class, for error messages.
    """

    what: str

    def problem(self, flag: str, value: str | None, *, names: Sequence[str]) -> str | None:
        """Return a sentence about a value that is neither one of the `names` nor a class, or None."""
        if value is None or value in names or is_reference(value):
            return None
        form = f"an own {self.what} is given as --{flag} FILE.py:CLASS or MODULE:CLASS"
        if not names:
            saved = f"the {self.what} of this project that was saved is found by name, without --{flag}"
            return f"--{flag} has {value!r}; {form}, and {saved}."
        if value.endswith((".py", ".py:")):
            return f"--{flag} has {value!r}; {form}."
        return f"{unknown_choice(self.what, value, names)} {form[0].upper()}{form[1:]}."


EncoderChoice = EncoderName | Annotated[str, Reference("encoder")]
HeadChoice = HeadName | Annotated[str, Reference("head")]
Seconds = Annotated[float, Range(0.01, 1e6)]
Channel = Annotated[int, Range(0, 1000)] | Literal["mean"]
Count = Annotated[int, Range(1, 10**6)]
Seed = Annotated[int, Range(0, 2**32 - 1)]
Probability = Annotated[float, Range(0, 1, is_open=True)]
InputPath = Annotated[Path, Reads()]
InputText = Annotated[str, Reads()]


@dataclass(frozen=True)
class ScriptConfig:
    """Settings that all scripts have."""

    is_positional: ClassVar[bool] = False
    """Whether arguments without a default are given without a flag, as in: verify A.wav B.wav."""
    after_interrupt: ClassVar[str] = ""
    """Sentence for a user who interrupted the script: what the same command continues."""
    is_joint: ClassVar[bool] = False
    """Whether the processes that torchrun starts do one job together; one of them logs, and one reports an error."""

    config: InputPath | None = None
    """YAML file with values of flags, such as log_level: warning; flags on the command line override it."""
    log_level: LogLevel = "info"
    """Lowest level of messages to log."""
    version: bool = False
    """Print the version and exit."""

    def __post_init__(self) -> None:
        use_existing_forms(self)

    def problem(self) -> str | None:
        """Return a sentence about the first invalid value, or None. Scripts call this before they start work."""
        for name, annotation in get_type_hints(type(self), include_extras=True).items():
            value = getattr(self, name)
            for mark in _marks(annotation):
                for each in value if isinstance(value, tuple) else (value,):
                    problem = mark.problem(name, each, names=choices(annotation))
                    if problem:
                        return problem
        return None

    def check_outputs(self, **names: str) -> None:
        """Refuse outputs that would destroy a file, as `configs.paths.check_outputs` does, before work starts."""
        check_outputs(self, **names)


@dataclass(frozen=True, kw_only=True)
class SpeechConfig(ScriptConfig):
    """Settings of the speech detection, for the commands that embed audio."""

    vad: bool | None = None
    """Find the speech in each recording with the network of silero-vad, and leave out everything else; with --no_vad,
    recordings are used with their pauses; by default as the classifier, verifier or store was made, else --no_vad."""
    vad_threshold: Probability = 0.2
    """Probability at which speech begins; a lower value finds quieter speech and more noise. Not used without --vad."""
    vad_min_speech: Annotated[float, Range(0, 60)] = 0.25
    """Shorter speech is left out (seconds). Not used without --vad."""

    def speech_detection(self) -> dict[str, float] | Literal[False] | None:
        """Return the settings of the speech detection, as encoders take them, False with --no_vad, or else None."""
        if not self.vad:
            return None if self.vad is None else False
        return {"threshold": self.vad_threshold, "min_speech": self.vad_min_speech}

    def problem(self) -> str | None:
        for name in ("vad_threshold", "vad_min_speech"):
            if not self.vad and getattr(self, name) != getattr(SpeechConfig, name):
                return f"--{name} is a setting of the speech detection; give --vad too."
        return super().problem()


@dataclass(frozen=True, kw_only=True)
class RecordingsConfig(ScriptConfig):
    """Settings of the commands that identify the speakers of recordings."""

    is_positional: ClassVar[bool] = True
    audio: tuple[InputPath, ...]
    """Audio files, or folders whose files and subfolders are searched."""
    audio_path: InputPath | None = None
    """One audio file or folder, instead of AUDIO."""
    channel: Channel = "mean"
    """Channel of the recordings, from 0, such as 0 or 1 for one side of a call; or mean of all channels."""

    @property
    def recordings(self) -> tuple[Path, ...]:
        """Files and folders, as arguments or from the flag."""
        return self.audio if self.audio_path is None else (self.audio_path,)

    def problem(self) -> str | None:
        if self.audio and self.audio_path is not None:
            return "The recordings are given as arguments and with --audio_path; give them in one of the two ways."
        return super().problem()


@dataclass(frozen=True, kw_only=True)
class CorpusConfig(ScriptConfig):
    """Settings of the commands that read a corpus."""

    is_positional: ClassVar[bool] = True
    after_interrupt: ClassVar[str] = "Run the same command again to continue."

    corpus: tuple[InputPath, ...]
    """Folder of the corpus, or the CSV file of a manifest."""
    data_dir: InputPath | None = None
    """Folder of the corpus, or the CSV file of a manifest, instead of CORPUS."""
    layout: Layout = "auto"
    """Layout of the corpus; auto detects the layout and logs it."""
    pattern: str | None = None
    """Where the speaker and the session are in the paths below --data_dir, instead of a layout, such as
    '{speaker}_{session}_*'."""
    channel: Channel = "mean"
    """Channel of the recordings, from 0, such as 0 or 1 for one side of a call; or mean of all channels. Recordings
    whose channel a manifest gives are read in that channel."""

    def __post_init__(self) -> None:
        super().__post_init__()
        # The rest of the code reads `data_dir` alone.
        if self.corpus and self.data_dir is None:
            object.__setattr__(self, "data_dir", self.corpus[0])

    def problem(self) -> str | None:
        if len(self.corpus) > 1:
            return f"Expected one corpus; found {len(self.corpus)}: {', '.join(map(str, self.corpus))}."
        if self.corpus and self.data_dir != self.corpus[0]:
            return "The corpus is given as an argument and with --data_dir; give it in one of the two ways."
        return super().problem()


def channel_number(channel: Channel) -> int | None:
    """Return the number of a channel, from 0, or None for the mean of all."""
    return None if isinstance(channel, str) else channel


def choices(annotation: Any) -> list[str]:
    """Return the words that an annotation lists."""
    if get_origin(annotation) is Literal:
        return [str(choice) for choice in get_args(annotation)]
    return [choice for part in get_args(annotation) for choice in choices(part)]


def _marks(annotation: Any) -> list[Range | Reference]:
    """Return the ranges and references within a type annotation."""
    parts = [*get_args(annotation), *getattr(annotation, "__metadata__", ())]
    return [part for part in parts if isinstance(part, Range | Reference)] + [
        mark for part in get_args(annotation) for mark in _marks(part)
    ]


def assignment_problem(config: ScriptConfig, flag: str, also: Sequence[str] = ()) -> str | None:
    """Return a sentence about the first invalid value of a flag, or None.

    A value is invalid if it is not NAME=VALUE, or if NAME has its own flag, except the names `also`, or is given twice.
    """
    names = set()
    for text in getattr(config, flag):
        name, _, value = text.partition("=")
        if not (name and value):
            return f"--{flag} has {text!r}; expected NAME=VALUE."
        if name in get_type_hints(type(config)) and name not in also:
            return f"--{flag} has {text!r}, but {name} has its own flag; give --{name} {value}."
        if name in names:
            return f"--{flag} has more than one value of {name}; give one."
        names.add(name)
    return None


def fractions_problem(fractions: Sequence[float]) -> str | None:
    """Return a sentence about shares of the training, validation and test parts that do not fit together, or None."""
    if fractions[0] > 0 and min(fractions) >= 0 and abs(sum(fractions) - 1) <= 1e-6:
        return None
    shares = " ".join(map(str, fractions))
    return (
        f"--fractions is {shares}; expected three shares that sum to 1; the first (training) must be above 0, the "
        "others at least 0."
    )
