"""Train and compare heads on the cached embeddings of a corpus, and save the best as a speaker classifier.

python speaker_recognition_librispeech.py --data_dir LibriSpeech/dev-clean --encoder spectral
python speaker_recognition_librispeech.py --features_path outputs/librispeech_features_spectral.pt
"""

from __future__ import annotations

import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from command_line import EXIT_DONE, run
from config import ComparisonConfig
from extract_features import extract_corpus, report_failures

if TYPE_CHECKING:
    from features import FeatureSet


def main(config: ComparisonConfig) -> int:
    from evaluation import compare_heads, layer_table, save_layer_curve
    from features import FeatureSet, check_writable

    check_writable(config.output_dir)
    if config.download:
        from corpora.download import download_librispeech

        target = config.data_dir or Path("data")
        config = replace(config, data_dir=download_librispeech(target, config.download_url))
    if config.data_dir is None and config.features_path is not None:
        features, code = take_layer(FeatureSet.load(config.features_path), config.layers), EXIT_DONE
    else:
        features = extract_corpus(config)
        code = report_failures(features)
    comparison = compare_heads(
        features,
        config.heads,
        config.scaler,
        config.split_by,
        config.fractions,
        config.seed,
        options={
            "epochs": config.epochs,
            "lr": config.lr,
            "batch_size": config.batch_size,
            "patience": config.patience,
            "device": config.device,
        },
    )
    saved = comparison.save(config.output_dir, features.corpus, shlex.join(sys.argv))
    if comparison.layers:
        chosen = comparison.chosen_layer
        print(layer_table(comparison.layers, chosen))
        print("* best by validation accuracy, of equals by log loss; in percent", end="\n\n")
        saved.append(save_layer_curve(config.output_dir / "layer_curve.png", comparison.layers, chosen))
    print(comparison.table())
    for path in saved:
        print(f"Saved {path}")
    return code


def take_layer(features: FeatureSet, layers: str | None) -> FeatureSet:
    """Take the layer that the flag asks for out of a finished file with several."""
    from features import FeaturesError

    if layers in (None, "all") or not features.encoder.get("layers"):
        return features
    if layers != "last" and not str(layers).isdecimal():
        raise FeaturesError(f"--layers is {layers!r}; of a finished file take all, last, or the number of one layer.")
    return features.layer(features.encoder["layers"][-1] if layers == "last" else int(str(layers)))


if __name__ == "__main__":
    run(ComparisonConfig, main)
