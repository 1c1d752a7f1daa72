"""Recordings that do not match the other recordings of their speaker."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from features import FeatureSet
from verification import Recording, SpeakerStore, SpeakerVerifier, enroll_feature_set

Recordings = Callable[..., list[Recording]]


def mixed(population: FeatureSet, rows: list[int], speakers: list[int]) -> FeatureSet:
    """Return rows of the population under the numbers of other speakers."""
    return replace(population.select(rows), labels=torch.tensor(speakers))


def test_recording_of_another_speaker_is_named(store: SpeakerStore, population: FeatureSet) -> None:
    rows = [780, 781, 900, 782, 783, 792, 793, 794]  # 900 is of speaker 75
    found = enroll_feature_set(store, mixed(population, rows, [65] * 5 + [66] * 3))
    [sentence] = found.doubtful
    assert sentence.startswith("065: 900.wav does not match the 4 other recordings (score -")
    assert sentence.endswith(
        ", threshold -3.00) and may be of another person; to leave it out, enrol 065 again with --existing replace"
    )
    assert found.reasons() == [f"warning: {sentence}"]
    assert [each.n_recordings for each in store.speakers()] == [5, 3]  # it is enrolled


def test_added_recordings_are_compared_with_the_earlier_ones(store: SpeakerStore, population: FeatureSet) -> None:
    first = enroll_feature_set(store, mixed(population, [780, 781, 782, 792, 793, 794], [65] * 3 + [66] * 3))
    assert first.doubtful == ()
    added = enroll_feature_set(store, mixed(population, [783, 900, 901, 902, 795], [65] * 4 + [66]), "add")
    [sentence] = added.doubtful
    assert sentence.startswith("065: 90")
    assert "does not match the 3 earlier recordings (score -" in sentence
    assert "may be of another person; 2 more recordings may be too; to leave" in sentence
    again = enroll_feature_set(store, mixed(population, [780, 784], [65] * 2), "replace")
    assert again.doubtful == ()


def test_two_recordings_of_two_people(store: SpeakerStore, population: FeatureSet) -> None:
    [sentence] = enroll_feature_set(store, mixed(population, [780, 900], [65, 65])).doubtful
    assert sentence.startswith("065: ")
    for part in ("780.wav", "900.wav", "do not match (score -", "so they may be of two people"):
        assert part in sentence


def test_recordings_of_one_speaker_match(store: SpeakerStore, population: FeatureSet) -> None:
    kept = population.select(((population.labels >= 60) & (torch.arange(len(population)) % 3 == 0)).numpy())
    assert enroll_feature_set(store, kept).doubtful == ()


def test_at_most_ten_speakers_are_listed(store: SpeakerStore, population: FeatureSet) -> None:
    speakers = [speaker for speaker in range(60, 80) for _ in range(3)]
    rows = [  # the third recording of each is of another speaker
        row
        for speaker in range(60, 80)
        for row in (12 * speaker, 12 * speaker + 1, 12 * ((speaker - 53) % 20 + 60) + 5)
    ]
    found = enroll_feature_set(store, mixed(population, rows, speakers))
    assert len(found.doubtful) > 10
    assert len(found.reasons()) == 11
    assert found.reasons()[-1] == f"warning: {len(found.doubtful) - 10} more"


def test_verifier_without_information_has_no_doubts(
    store: SpeakerStore, population: FeatureSet, plda_verifier: SpeakerVerifier
) -> None:
    blind = replace(plda_verifier, calibration=replace(plda_verifier.calibration, slope=0.0, offset=-9.0))
    with SpeakerStore.create(store.path.with_name("blind.db"), blind) as other:
        assert enroll_feature_set(other, mixed(population, [780, 900], [65, 65])).doubtful == ()


@pytest.mark.parametrize("n_others", [1, 150])
def test_long_profiles_are_compared(store: SpeakerStore, recordings: Recordings, n_others: int) -> None:
    one = recordings(65)[0]
    generator = torch.Generator().manual_seed(0)
    many = [
        replace(one, digest=f"{k}".encode(), vector=one.vector + 0.01 * torch.randn(12, generator=generator))
        for k in range(n_others)
    ]
    other = recordings(75)[0]
    store.enroll("anna", many)
    store.enroll("anna", [other], "add")
    assert f"{other.path} does not match the" in store.find_mismatches({"anna": [other]})["anna"]
