"""Train and compare heads on the cached embeddings of a corpus, and save the best as a speaker classifier.

python speaker_recognition_librispeech.py LibriSpeech/dev-clean --encoder spectral
python speaker_recognition_librispeech.py --features_path outputs/librispeech_features_spectral.pt --heads all --seeds 5
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from command_line import EXIT_DONE, command, read_assignments, run
from config import ComparisonConfig
from extract_features import describe_extraction, open_corpus, report_failures

if TYPE_CHECKING:
    from features import FeatureSet


def main(config: ComparisonConfig) -> int:
    from evaluation import check_heads, compare_heads, save_embedding_map
    from files import announce, check_writable, write_tables
    from heads import warn_of_replaced_speakers
    from reports import write_report

    check_writable(config.output_dir)
    options = read_options(config)
    check_heads(config.heads, scaler=config.scaler, options=options)
    if config.download:
        from corpora import download_librispeech

        target = config.data_dir or Path("data")
        config = replace(config, data_dir=download_librispeech(target, config.download_url))
    sets = find_features(config)
    speakers = {speaker for features in sets for speaker in features.speakers}
    warn_of_replaced_speakers(config.output_dir / f"speaker_classifier_{sets[0].corpus}.pt", speakers)
    comparison = compare_heads(
        sets,
        config.heads,
        scaler=config.scaler,
        split_by=config.split_by,
        fractions=config.fractions,
        seed=config.seed,
        options=options,
        seeds=config.seeds,
        tune=config.tune_budget if config.tune else 1,
        ensemble=config.ensemble,
        refit=config.refit,
    )
    saved = comparison.save(config.output_dir, sets[0].corpus, command())
    tables = comparison.tables(config.table_format)
    print("\n\n".join(tables))
    saved += write_tables(config.output_dir, tables, config.table_format)
    with announce("Drawing the report"):
        if comparison.saved is not None:
            saved.append(save_embedding_map(config.output_dir / "embedding_map.csv", comparison.saved, sets))
        saved.append(write_report(config.output_dir, config.picture_formats))
    for path in saved:
        print(f"Saved {path}")
    return max(report_failures(features.failures) for features in sets) if config.data_dir else EXIT_DONE


def find_features(config: ComparisonConfig) -> list[FeatureSet]:
    """Load the finished features files, or extract the corpus with each encoder."""
    from evaluation import check_heads, check_split
    from features import FeaturesError, check_stored, extract, load_features

    paths = config.features_path
    if config.data_dir is None and paths:
        finished = [load_features(path).take_layers(config.layers) for path in paths]
        config.check_outputs(corpus=finished[0].corpus)
        return finished
    if len(paths) not in (0, len(config.encoder)):
        raise FeaturesError(
            f"--features_path has {len(paths)} files for {len(config.encoder)} encoders; give one for each, or none."
        )
    corpus = open_corpus(config)
    config.check_outputs(corpus=corpus.name)
    check_split(corpus, config.split_by, config.fractions, seed=config.seed)
    jobs: list[dict[str, Any]] = []  # of all encoders, so that none is used before the weights of all are found
    for number, name in enumerate(config.encoder):
        weights = config.encoder_weights[number] if config.encoder_weights else "auto"
        job = describe_extraction(
            config,
            corpus,
            name,
            weights=None if weights == "auto" else weights,
            features_path=paths[number] if paths else None,
            others=config.encoder[:number] + config.encoder[number + 1 :],
        )
        if job["path"] in [other["path"] for other in jobs]:
            raise FeaturesError(
                f"{job['path']}: two encoders have this features file; give each encoder once, and a different "
                "--features_path for each."
            )
        jobs.append(job)
    check_heads(config.heads, has_layers=any(len(job["encoder"].spec["layers"]) > 1 for job in jobs))
    for job in jobs:
        check_stored(job["path"], job["encoder"], max_duration=job["max_duration"], store_dtype=job["store_dtype"])
    sets = []
    for job in jobs:
        sets.append(extract(**job))
        print(f"Features: {job['path']}")
    return sets


def read_options(config: ComparisonConfig) -> dict[str, Any]:
    """Return the hyper-parameters of the heads from the flags."""
    from heads import HEADS, HeadError, head_options, register_heads

    options = config.head_settings()
    compared = register_heads([head for head in config.heads if head != "all"])
    compared += HEADS if "all" in config.heads else ()
    own = {option for head in compared for option in head_options(head)}
    of_other_heads = {option for head in HEADS for option in head_options(head)} - own
    for name, value in read_assignments(config.head_options).items():
        if name in of_other_heads:
            heads = ", ".join(compared)
            raise HeadError(f"--head_options has {name!r}, but none of the heads {heads} has this option.")
        options[name] = value
    return options


if __name__ == "__main__":
    run(ComparisonConfig, main)
