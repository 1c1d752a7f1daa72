"""`SpeakerStore`: identification of speakers, and verification of one."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from corpora import Corpus, Utterance
from embedding import Row
from encoders import Encoder
from features import FeatureSet
from heads import UNKNOWN
from verification import Conditions, Recording, SpeakerStore, SpeakerVerifier, StoreError

Select = Callable[..., FeatureSet]


def test_enrolled_speakers_are_identified_and_unknown_rejected(
    store: SpeakerStore, population: FeatureSet, recordings: Callable[..., list[Recording]]
) -> None:
    for speaker in range(60, 70):
        store.enroll(population.speakers[speaker], recordings(speaker, 4))
    probes = population.select((population.labels >= 60) & (torch.arange(len(population)) % 12 >= 4))
    found = store.nearest_features(probes, 3)
    is_right = np.array([names[0] for names in found.names]) == np.array(probes.speakers)[probes.labels.numpy()]
    assert is_right[probes.labels < 70].mean() > 0.95
    accepted = store.verifier.open_set.probabilities(found.llrs[:, 0].numpy(), 0.5, Conditions(found.n_speakers)) >= 0.5
    assert accepted[probes.labels < 70].mean() > 0.75
    assert accepted[probes.labels >= 70].mean() < 0.25
    assert [len(names) for names in found.names] == [3] * len(probes)
    assert (found.llrs.diff(dim=1) <= 0).all()


@pytest.fixture
def audio_store(features: FeatureSet, corpus: Corpus, spectral: Encoder, tmp_path: Path) -> Iterator[SpeakerStore]:
    """Return a store of two speakers, each with the recordings of one chapter."""
    verifier = SpeakerVerifier.train(features, "cosine")
    with SpeakerStore.create(tmp_path / "audio.db", verifier) as store:
        for name, first in (("anna", 0), ("ben", 10)):
            rows = verifier.embed(corpus.utterances[first : first + 5], spectral)
            store.enroll(name, [Recording.of(row) for row in rows])
        yield store


def test_files_are_identified_and_unreadable_ones_reported(
    audio_store: SpeakerStore,
    corpus: Corpus,
    spectral: Encoder,
    write_audio: Callable[..., Path],
    tmp_path: Path,
) -> None:
    short = write_audio(tmp_path / "short.wav", seconds=0.3)
    paths = [corpus.utterances[7].path, short, tmp_path / "none.wav", corpus.utterances[17].path]
    assert [(each.name, each.n_recordings) for each in audio_store.speakers()] == [("anna", 5), ("ben", 5)]
    assert audio_store.speakers()[0].seconds == pytest.approx(3.5, abs=0.1)
    first, *bad, last = audio_store.identify_files(paths, spectral, top_k=2)
    assert (first.speakers[0], last.speakers[0]) == ("anna", "ben")
    assert sum(first.probabilities) <= 1 + 1e-6
    assert "give at least 0.5 s" in str(bad[0].error)
    assert bad[1].error == "no such file"


def test_a_single_path_is_one_file(audio_store: SpeakerStore, corpus: Corpus, spectral: Encoder) -> None:
    path = corpus.utterances[7].path
    assert audio_store.identify_files(str(path), spectral) == audio_store.identify_files([path], spectral)
    vectors, seconds = audio_store.verifier.embed_files(str(path), spectral)
    assert (vectors.shape, seconds.shape) == ((1, spectral.dim), (1,))


def test_prior_decides_between_enrolled_and_unknown(
    audio_store: SpeakerStore, corpus: Corpus, spectral: Encoder
) -> None:
    paths = [corpus.utterances[7].path]
    unknown, known = (
        audio_store.identify_files(paths, spectral, top_k=3, p_known=p_known)[0] for p_known in (1e-9, 1 - 1e-9)
    )
    assert unknown.speakers[0] == UNKNOWN
    assert set(unknown.speakers) == set(known.speakers) == {"anna", "ben", UNKNOWN}
    assert known.speakers[0] == "anna"
    for prediction in (unknown, known):
        assert list(prediction.probabilities) == sorted(prediction.probabilities, reverse=True)
        assert sum(prediction.probabilities) == pytest.approx(1, abs=1e-5)


def test_verify_decides_for_one_enrolled_speaker(audio_store: SpeakerStore, corpus: Corpus, spectral: Encoder) -> None:
    [vector], _ = audio_store.verifier.embed_files([corpus.utterances[8].path], spectral)
    own, other = audio_store.verify("anna", vector), audio_store.verify("ben", vector)
    assert own.same
    assert own.score > other.score
    assert audio_store.verify("anna", vector, p_target=0.001).probability < own.probability
    with pytest.raises(
        StoreError, match=r"no enrolled speaker 'ann'; perhaps you meant 'anna'\. Choose one of: anna, ben"
    ):
        audio_store.verify("ann", vector)


@pytest.mark.parametrize("block", [1, 7, 1_000])
@pytest.mark.parametrize("backend", ["cosine", "plda"])
def test_search_in_blocks_equals_one_matrix_product(
    block: int,
    backend: str,
    population: FeatureSet,
    select_speakers: Select,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("verification.nearest.SPEAKERS", block)
    verifier = SpeakerVerifier.train(select_speakers(population, 0, 60), backend)
    enrolled, probes = (select_speakers(population, 60, 80, every=every) for every in (4, 5))
    with SpeakerStore.create(tmp_path / "s.db", verifier) as store:
        store.enroll_features(enrolled)
        found = store.nearest_features(probes, 6)
    mapped = verifier.backend.embed(enrolled.features)
    models = torch.stack([verifier.backend.combine(mapped[enrolled.labels == speaker]) for speaker in range(60, 80)])
    counts = torch.bincount(enrolled.labels)[60:]
    scores = verifier.backend.score_speakers(verifier.backend.embed(probes.features), models, counts)
    best = scores.sort(dim=1, descending=True)
    assert found.names == [[population.speakers[60 + column] for column in row] for row in best.indices[:, :6].tolist()]
    torch.testing.assert_close(found.scores, best.values[:, :6], rtol=1e-4, atol=1e-4)
    llrs = torch.from_numpy(verifier.calibration.llrs(scores.numpy(), Conditions(counts.numpy())))
    torch.testing.assert_close(found.total, llrs.logsumexp(1).float(), rtol=1e-4, atol=1e-3)


def test_more_speakers_than_calibrated_for_log_a_warning(
    store: SpeakerStore, population: FeatureSet, select_speakers: Select, caplog: pytest.LogCaptureFixture
) -> None:
    assert store.verifier.training["most_speakers"] == 15  # half of those that calibrate
    row = Row(Utterance(Path("x.wav"), "", ""), population.features[-1])
    store.enroll_features(select_speakers(population, 60, 75))
    store.identify([row])
    assert not caplog.text
    store.enroll_features(select_speakers(population, 75, 80))
    store.identify([row])
    assert "calibrated for up to 15 speakers, and 20 are enrolled" in caplog.text


def test_unknown_speaker_of_a_large_store_gets_a_part_of_the_list(
    store: SpeakerStore, population: FeatureSet, select_speakers: Callable[..., FeatureSet]
) -> None:
    store.enroll_features(select_speakers(population, 60, 71))
    with pytest.raises(StoreError, match=r"include: 060, .*, 069\. The command list shows all\.$"):
        store.remove("zoe")


def test_empty_store_raises(store: SpeakerStore, population: FeatureSet) -> None:
    assert store.speakers() == []
    with pytest.raises(StoreError, match=r"speakers\.db: the store has no enrolled speakers\. Enrol speakers"):
        store.nearest_features(population)
    with pytest.raises(StoreError, match=r"'anna'\. There are none to choose from\. The command list shows all\.$"):
        store.remove("anna")
    with pytest.raises(StoreError, match="There is no recording to enrol 'anna' with"):
        store.enroll("anna", [])
    with pytest.raises(StoreError, match="top_k is 0"):
        store.nearest(population.features, 0)


def test_enrolled_recordings_are_named(
    store: SpeakerStore,
    population: FeatureSet,
    recordings: Callable[..., list[Recording]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    store.enroll("anna", recordings(65))
    store.enroll("ben", recordings(66))
    rows = (population.labels == 66).nonzero().flatten()[[1, 5]]
    store.nearest_features(population.select(rows))
    [message] = [record.getMessage() for record in caplog.records]
    assert message == (
        f"{population.ids[int(rows[0])]}: the same audio: ben is enrolled with this recording, so the result is no "
        "evidence about the speaker."
    )
