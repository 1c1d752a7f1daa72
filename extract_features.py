"""Corpus -> cached embeddings.

python extract_features.py --data_dir LibriSpeech/dev-clean --encoder spectral
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from command_line import EXIT_DONE, EXIT_SOME_FAILED, run
from config import CorpusConfig, ExtractionConfig

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from corpora import Corpus
    from features import FeatureSet


def main(config: ExtractionConfig) -> int:
    corpus = open_corpus(config)
    features = extract_corpus(config, corpus, config.encoder, config.encoder_weights, config.features_path)
    print(f"{len(features)} utterances, {len(features.speakers)} speakers, {features.features.shape[-1]} dimensions")
    return report_failures(features)


def open_corpus(config: CorpusConfig) -> Corpus:
    """Read which recordings there are."""
    from corpora import CorpusError, load_corpus

    if config.data_dir is None:
        raise CorpusError("Say where the recordings are: --data_dir FOLDER.")
    return load_corpus(config.data_dir, config.layout)


def extract_corpus(
    config: CorpusConfig,
    corpus: Corpus,
    encoder_name: str,
    weights: str | None,
    features_path: Path | None,
    others: Sequence[str] = (),
) -> FeatureSet:
    """Embed a corpus, or open its finished features file; an option that only `others` have is not for this encoder."""
    from encoders import default_spec, encoder_options, lazy_encoder
    from features import default_file_name, extract

    asked = {name: getattr(config, name) for name in ("layers", "pooling", "window", "hop")}
    elsewhere = {name for other in others for name in encoder_options(other)} - {*encoder_options(encoder_name)}
    options = {name: value for name, value in asked.items() if value is not None and name not in elsewhere}
    encoder = lazy_encoder(encoder_name, weights, config.device, config.precision, **options)
    crop = None if "window" in options else config.max_duration
    usual = default_spec(encoder_name)
    name = default_file_name(corpus.name, encoder.spec, crop, usual, CorpusConfig.max_duration, config.store_dtype)
    path = features_path or config.output_dir / name
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
