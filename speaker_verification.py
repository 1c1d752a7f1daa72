"""Are these two the same speaker? Trials on cached embeddings.

python speaker_verification.py evaluate --features_path outputs/librispeech_features_spectral.pt --backend within plda
"""

from __future__ import annotations

from command_line import EXIT_DONE, command, run_one_of
from config import TrialsConfig


def evaluate(config: TrialsConfig) -> int:
    """Score trials of cached features by backends: EER, minDCF, Cllr."""
    from evaluation import compare_backends
    from features import FeatureSet, check_writable
    from verification import TrialError, random_triplets, read_trials

    check_writable(config.output_dir)
    if config.features_path is None:
        raise TrialError("Say which features the trials are of: --features_path FILE.")
    features, train = FeatureSet.load(config.features_path), None
    if config.train_features is not None:
        train = FeatureSet.load(config.train_features)
    trials = None
    if config.trials is not None:
        trials = read_trials(config.trials, features.ids)
    elif config.triplets is not None:
        trials = random_triplets(features, config.triplets, config.seed)
    found = compare_backends(features, config.backend, trials, train, config.as_norm, config.seed)
    saved = found.save(config.output_dir, command())
    if trials is not None and config.trials is None:
        saved.append(trials.save(config.output_dir / "trials.txt", features.ids))
    print(found.table())
    for path in saved:
        print(f"Saved {path}")
    return EXIT_DONE


if __name__ == "__main__":
    run_one_of({"evaluate": (TrialsConfig, evaluate)})
