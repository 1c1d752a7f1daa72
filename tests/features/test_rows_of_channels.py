"""Two channels of a file are two recordings in the cache, and rows without a channel stay those of the mean."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from corpora import Corpus, CorpusError, Utterance
from encoders import Encoder
from features import MEAN_CHANNEL, FeatureSet, audio_numbers, default_file_name

RunExtract = Callable[..., tuple[FeatureSet, int]]
CHANNELS = (None, 0, 1)


@pytest.fixture
def calls(write_audio: Callable[..., Path], tmp_path: Path) -> Corpus:
    """Return two files with two channels each, as the mean of all and as each channel."""
    paths = [write_audio(tmp_path / "calls" / f"{name}.wav", channels=2, seed=seed) for seed, name in enumerate("ab")]
    utterances = [
        Utterance(path, path.stem, path.stem, root=tmp_path / "calls", channel=channel)
        for path in paths
        for channel in CHANNELS
    ]
    return Corpus(tuple(utterances), tmp_path / "calls", "calls")


def without_channels(corpus: Corpus) -> Corpus:
    return replace(corpus, utterances=tuple(each for each in corpus if each.channel is None))


def test_channels_are_rows_of_their_own(calls: Corpus, tmp_path: Path, run_extract: RunExtract) -> None:
    features, n_encoded = run_extract(calls, tmp_path / "x.pt")
    assert n_encoded == 6
    assert features.ids == calls.ids
    assert features.audio is not None
    assert features.audio.channel.tolist() == 2 * [MEAN_CHANNEL, 0, 1]
    assert len(torch.unique(features.features, dim=0)) == 6
    assert len(set(audio_numbers(features)[0].tolist())) == 6
    again, n_encoded = run_extract(calls, tmp_path / "x.pt")
    assert n_encoded == 0
    assert torch.equal(again.features, features.features)


def test_a_file_that_moved_keeps_its_channels_apart(calls: Corpus, tmp_path: Path, run_extract: RunExtract) -> None:
    features, _ = run_extract(calls, tmp_path / "x.pt")
    moved = calls.root.rename(tmp_path / "moved")
    elsewhere = [replace(each, path=moved / f"{each.path.stem}.wav", root=moved) for each in calls]
    for utterance in elsewhere[::3]:
        utterance.path.rename(moved / f"new {utterance.path.name}")
    elsewhere = [replace(each, path=moved / f"new {each.path.name}") for each in elsewhere]
    again, n_encoded = run_extract(Corpus(tuple(elsewhere), moved, "calls"), tmp_path / "x.pt")
    assert n_encoded == 0
    assert torch.equal(again.features, features.features)


@pytest.mark.parametrize("suffix", [".pt", ".npz"])
def test_files_of_versions_without_channels_are_continued(
    suffix: str, calls: Corpus, tmp_path: Path, run_extract: RunExtract
) -> None:
    path = tmp_path / "x.pt"
    old, n_encoded = run_extract(without_channels(calls), path)
    assert n_encoded == 2
    vectors = old.features.clone()  # the set is a memory map of the file
    content = torch.load(path, weights_only=True)
    del content["audio"]["channel"]
    torch.save(content, path)
    loaded = FeatureSet.load(path)
    assert loaded.audio is not None
    assert loaded.audio.channel.tolist() == [MEAN_CHANNEL, MEAN_CHANNEL]
    loaded.save(tmp_path / f"copy{suffix}")
    copy = FeatureSet.load(tmp_path / f"copy{suffix}")
    assert copy.audio is not None
    assert copy.audio.channel.tolist() == [MEAN_CHANNEL, MEAN_CHANNEL]
    features, n_encoded = run_extract(calls, path)
    assert n_encoded == 4
    assert torch.equal(features.features[::3], vectors)


def test_a_channel_of_all_recordings_has_rows_and_a_file_of_its_own(
    calls: Corpus, spectral: Encoder, tmp_path: Path, run_extract: RunExtract
) -> None:
    corpus = without_channels(calls)
    assert corpus.with_channel(None) is corpus
    right = corpus.with_channel(1)
    assert right.ids == ("a.wav#channel1", "b.wav#channel1")
    # Utterances that have a channel keep it.
    given = replace(calls, utterances=calls.utterances[:2]).with_channel(1)
    assert given.ids == ("a.wav#channel1", "a.wav#channel0")
    assert calls.utterances[1].channel == 0
    with pytest.raises(CorpusError, match=r"a\.wav is listed without a channel, and with channel 0; .*Leave out --ch"):
        calls.with_channel(0)
    run_extract(corpus, tmp_path / "x.pt")
    features, n_encoded = run_extract(right, tmp_path / "x.pt")
    assert n_encoded == 2
    expected, _ = run_extract(calls, tmp_path / "y.pt")
    assert torch.equal(features.features, expected.features[2::3])
    names = {default_file_name("calls", spectral, 10.0, channel=channel) for channel in CHANNELS}
    assert names == {f"calls_features_spectral{end}.pt" for end in ("", "_channel0", "_channel1")}
