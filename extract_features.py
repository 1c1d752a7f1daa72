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
    from encoders import default_spec, lazy_encoder
    from features import default_file_name, extract

    if config.data_dir is None:
        raise CorpusError("Say where the recordings are: --data_dir FOLDER.")
    corpus = load_corpus(config.data_dir, config.layout)
    asked = {name: getattr(config, name) for name in ("layers", "pooling", "window", "hop")}
    options = {name: value for name, value in asked.items() if value is not None}
    encoder = lazy_encoder(config.encoder, config.encoder_weights, config.device, config.precision, **options)
    crop = None if config.window else config.max_duration
    usual = default_spec(config.encoder)
    name = default_file_name(corpus.name, encoder.spec, crop, usual, ExtractionConfig.max_duration, config.store_dtype)
    path = config.features_path or config.output_dir / name
    features = extract(corpus, encoder, path, crop, config.store_dtype, config.encoder_batch_size)
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
