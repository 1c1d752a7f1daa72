"""Settings of the commands of speaker_verification.py."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from configs.base import BackendName, Count, Existing, Precision, Probability, Range, ScriptConfig, Seconds, Seed


@dataclass(frozen=True)
class EvaluateConfig(ScriptConfig):
    """Score trials of cached embeddings with backends, and report EER, minDCF and Cllr."""

    features_path: Path | None = None
    """Features file of the utterances in the trials."""
    trials: Path | None = None
    """List of trials in the format of VoxCeleb (1 a.wav b.wav) or Kaldi (a b target); by default all pairs."""
    triplets: Annotated[int, Range(1, 10**8)] | None = None
    """Number of triplets to draw at random instead of all pairs; their trials are saved in trials.txt."""
    backend: tuple[BackendName, ...] = ("cosine",)
    """Backends that score the trials; all except cosine are trained on speakers that are not in the trials."""
    train_features: Path | None = None
    """Features file of other speakers to train backends on; by default half of the speakers are used."""
    as_norm: bool = False
    """Normalise each score by the scores against the most similar recordings of the training speakers (AS-norm)."""
    seed: Seed = 0
    """Random seed of the split of the speakers, the triplets and the intervals."""
    output_dir: Path = Path("outputs/verification")
    """Folder for the output files."""

    def problem(self) -> str | None:
        if not self.backend:
            return "--backend is empty; give at least one backend."
        if self.trials is not None and self.triplets is not None:
            return "--trials and --triplets both define the trials; give one of them."
        return super().problem()


@dataclass(frozen=True)
class TrainVerifierConfig(ScriptConfig):
    """Train a backend on cached embeddings, calibrate its scores on other speakers, and save both as a verifier."""

    features_path: Path | None = None
    """Features file of many speakers; half of the speakers train the backend, and the other half calibrates it."""
    backend: BackendName = "cosine"
    """Backend that scores pairs of recordings; cosine needs no training, so all speakers calibrate it."""
    seed: Seed = 0
    """Random seed of the split of the speakers."""
    output: Path = Path("outputs/speaker_verifier.pt")
    """File for the verifier."""


@dataclass(frozen=True, kw_only=True)
class EmbeddingConfig(ScriptConfig):
    """Settings of the verification commands that embed audio."""

    encoder_weights: str | None = None
    """File or folder of the encoder's weights, if they are not in the usual places."""
    precision: Precision = "auto"
    """Precision of the encoder; auto is the precision of the verifier's training features."""
    device: str = "auto"
    """Device: auto (CUDA if available), cpu, cuda, cuda:N or mps."""


@dataclass(frozen=True, kw_only=True)
class VerifyConfig(EmbeddingConfig):
    """Decide whether two recordings are of the same speaker, or whether one is of an enrolled speaker."""

    is_positional: ClassVar[bool] = True
    audio: tuple[Path, ...]
    """Two audio files, or one with --store."""
    verifier: Path | None = None
    """Verifier that the command train saved, or ready for the ready verifier, which uses the encoder campplus; by
    default outputs/speaker_verifier.pt if it exists, or else ready. Not used with --store, because a store contains its
    own verifier."""
    store: Path | None = None
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
        return super().problem()


@dataclass(frozen=True, kw_only=True)
class StoreConfig(ScriptConfig):
    """Settings of the commands that use a store."""

    store: Path = Path("outputs/speakers.db")
    """Store of the enrolled speakers."""


@dataclass(frozen=True, kw_only=True)
class ListConfig(StoreConfig):
    """List the enrolled speakers."""


@dataclass(frozen=True, kw_only=True)
class EnrollConfig(StoreConfig, EmbeddingConfig):
    """Enrol a speaker with some recordings, or all speakers of a features file."""

    is_positional: ClassVar[bool] = True
    audio: tuple[Path, ...]
    """Audio files of the speaker, or folders of audio files."""
    name: str | None = None
    """Name of the speaker."""
    features_path: Path | None = None
    """Features file to use instead of audio; all of its speakers are enrolled under their own names."""
    existing: Existing = "refuse"
    """Action for a speaker who is enrolled already: refuse, add the recordings, or replace the earlier ones."""
    verifier: Path | None = None
    """Verifier for a new store: a file that the command train saved, or ready for the ready verifier, which uses the
    encoder campplus; by default outputs/speaker_verifier.pt if it exists, or else ready. An existing store contains its
    own verifier."""
    background: Path | None = None
    """Folder with recordings of people who need not be enrolled, made as those to identify; they adapt the calibration
    of the ready verifier. Recordings that match an enrolled speaker are left out. The flag may be given alone."""

    def problem(self) -> str | None:
        is_background_alone = self.background is not None and not (self.name or self.audio)
        if self.features_path is None and not (self.name and self.audio) and not is_background_alone:
            return "Give the speaker and the recordings: --name NAME AUDIO ..., or --features_path FILE."
        if self.features_path is not None and (self.name or self.audio):
            return "--features_path enrols the speakers of the file under their own names; leave out --name and AUDIO."
        return super().problem()


@dataclass(frozen=True, kw_only=True)
class RemoveConfig(StoreConfig):
    """Remove an enrolled speaker, or the background recordings."""

    name: str | None = None
    """Name of the speaker."""
    background: bool = False
    """Remove the recordings that enroll --background added."""


@dataclass(frozen=True, kw_only=True)
class MergeConfig(StoreConfig):
    """Enrol the speakers of another store."""

    other: Path | None = None
    """The other store, which is not changed."""
    existing: Existing = "refuse"
    """Action for speakers who are enrolled in both: refuse, add the recordings, or replace the earlier ones."""


@dataclass(frozen=True, kw_only=True)
class IdentifyConfig(StoreConfig, EmbeddingConfig):
    """Identify the enrolled speaker in a file, or in each file of a folder, or report unknown."""

    audio_path: Path | None = None
    """Audio file, or a folder whose files and subfolders are searched."""
    top_k: Count = 5
    """Maximum number of speakers per file."""
    p_known: Probability = 0.5
    """Prior probability that the speaker is enrolled; a lower value reports unknown for more recordings."""
    timeline: bool = False
    """Report who speaks when in one file."""
    window: Seconds = 2.0
    """Length of the windows of --timeline (seconds)."""
    hop: Seconds = 0.5
    """Time from the start of a window of --timeline to the start of the next (seconds)."""
    output: Path | None = None
    """File for the results, .csv or .json (with --timeline, .rttm); by default identified.csv (timeline.rttm) in the
    folder of the store."""


@dataclass(frozen=True, kw_only=True)
class ScoreConfig(StoreConfig):
    """Find the enrolled speakers that cached embeddings are most similar to."""

    features_path: Path | None = None
    """Features file of the recordings to score."""
    top_k: Count = 5
    """Maximum number of speakers per recording."""
    output: Path = Path("outputs/scores.csv")
    """File for the scores, .csv."""
