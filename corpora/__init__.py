"""List the utterances of a corpus, check them and split them."""

from corpora.corpus import Corpus, CorpusError, Problem, Split, Utterance
from corpora.describe_corpus import CorpusDescription, describe_corpus, summary_table
from corpora.download import MD5_SUMS, archive_url, download_librispeech
from corpora.find_segments import find_segments
from corpora.given_splits import Indices, describe_left_out
from corpora.layout_registry import LAYOUTS, Unused, layout
from corpora.layouts import load_corpus
from corpora.meeting_segments import DroppedLine, FoundSegments, MeetingSegment
from corpora.overlaps import Span, spans_alone, union_of
from corpora.rttm import RttmSegment, read_rttm, rttm_utterances, segments_of_recording
from corpora.scan import find_audio, find_recordings
from corpora.segment_list import describe_missing, read_segment_list
from corpora.session_folds import session_folds
from corpora.split_names import SPLITS, read_split
from corpora.splits import SplitBy, divide, split, warn_of_shared_sessions
from corpora.training_splits import parts_of_folders, split_by_speaker, split_mixed, take_subsets
from corpora.write_segments import AudioFormat, cut_segments, write_manifest

__all__ = [
    "LAYOUTS",
    "MD5_SUMS",
    "SPLITS",
    "AudioFormat",
    "Corpus",
    "CorpusDescription",
    "CorpusError",
    "DroppedLine",
    "FoundSegments",
    "Indices",
    "MeetingSegment",
    "Problem",
    "RttmSegment",
    "Span",
    "Split",
    "SplitBy",
    "Unused",
    "Utterance",
    "archive_url",
    "cut_segments",
    "describe_corpus",
    "describe_left_out",
    "describe_missing",
    "divide",
    "download_librispeech",
    "find_audio",
    "find_recordings",
    "find_segments",
    "layout",
    "load_corpus",
    "parts_of_folders",
    "read_rttm",
    "read_segment_list",
    "read_split",
    "rttm_utterances",
    "segments_of_recording",
    "session_folds",
    "spans_alone",
    "split",
    "split_by_speaker",
    "split_mixed",
    "summary_table",
    "take_subsets",
    "union_of",
    "warn_of_shared_sessions",
    "write_manifest",
]
