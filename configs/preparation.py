"""Settings of the commands of prepare_data.py."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from configs.base import Channel, CorpusConfig, InputPath, PictureFormat, Range, ScriptConfig, Seconds
from configs.paths import DESCRIPTION_FILES, SEGMENTS_FILES, WritesInto

AudioFormat = Literal["wav", "flac"]
Dataset = Literal["librispeech"]
LibriSpeechSplit = Literal[
    "dev-clean", "dev-other", "test-clean", "test-other", "train-clean-100", "train-clean-360", "train-other-500"
]  # fmt: skip


@dataclass(frozen=True)
class SegmentsConfig(ScriptConfig):
    """Find the segments of a meeting corpus by its RTTM files, and write a manifest of them, or cut them into files."""

    after_interrupt: ClassVar[str] = "Run the same command again to continue."

    rttm_dir: InputPath | None = None
    """Folder of the RTTM files, also in subfolders, or one RTTM file."""
    audio_dir: InputPath | None = None
    """Folder of the recordings, also in subfolders; the name of a recording is that of the meeting in its RTTM file."""
    output_dir: Annotated[Path, WritesInto(SEGMENTS_FILES)] = Path("outputs/segments")
    """Folder for manifest.csv and, with --write_audio, the files of the segments."""
    min_duration: Annotated[float, Range(0, 1e6)] = 1.5
    """Duration of the shortest segments that are kept (seconds)."""
    max_duration: Seconds | None = None
    """Duration of the longest segments that are kept (seconds); longer ones are dropped, not split. By default all."""
    max_overlap: Annotated[float, Range(0, 1)] | None = None
    """Largest share of a segment in which other speakers of the meeting may speak, from 0 to 1; segments with more are
    dropped. By default all are kept."""
    merge_gap: Annotated[float, Range(0, 1e6)] | None = None
    """Longest pause between consecutive segments of a speaker that are joined (seconds), before their durations are
    checked; by default none are joined."""
    channel: Channel = "mean"
    """Channel of the recordings, from 0, or mean of all channels."""
    list: InputPath | None = None
    """CSV file with the columns path and label: only the segments with the names of these files are kept, with these
    labels, and missing ones are reported."""
    write_audio: bool = False
    """Cut each segment into a 16 kHz mono file of its name; by default no audio is written."""
    audio_format: AudioFormat = "wav"
    """Format of the files of --write_audio."""

    def problem(self) -> str | None:
        if self.max_duration is not None and self.max_duration < self.min_duration:
            return (
                f"--max_duration is {self.max_duration:g}, below --min_duration {self.min_duration:g}; no segment "
                "would be kept."
            )
        return super().problem()


@dataclass(frozen=True)
class DownloadConfig(ScriptConfig):
    """Download a split of a corpus, check its MD5 sum, and unpack it."""

    after_interrupt: ClassVar[str] = "Run the same command again to continue."

    dataset: Dataset = "librispeech"
    """Corpus."""
    split: LibriSpeechSplit = "dev-clean"
    """Split of the corpus."""
    data_dir: Annotated[Path, WritesInto({})] = Path("data")
    """Folder in which the folder of the corpus is made."""
    download_url: str | None = None
    """URL of the archive of the split on another server; by default that on OpenSLR, which lists mirrors in other parts
    of the world."""

    def problem(self) -> str | None:
        if self.download_url is not None and f"{self.split}.tar.gz" not in self.download_url:
            return (
                f"--download_url is {self.download_url}; expected the URL of {self.split}.tar.gz, or another --split."
            )
        return super().problem()


@dataclass(frozen=True, kw_only=True)
class DescribeConfig(CorpusConfig):
    """Describe a corpus: speakers, sessions, durations, rates and formats; only headers of the audio are read."""

    after_interrupt: ClassVar[str] = ""

    output_dir: Annotated[Path, WritesInto(DESCRIPTION_FILES)] = Path("outputs/corpus")
    """Folder for corpus.csv, corpus.json, corpus.html and the pictures."""
    picture_formats: tuple[PictureFormat, ...] = ("png",)
    """Formats of the pictures that are written beside the page."""
