"""Train and compare heads on the cached embeddings of a corpus, and save the best as a speaker classifier.

python speaker_recognition_librispeech.py --data_dir LibriSpeech/dev-clean --encoder spectral
python speaker_recognition_librispeech.py --features_path outputs/librispeech_features_spectral.pt --heads all --seeds 5
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from command_line import EXIT_DONE, command, run
from config import ComparisonConfig
from extract_features import describe_extraction, open_corpus, report_failures

if TYPE_CHECKING:
    from evaluation import Comparison
    from features import FeatureSet


def main(config: ComparisonConfig) -> int:
    from evaluation import compare_heads, save_embedding_map, write_report
    from features import check_writable

    check_writable(config.output_dir)
    if config.download:
        from corpora.download import download_librispeech

        target = config.data_dir or Path("data")
        config = replace(config, data_dir=download_librispeech(target, config.download_url))
    sets = find_features(config)
    comparison = compare_heads(
        sets,
        config.heads,
        config.scaler,
        config.split_by,
        config.fractions,
        config.seed,
        read_options(config),
        config.seeds,
        config.tune_budget if config.tune else 1,
        config.ensemble,
    )
    saved = comparison.save(config.output_dir, sets[0].corpus, command())
    show_layers(comparison)
    print(comparison.table())
    saved.append(save_embedding_map(config.output_dir / "embedding_map.csv", comparison.classifier, sets))
    saved.append(write_report(config.output_dir))
    for path in saved:
        print(f"Saved {path}")
    return max(report_failures(features.failures) for features in sets) if config.data_dir else EXIT_DONE


def find_features(config: ComparisonConfig) -> list[FeatureSet]:
    """Open the finished features files, or extract the corpus with each encoder."""
    from features import FeaturesError, FeatureSet, extract

    paths = config.features_path
    if config.data_dir is None and paths:
        return [take_layer(FeatureSet.load(path), config.layers) for path in paths]
    if len(paths) not in (0, len(config.encoder)):
        raise FeaturesError(
            f"There are {len(paths)} --features_path for {len(config.encoder)} encoders; give one for each, or none."
        )
    corpus = open_corpus(config)
    sets = []
    for number, name in enumerate(config.encoder):
        weights = config.encoder_weights[number] if config.encoder_weights else "auto"
        others = config.encoder[:number] + config.encoder[number + 1 :]
        path = paths[number] if paths else None
        job = describe_extraction(config, corpus, name, None if weights == "auto" else weights, path, others)
        sets.append(extract(**job))
        print(f"Features: {job['path']}")
    return sets


def take_layer(features: FeatureSet, layers: str | None) -> FeatureSet:
    """Take the layer that the flag asks for out of a finished file with several."""
    from features import FeaturesError

    if layers in (None, "all") or not features.encoder.get("layers"):
        return features
    if layers != "last" and not str(layers).isdecimal():
        raise FeaturesError(f"--layers is {layers!r}; of a finished file take all, last, or the number of one layer.")
    return features.layer(features.encoder["layers"][-1] if layers == "last" else int(str(layers)))


def read_options(config: ComparisonConfig) -> dict[str, Any]:
    """Return the hyper-parameters that the flags give."""
    from heads import HEADS, HeadError
    from heads.registry import head_options

    names = ("epochs", "lr", "batch_size", "patience", "device", "class_weight", "balanced_sampling")
    options = {name: getattr(config, name) for name in names if getattr(config, name) is not None}
    compared = HEADS if "all" in config.heads else config.heads
    known, own = ({option for head in some for option in head_options(head)} for some in (HEADS, compared))
    for text in config.head_options:
        name, _, value = text.partition("=")
        if name in known - own:
            raise HeadError(f"--head_options has {name}, which none of the heads {', '.join(compared)} has.")
        options[name] = read_value(value)
    return options


def read_value(text: str) -> float | int | bool | str | None:
    """Read a value as Python and people write it."""
    named: dict[str, bool | None] = {"none": None, "true": True, "false": False}
    if text.lower() in named:
        return named[text.lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def show_layers(comparison: Comparison) -> None:
    """Print how well each layer does, for each encoder that has several."""
    from evaluation import layer_table

    for encoder in dict.fromkeys(record["encoder"] for record in comparison.layers):
        print(layer_table(comparison.layer_records(encoder), comparison.chosen_layer(encoder)))
        print("* best by validation accuracy, of equals by log loss; in percent", end="\n\n")


if __name__ == "__main__":
    run(ComparisonConfig, main)
