"""Corpus -> cached embeddings.

python extract_features.py --data_dir LibriSpeech/dev-clean --encoder spectral
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from command_line import EXIT_DONE, EXIT_SOME_FAILED, run
from config import ExtractionConfig

if TYPE_CHECKING:
    from features import FeatureSet


def main(config: ExtractionConfig) -> int:
    features = extract_corpus(config)
    print(f"{len(features)} utterances, {len(features.speakers)} speakers, {features.features.shape[-1]} dimensions")
    return report_failures(features)


def extract_corpus(config: ExtractionConfig) -> FeatureSet:
    """Embed the corpus that the flags name, or open its finished features file."""
    from corpora import CorpusError, load_corpus
    from encoders import describe_encoder, lazy_encoder
    from features import default_file_name, extract

    if config.data_dir is None:
        raise CorpusError("Say where the recordings are: --data_dir FOLDER.")
    encoder = lazy_encoder(config.encoder, config.encoder_weights, config.device)
    corpus = load_corpus(config.data_dir, config.layout)
    default = ExtractionConfig.max_duration
    name = default_file_name(corpus.name, encoder.spec, config.max_duration, describe_encoder(config.encoder), default)
    path = config.features_path or config.output_dir / name
    features = extract(corpus, encoder, path, config.max_duration)
    print(f"Features: {path}")
    return features


def report_failures(features: FeatureSet) -> int:
    """List the utterances that gave no features, and return the exit code."""
    for utterance_id, reason in features.failures:
        print(f"failed: {utterance_id}: {reason}")
    if features.failures:
        print(f"{len(features.failures)} files failed; the others are done. Mend them and run the same command again.")
    return EXIT_SOME_FAILED if features.failures else EXIT_DONE


if __name__ == "__main__":
    run(ExtractionConfig, main)
