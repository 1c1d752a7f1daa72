"""Settings of the commands of speaker_verification.py."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, TypedDict

from configs.base import (
    BackendName,
    Channel,
    Count,
    Existing,
    InputPath,
    InputText,
    Layout,
    PictureFormat,
    Precision,
    Probability,
    Range,
    RecordingsConfig,
    Reference,
    ScriptConfig,
    Seconds,
    Seed,
    SpeechConfig,
    TableFormat,
)
from configs.paths import EVALUATION_FILES, PREDICTIONS_FILES, TURNS_FILES, Continues, Writes, WritesInto
from files import file_kinds


class TimelineSettings(TypedDict):
    """Settings of --timeline that depend on the speech detection.

    They are the length of a window (seconds), the log-likelihood ratio that a change of speaker must gain, and the
    minimum length of a turn (seconds).
    """

    window: float
    switch_cost: float
    min_turn: float


# Defaults without and with speech detection. The second were chosen by benchmarks/timelines.py on training recordings.
TIMELINE: TimelineSettings = {"window": 2.0, "switch_cost": 0.0, "min_turn": 0.0}
TIMELINE_OF_SPEECH: TimelineSettings = {"window": 1.5, "switch_cost": 1.0, "min_turn": 0.5}


@dataclass(frozen=True)
class EvaluateConfig(ScriptConfig):
    """Score trials of cached embeddings with backends, and report EER, minDCF and Cllr."""

    features_path: InputPath | None = None
    """Features file of the utterances in the trials."""
    trials: InputPath | None = None
    """List of trials in the format of VoxCeleb (1 a.wav b.wav) or Kaldi (a b target); by default all pairs."""
    triplets: Annotated[int, Range(1, 10**8)] | None = None
    """Number of triplets to draw at random instead of all pairs; their trials are saved in trials.txt."""
    backend: tuple[BackendName, ...] = ("cosine",)
    """Backends that score the trials; all except cosine are trained on speakers that are not in the trials."""
    train_features: InputPath | None = None
    """Features file of other speakers to train backends on; by default half of the speakers are used."""
    as_norm: bool = False
    """Normalise each score by the scores against the most similar recordings of the training speakers (AS-norm)."""
    seed: Seed = 0
    """Random seed of the split of the speakers, the triplets and the intervals."""
    output_dir: Annotated[Path, WritesInto(EVALUATION_FILES, {"trials.txt": "triplets"})] = Path("outputs/verification")
    """Folder for the output files."""
    picture_formats: tuple[PictureFormat, ...] = ("png",)
    """Formats of the pictures that are written beside the report."""
    table_format: TableFormat = "plain"
    """Format of the printed table; in Markdown and LaTeX it is also written to table.md or table.tex."""

    def problem(self) -> str | None:
        if not self.backend:
            return "--backend is empty; give at least one backend."
        if self.trials is not None and self.triplets is not None:
            return "--trials and --triplets both define the trials; give one of them."
        return super().problem()


@dataclass(frozen=True)
class TrainVerifierConfig(ScriptConfig):
    """Train a backend on cached embeddings, calibrate its scores on other speakers, and save both as a verifier."""

    features_path: InputPath | None = None
    """Features file of many speakers; half of the speakers train the backend, and the other half calibrates it."""
    backend: BackendName = "cosine"
    """Backend that scores pairs of recordings; cosine needs no training, so all speakers calibrate it."""
    seed: Seed = 0
    """Random seed of the split of the speakers."""
    output: Annotated[Path, Writes({"": file_kinds.VERIFIER})] = Path("outputs/speaker_verifier.pt")
    """File for the verifier."""


@dataclass(frozen=True, kw_only=True)
class EmbeddingConfig(SpeechConfig):
    """Settings of the verification commands that embed audio."""

    encoder_weights: InputText | None = None
    """File or folder of the encoder's weights, if they are not in the usual places."""
    encoder: Annotated[str, Reference("encoder")] | None = None
    """Own encoder of the verifier, as FILE.py:CLASS or MODULE:CLASS; those of this project are found by name."""
    precision: Precision = "auto"
    """Precision of the encoder; auto is the precision of the verifier's training features."""
    device: str = "auto"
    """Device: auto (CUDA if available), cpu, cuda, cuda:N or mps."""


@dataclass(frozen=True, kw_only=True)
class VerifyConfig(EmbeddingConfig):
    """Decide whether two recordings are of the same speaker, or whether one is of an enrolled speaker."""

    is_positional: ClassVar[bool] = True
    audio: tuple[InputPath, ...]
    """Two audio files, or one with --store."""
    channel: tuple[Channel, ...] = ("mean",)
    """Channel of the audio files, from 0, such as 0 or 1 for one side of a call, or mean of all channels; one for all
    files, or one for each."""
    verifier: InputPath | None = None
    """Verifier that the command train saved, or ready for the ready verifier, which uses the encoder campplus; by
    default outputs/speaker_verifier.pt if it exists, or else ready. Not used with --store, because a store contains its
    own verifier."""
    store: InputPath | None = None
    """Store of the enrolled speaker."""
    name: str | None = None
    """Name of the enrolled speaker."""
    p_target: Probability = 0.5
    """Prior probability that the speaker is the same; a higher value accepts more recordings."""

    def problem(self) -> str | None:
        if (self.store is None) != (self.name is None):
            return "--store and --name must be given together."
        if self.store is None and len(self.audio) != 2:
            return f"Expected two audio files, or one with --store and --name; found {len(self.audio)}."
        if self.store is not None and len(self.audio) != 1:
            return f"Expected one audio file to compare with {self.name!r}; found {len(self.audio)}."
        if len(self.channel) not in (1, len(self.audio)):
            return (
                f"--channel has {len(self.channel)} values for {len(self.audio)} audio files; give one for all of "
                "them, or one for each."
            )
        return super().problem()


@dataclass(frozen=True, kw_only=True)
class StoreConfig(ScriptConfig):
    """Settings of the commands that use a store."""

    store: InputPath = Path("outputs/speakers.db")
    """Store of the enrolled speakers."""


@dataclass(frozen=True, kw_only=True)
class ChangedStoreConfig(StoreConfig):
    """Settings of the commands that change a store."""

    store: Annotated[Path, Continues()] = StoreConfig.store
    """Store of the enrolled speakers."""


@dataclass(frozen=True, kw_only=True)
class ListConfig(StoreConfig):
    """List the enrolled speakers, or the recordings of one of them."""

    name: str | None = None
    """Name of the speaker whose recordings are listed."""


@dataclass(frozen=True, kw_only=True)
class ExportConfig(StoreConfig):
    """Write the models and the recordings' vectors of all enrolled speakers to an .npz file, for numpy and enroll."""

    output: Annotated[Path, Writes({".npz": file_kinds.VOICES})] = Path("outputs/voices.npz")
    """File for the speakers, .npz."""


@dataclass(frozen=True, kw_only=True)
class EnrollConfig(ChangedStoreConfig, EmbeddingConfig):
    """Enrol a speaker with some recordings, or all speakers of a corpus, an RTTM file or a features file."""

    is_positional: ClassVar[bool] = True
    audio: tuple[InputPath, ...]
    """Audio files of the speaker, or folders of audio files; with --rttm, the recordings that it describes."""
    name: str | None = None
    """Name of the speaker."""
    data_dir: InputPath | None = None
    """Folder of a corpus, for example with a folder for each speaker, or the CSV file of a manifest; all of its
    speakers are enrolled under their own names."""
    layout: Layout = "auto"
    """Layout of the corpus; auto detects the layout and logs it."""
    pattern: str | None = None
    """Where the speaker and the session are in the paths below --data_dir, instead of a layout, such as
    '{speaker}_{session}_*'."""
    channel: Channel = "mean"
    """Channel of the recordings, from 0, such as 0 or 1 for one side of a call; or mean of all channels. Recordings
    whose channel a manifest gives are enrolled with that channel."""
    start: Annotated[float, Range(0, 1e6)] | None = None
    """Start of the part of one recording that is enrolled (seconds)."""
    duration: Seconds | None = None
    """Length of the part of one recording that is enrolled (seconds); by default to the end."""
    rttm: InputPath | None = None
    """RTTM file that says who speaks when in the recordings; its speakers are enrolled with the segments in which they
    speak alone, under the names in the file or, for one speaker, --name."""
    rttm_speaker: str | None = None
    """The only speaker of the RTTM file to enrol."""
    features_path: InputPath | None = None
    """Features file, or file of the command export, to use instead of audio; all of its speakers are enrolled under
    their own names."""
    existing: Existing = "refuse"
    """Action for a speaker who is enrolled already: refuse, add the recordings, or replace the earlier ones."""
    verifier: InputPath | None = None
    """Verifier for a new store: a file that the command train saved, or ready for the ready verifier, which uses the
    encoder campplus; by default outputs/speaker_verifier.pt if it exists, or else ready. An existing store contains its
    own verifier."""
    background: InputPath | None = None
    """Folder with recordings of people who need not be enrolled, made as those to identify; they adapt the calibration
    of the ready verifier. Recordings that match an enrolled speaker are left out. The flag may be given alone."""

    def problem(self) -> str | None:
        is_part = self.start is not None or self.duration is not None
        if self.features_path is not None and self.data_dir is not None:
            return "--features_path and --data_dir both give the speakers; give one of them."
        for flag, given in (("features_path", self.features_path), ("data_dir", self.data_dir)):
            if given is not None and (self.name or self.audio or self.rttm or is_part):
                return f"--{flag} enrols all speakers under their own names; leave out --name, AUDIO and parts of it."
        if self.features_path is not None and self.channel != "mean" and self.background is None:
            return "--channel is a channel of audio; it has no effect on --features_path. Leave it out."
        if self.pattern is not None and self.data_dir is None:
            return "--pattern says where the speaker is in the paths of a corpus; give --data_dir FOLDER too."
        if self.rttm is not None and is_part:
            return "--rttm and --start or --duration both give the parts of the recordings; give one of them."
        if self.rttm is None and self.rttm_speaker is not None:
            return "--rttm_speaker is a name in an RTTM file; give --rttm FILE too."
        if self.rttm is not None and not self.audio:
            return "Give the recordings that the RTTM file describes: --rttm FILE AUDIO ...."
        if is_part and len(self.audio) != 1:
            return f"--start and --duration are for a part of one recording; found {len(self.audio)} recordings."
        return self._missing() or super().problem()

    def _missing(self) -> str | None:
        """Return a sentence if neither speakers nor background recordings are given."""
        is_background_alone = self.background is not None and not (self.name or self.audio)
        if self.features_path or self.data_dir or self.rttm or (self.name and self.audio) or is_background_alone:
            return None
        return (
            "Give the speaker and the recordings: --name NAME AUDIO ...; or several speakers: --data_dir FOLDER with a "
            "folder for each, or --features_path FILE."
        )


@dataclass(frozen=True, kw_only=True)
class RemoveConfig(ChangedStoreConfig):
    """Remove an enrolled speaker, one recording of a speaker, or the background recordings."""

    name: str | None = None
    """Name of the speaker."""
    recording: str | None = None
    """Recording to remove, as list --name shows it, or its file if all of it was enrolled; the other recordings of the
    speaker stay enrolled."""
    background: bool = False
    """Remove the recordings that enroll --background added."""

    def problem(self) -> str | None:
        if self.recording is not None and self.name is None:
            return "--recording is a recording of one speaker; give --name NAME too."
        return super().problem()


@dataclass(frozen=True, kw_only=True)
class MergeConfig(ChangedStoreConfig):
    """Enrol the speakers of another store."""

    other: InputPath | None = None
    """The other store, which is not changed."""
    existing: Existing = "refuse"
    """Action for speakers who are enrolled in both: refuse, add the recordings, or replace the earlier ones."""


@dataclass(frozen=True, kw_only=True)
class IdentifyConfig(RecordingsConfig, StoreConfig, EmbeddingConfig):
    """Identify the enrolled speaker in a file, or in each file of a folder, or report unknown."""

    top_k: Count = 5
    """Maximum number of speakers per file."""
    p_known: Probability | None = None
    """Prior probability that the speaker is enrolled, by default 0.5; a lower value reports unknown for more
    recordings."""
    far: Annotated[float, Range(1e-6, 0.5)] | None = None
    """Share of the recordings of unknown speakers to accept (false-accept rate), such as 0.01; it sets the threshold,
    instead of --p_known."""
    timeline: bool = False
    """Report who speaks when in one file."""
    segments: InputPath | None = None
    """RTTM file that says which segments of one file are of the same speaker; each of its labels gets the enrolled
    speaker of its segments, or is unknown."""
    allow_repeats: bool = False
    """Whether several labels of --segments may get the same speaker."""
    window: Seconds | None = None
    """Length of the windows of --timeline (seconds), by default 2, and 1.5 with speech detection (--vad)."""
    hop: Seconds = 0.5
    """Time from the start of a window of --timeline to the start of the next (seconds)."""
    switch_cost: Annotated[float, Range(0, 1e6)] | None = None
    """Log-likelihood ratio that a change of the speaker must gain in --timeline, by default 1 with speech detection; 0,
    the default without it, decides each window alone."""
    min_turn: Annotated[float, Range(0, 1e6)] | None = None
    """Minimum length of a turn of --timeline (seconds), by default 0, and 0.5 with speech detection; a shorter one is
    given to the turn beside it, or left out if there is none."""
    output: (
        Annotated[Path, Writes({**PREDICTIONS_FILES, ".rttm": file_kinds.RTTM}, beside={".rttm": TURNS_FILES})] | None
    ) = None
    """File for the results, .csv or .json; with --timeline or --segments, .rttm, and a .csv file and a page of the same
    name are written beside it. By default identified.csv, timeline.rttm or segments.rttm in the folder of the store."""

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "output", self.results)

    @property
    def results(self) -> Path:
        """File for the results, from the flag or beside the store."""
        name = "segments.rttm" if self.segments else "timeline.rttm" if self.timeline else "identified.csv"
        return self.store.parent / name if self.output is None else self.output

    def smoothing(self, has_detection: bool) -> TimelineSettings:
        """Return the settings of --timeline, from the flags or by default."""
        default = TIMELINE_OF_SPEECH if has_detection else TIMELINE
        return {
            "window": default["window"] if self.window is None else self.window,
            "switch_cost": default["switch_cost"] if self.switch_cost is None else self.switch_cost,
            "min_turn": default["min_turn"] if self.min_turn is None else self.min_turn,
        }

    def problem(self) -> str | None:
        if self.far is not None and self.p_known is not None:
            return "--far and --p_known both set the threshold; give one of them."
        if self.timeline and self.segments is not None:
            return "--timeline finds the turns, and --segments gives them; give one of the two."
        if self.allow_repeats and self.segments is None:
            return "--allow_repeats is for the labels of an RTTM file; give --segments FILE too."
        suffixes = [".rttm"] if self.timeline or self.segments is not None else list(PREDICTIONS_FILES)
        if self.results.suffix.lower() not in suffixes:
            listed = " or ".join(suffixes)
            return f"{self.results}: the output is a {listed} file; give --output a name that ends in {listed}."
        return super().problem()


@dataclass(frozen=True, kw_only=True)
class ScoreConfig(StoreConfig):
    """Find the enrolled speakers that cached embeddings are most similar to."""

    features_path: InputPath | None = None
    """Features file of the recordings to score."""
    top_k: Count = 5
    """Maximum number of speakers per recording."""
    output: Annotated[Path, Writes({".csv": file_kinds.SCORES})] = Path("outputs/scores.csv")
    """File for the scores, .csv."""
