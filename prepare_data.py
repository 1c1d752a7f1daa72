"""Prepare a corpus: find or cut the segments of meetings, download LibriSpeech, describe what is in a corpus.

python prepare_data.py segments --rttm_dir AISHELL-4/test/TextGrid --audio_dir AISHELL-4/test/wav --output_dir meetings
python prepare_data.py download --dataset librispeech --split dev-clean
python prepare_data.py describe LibriSpeech/dev-clean
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from command_line import EXIT_DONE, EXIT_SOME_FAILED, command, run_one_of
from config import DescribeConfig, DownloadConfig, SegmentsConfig, channel_number
from extract_features import open_corpus, report_failures
from files import announce, check_writable, count_of, format_table

if TYPE_CHECKING:
    from corpora import FoundSegments


def segments(config: SegmentsConfig) -> int:
    """Find the segments of meetings by RTTM files."""
    from corpora import CorpusError, cut_segments, find_segments, read_segment_list, write_manifest
    from embedding import warn_of_mixed_channels

    if config.rttm_dir is None or config.audio_dir is None:
        raise CorpusError("Give the folders of the meetings: --rttm_dir FOLDER --audio_dir FOLDER.")
    check_writable(config.output_dir)
    with announce("Reading the RTTM files"):
        found = find_segments(
            config.rttm_dir,
            config.audio_dir,
            min_duration=config.min_duration,
            max_duration=config.max_duration,
            max_overlap=config.max_overlap,
            merge_gap=config.merge_gap,
            channel=channel_number(config.channel),
            labels=None if config.list is None else read_segment_list(config.list),
        )
    warn_of_mixed_channels(found.segments)
    failed: dict[str, str] = {}
    if config.write_audio and found.segments:
        failed = cut_segments(config.output_dir, found.segments, config.audio_format)
    kept = [each for each in found.segments if each.name not in failed]
    report_segments(found, n_cut=len(kept) if config.write_audio else None)
    report_failures(list(failed.items()))
    if not kept:
        raise CorpusError(f"{config.rttm_dir}: no segment is left, so no manifest is written; see the reasons above.")
    saved = write_manifest(config.output_dir, kept, config.audio_format if config.write_audio else None)
    print(f"Saved {saved}")
    print(f"Use it: python extract_features.py {shlex.quote(str(config.output_dir))} --encoder campplus")
    return EXIT_SOME_FAILED if failed or found.has_faults else EXIT_DONE


def report_segments(found: FoundSegments, n_cut: int | None) -> None:
    """Print the problems, the missing segments of a list, and the summary."""
    from corpora import describe_missing

    for problem in [*found.problems, *describe_missing(found.missing)]:
        print(problem)
    rows = [*found.summary, *([] if n_cut is None else [("files", str(n_cut))])]
    print(format_table(["", "number"], rows, "<>"))
    sessions = {each.session for each in found.segments if each.speaker.startswith(f"{each.session}_")}
    if len(sessions) > 1:
        print("The labels of speakers are local to a meeting: one person in two meetings counts as two speakers.")


def download(config: DownloadConfig) -> int:
    """Download a split of LibriSpeech, and check it."""
    from corpora import archive_url, download_librispeech

    folder = download_librispeech(config.data_dir, config.download_url or archive_url(config.split))
    print(f"Corpus: {folder}")
    print(f"Describe it: python prepare_data.py describe {shlex.quote(str(folder))}")
    return EXIT_DONE


def describe(config: DescribeConfig) -> int:
    """Describe what is in a corpus, as tables and charts."""
    from corpora import describe_corpus
    from reports import write_corpus_page

    check_writable(config.output_dir)
    description = describe_corpus(open_corpus(config))
    saved = description.save(config.output_dir, command())
    with announce("Drawing the page"):
        saved.append(write_corpus_page(config.output_dir, config.picture_formats))
    print(format_table(["", description.corpus], description.table, "<<"))
    for path in saved:
        print(f"Saved {path}")
    return report_failures(description.failures, f"{count_of(len(description.rows), 'utterance')} are in corpus.csv.")


if __name__ == "__main__":
    run_one_of(
        {
            "segments": (SegmentsConfig, segments),
            "download": (DownloadConfig, download),
            "describe": (DescribeConfig, describe),
        }
    )
