"""Which utterances there are: readers of corpus layouts, splits, checks."""

from corpora.corpus import Corpus, CorpusError, Problem, Utterance
from corpora.layouts import LAYOUTS, load_corpus
from corpora.scan import find_audio, find_recordings
from corpora.splits import split

__all__ = [
    "LAYOUTS",
    "Corpus",
    "CorpusError",
    "Problem",
    "Utterance",
    "find_audio",
    "find_recordings",
    "load_corpus",
    "split",
]
