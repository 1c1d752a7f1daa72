"""Are these two the same speaker?

python speaker_verification.py evaluate --features_path outputs/librispeech_features_spectral.pt --backend within plda
python speaker_verification.py train --features_path outputs/librispeech_features_spectral.pt --backend plda
python speaker_verification.py verify A.wav B.wav
"""

from __future__ import annotations

from command_line import EXIT_DONE, command, run_one_of
from config import TrialsConfig, VerifierConfig, VerifyConfig


def evaluate(config: TrialsConfig) -> int:
    """Score trials of cached features by backends: EER, minDCF, Cllr."""
    from evaluation import compare_backends
    from features import FeatureSet, check_writable
    from verification import TrialError, read_trials

    check_writable(config.output_dir)
    if config.features_path is None:
        raise TrialError("Say which features the trials are of: --features_path FILE.")
    features, train = FeatureSet.load(config.features_path), None
    if config.train_features is not None:
        train = FeatureSet.load(config.train_features)
    trials = None if config.trials is None else read_trials(config.trials, features.ids)
    found = compare_backends(features, config.backend, trials, train, config.as_norm, config.seed, config.triplets)
    saved = found.save(config.output_dir, command())
    if config.triplets is not None:
        saved.append(found.scored[0].trials.save(config.output_dir / "trials.txt", found.ids))
    print(found.table())
    for path in saved:
        print(f"Saved {path}")
    return EXIT_DONE


def train(config: VerifierConfig) -> int:
    """Train a backend, calibrate its scores, and save both as a verifier."""
    from features import FeatureSet, check_writable
    from verification import SpeakerVerifier, VerifierError

    if config.features_path is None:
        raise VerifierError("Say what to train on: --features_path FILE.")
    check_writable(config.output.parent)
    verifier = SpeakerVerifier.train(FeatureSet.load(config.features_path), config.backend, config.seed)
    n_trained, n_calibrated = (len(verifier.training[name]) for name in ("trained_on", "calibrated_on"))
    print(
        f"{config.backend}: trained on {n_trained} speakers, calibrated on {n_calibrated}, "
        f"whose EER is {100 * verifier.training['eer']:.2f} %"
    )
    print(f"Saved {verifier.save(config.output)}")
    return EXIT_DONE


def verify(config: VerifyConfig) -> int:
    """Tell whether two recordings are of one speaker."""
    from verification import SpeakerVerifier

    verdict = SpeakerVerifier.load(config.verifier).verify(
        *config.audio,
        p_target=config.p_target,
        encoder_weights=config.encoder_weights,
        device=config.device,
        precision=config.precision,
    )
    print(f"score {verdict.score:.4f}, log-likelihood ratio {verdict.llr:+.2f}")
    print(
        f"{'the same speaker' if verdict.same else 'two speakers'}: the same with a probability of "
        f"{100 * verdict.probability:.1f} %, where {100 * config.p_target:g} % was expected"
    )
    return EXIT_DONE


if __name__ == "__main__":
    run_one_of(
        {"evaluate": (TrialsConfig, evaluate), "train": (VerifierConfig, train), "verify": (VerifyConfig, verify)}
    )
