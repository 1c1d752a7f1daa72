"""`Verdict`: sure and unsure decisions, the same audio, and the error rates that go with them."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from features import has_same_audio
from verification import Recording, SpeakerStore, SpeakerVerifier, describe_errors
from verification.error_rates import pair_errors
from verification.verdict import verdict


@pytest.mark.parametrize(
    ("llr", "decision", "words"),
    [
        (1.5, "same", "the same speaker: probability of the same speaker 81.8 % (prior 50 %)"),
        (
            1.3, "unsure", "unsure: probability of the same speaker 78.6 % (prior 50 %); between 20 and 80 %, the "
            "recordings do not show who speaks",
        ),
        (-1.5, "different", "two speakers: probability of the same speaker 18.2 % (prior 50 %)"),
    ],
)  # fmt: skip
def test_decision_between_20_and_80_percent_is_unsure(llr: float, decision: str, words: str) -> None:
    found = verdict(0.5, llr, 0.5)
    assert found.decision == decision
    assert found.describe(0.5) == words
    assert found.same == (llr > 0)


def test_decision_depends_on_the_prior() -> None:
    assert verdict(0.5, 3.0, 0.5).decision == "same"
    assert verdict(0.5, 3.0, 0.02).decision == "unsure"
    assert verdict(0.5, 3.0, 0.001).describe(0.001, "anna") == "not anna: probability of anna 2.0 % (prior 0.1 %)"


def test_same_audio_is_no_evidence() -> None:
    found = verdict(1.0, 9.0, 0.5, same_audio=True)
    assert found.describe(0.5).startswith("the same audio: both files contain this recording, so the result ")
    assert "anna is enrolled with this recording" in found.describe(0.5, "anna")


def test_vectors_that_differ_by_rounding_are_of_the_same_audio() -> None:
    vectors = torch.randn(5, 64, generator=torch.Generator().manual_seed(0))
    noise = torch.randn(64, generator=torch.Generator().manual_seed(1))
    assert has_same_audio(vectors[2] + 1e-6 * noise, vectors)
    assert has_same_audio(vectors[2], vectors.half().float())
    assert has_same_audio(vectors[2].half(), vectors)
    assert not has_same_audio(vectors[2] + 1e-2 * noise, vectors)
    assert not has_same_audio(vectors[0], vectors[1:])


def test_recording_that_a_speaker_is_enrolled_with_is_found(
    store: SpeakerStore, recordings: Callable[..., list[Recording]]
) -> None:
    own = recordings(70, 4)
    store.enroll("ann", own[:3])
    store.enroll("ben", recordings(71))
    assert store.verify("ann", own[1].vector).same_audio
    assert not store.verify("ann", own[3].vector).same_audio
    assert not store.verify("ben", own[1].vector).same_audio


def test_error_rates_are_shares_of_the_pairs() -> None:
    # A ratio of 0 accepts the pair. At a threshold of 2, one target and one nontarget are on the wrong side.
    found = pair_errors("voices", [1, 1, 0, 0], scores=[3, 1, 2, 0], llrs=[1, -0.5, 0, -2])
    assert found == {"corpus": "voices", "false_accept": 0.5, "miss": 0.5, "eer": 0.5}
    found = pair_errors("voices", [1, 1, 0, 0, 0, 0], scores=[3, 1, 2, 0, 0, 0], llrs=[1, 0, 0, -1, -1, -2])
    assert (found["false_accept"], found["miss"]) == (0.25, 0)


def test_error_rates_are_those_of_the_calibration(plda_verifier: SpeakerVerifier) -> None:
    [errors] = plda_verifier.training["errors"]
    assert errors["eer"] == plda_verifier.training["eer"]
    assert errors["corpus"] == "voices"
    assert 0 < errors["false_accept"] < 0.2
    assert 0 < errors["miss"] < 0.2
    described = describe_errors(plda_verifier.training)
    assert described is not None
    assert "on the 30 speakers that calibrated it: " in described
    assert f"{100 * errors['miss']:.1f} % of the pairs of one speaker were rejected" in described


def test_error_rates_of_older_verifiers_are_described_as_far_as_they_are_known() -> None:
    older = {"calibrated_on": ["ann", "ben"], "eer": 0.025}
    assert describe_errors(older) == (
        "Errors of this verifier, measured on the 2 speakers that calibrated it: equal error rate 2.5 %."
    )
    damaged: list[dict[str, Any]] = [
        {}, {"calibrated_on": []}, {**older, "errors": [{"eer": "x"}]}, {**older, "errors": 3}
    ]  # fmt: skip
    for training in damaged:
        assert describe_errors(training) is None
