"""Compare a verifier that is trained on some features with the ready verifier."""

import numpy as np

from encoders import spec_differences
from features import FeatureSet, without_copies
from files import InputError, count_of
from metrics import cllr
from verification.backends import split_speakers
from verification.trials import all_pairs, random_triplets
from verification.verifier import MAX_UTTERANCES, TRIPLETS, SpeakerVerifier, VerifierError

# With fewer speakers, half of them do not calibrate a verifier well enough for a comparison.
MIN_SPEAKERS = 20


def compare_with_ready(features: FeatureSet, backend: str, seed: int = 0) -> tuple[float, float] | None:
    """Return the Cllr of a trained and of the ready verifier on speakers that neither was trained on.

    A verifier is trained on one half of the speakers, and scores the other half; then the halves are exchanged.

    Parameters
    ----------
    features : FeatureSet
        Features (N, D) of many speakers.
    backend : str
        Backend of the trained verifier.
    seed : int
        Random seed of the split into halves.

    Returns
    -------
    (float, float) or None
        None if the features were made by another encoder than that of the ready verifier.

    Raises
    ------
    VerifierError
        There are too few speakers for a comparison.
    """
    ready = SpeakerVerifier.ready()
    n_speakers = int((np.bincount(features.labels.numpy()) >= 2).sum())
    if spec_differences(features.encoder, ready.encoder):
        return None
    if n_speakers < MIN_SPEAKERS:
        raise VerifierError(
            f"{count_of(n_speakers, 'speaker')} with two recordings or more are too few to compare the verifier with "
            f"the ready one; at least {MIN_SPEAKERS} are needed. Measure both on other speakers."
        )
    costs, features = [], without_copies(features)
    halves = split_speakers(features, seed)
    for train, test in (halves, halves[::-1]):
        try:
            trained = SpeakerVerifier.train(train, backend, seed)
        except InputError as error:
            raise VerifierError(
                f"The verifier cannot be compared with the ready one, because half of the {n_speakers} speakers are "
                f"too few to train another: {error}"
            ) from error
        trials = all_pairs(test) if len(test) <= MAX_UTTERANCES else random_triplets(test, TRIPLETS, seed)
        seconds = [test.durations.numpy()[side] for side in (trials.first, trials.second)]
        costs.append(
            [
                cllr(trials.labels, each.calibration.pair_llrs(scores, *seconds))
                for each in (trained, ready)
                for scores in [each.backend.score_trials(test, trials.first, trials.second)]
            ]
        )
    own, of_ready = np.mean(costs, axis=0).tolist()
    return own, of_ready
