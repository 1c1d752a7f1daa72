"""List the utterances of a corpus, check them and split them."""

from corpora.corpus import Corpus, CorpusError, Problem, Split, Utterance
from corpora.download import download_librispeech
from corpora.given_splits import Indices, describe_left_out
from corpora.layout_registry import LAYOUTS, Unused, layout
from corpora.layouts import load_corpus
from corpora.rttm import RttmSegment, read_rttm, rttm_utterances
from corpora.scan import find_audio, find_recordings
from corpora.session_folds import session_folds
from corpora.split_names import SPLITS, read_split
from corpora.splits import SplitBy, divide, split, warn_of_shared_sessions
from corpora.training_splits import parts_of_folders, split_by_speaker, split_mixed, take_subsets

__all__ = [
    "LAYOUTS",
    "SPLITS",
    "Corpus",
    "CorpusError",
    "Indices",
    "Problem",
    "RttmSegment",
    "Split",
    "SplitBy",
    "Unused",
    "Utterance",
    "describe_left_out",
    "divide",
    "download_librispeech",
    "find_audio",
    "find_recordings",
    "layout",
    "load_corpus",
    "parts_of_folders",
    "read_rttm",
    "read_split",
    "rttm_utterances",
    "session_folds",
    "split",
    "split_by_speaker",
    "split_mixed",
    "take_subsets",
    "warn_of_shared_sessions",
]
