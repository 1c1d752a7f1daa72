"""Corpus -> cached embeddings.

python extract_features.py --data_dir LibriSpeech/dev-clean --encoder spectral
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from command_line import EXIT_DONE, EXIT_SOME_FAILED, run
from config import CorpusConfig, ExtractionConfig

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from corpora import Corpus


def main(config: ExtractionConfig) -> int:
    from features import FeaturesError, FeatureSet, Shard, extract, extract_shard

    if config.shard and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise FeaturesError("torchrun gives each process its share; leave --shard out, or torchrun.")
    corpus = open_corpus(config)
    config = replace(config, device=own_device(config.device), num_workers=own_workers(config.num_workers))
    job = describe_extraction(config, corpus, config.encoder, config.encoder_weights, config.features_path)
    # Without the flag it is the share of torchrun's rank.
    shard = config.shard or f"{os.environ.get('RANK', '0')}/{os.environ.get('WORLD_SIZE', '1')}"
    index, count = map(int, shard.split("/"))
    features = extract(**job) if count == 1 else extract_shard(**job, shard=Shard(index, count))
    if not isinstance(features, FeatureSet):
        print(f"Shard {index} of {count} is done. When all are, the last one makes {job['path']}.")
        code = report_failures(features)
        # torchrun ends all processes when one does not end with 0; which files failed is told by who merges, too.
        return code if config.shard else EXIT_DONE
    print(f"Features: {job['path']}")
    print(f"{len(features)} utterances, {len(features.speakers)} speakers, {features.features.shape[-1]} dimensions")
    return report_failures(features.failures)


def own_device(device: str) -> str:
    """Return the GPU of one of torchrun's processes, where there are GPUs and none is named."""
    rank = os.environ.get("LOCAL_RANK")
    if rank is None or device not in ("auto", "cuda"):
        return device
    import torch

    return f"cuda:{int(rank) % torch.cuda.device_count()}" if torch.cuda.is_available() else device


def own_workers(num_workers: int | Literal["auto"]) -> int | Literal["auto"]:
    """Divide the cores among torchrun's processes on this machine."""
    n_processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if num_workers != "auto" or n_processes == 1:
        return num_workers
    from features import n_workers_of

    return max(n_workers_of(None) // n_processes, 1)


def open_corpus(config: CorpusConfig) -> Corpus:
    """Read which recordings there are."""
    from corpora import CorpusError, load_corpus

    if config.data_dir is None:
        raise CorpusError("Say where the recordings are: --data_dir FOLDER.")
    return load_corpus(config.data_dir, config.layout)


def describe_extraction(
    config: CorpusConfig,
    corpus: Corpus,
    encoder_name: str,
    weights: str | None,
    features_path: Path | None,
    others: Sequence[str] = (),
) -> dict[str, Any]:
    """Return the arguments of `features.extract`; an option that only `others` have is not for this encoder."""
    from encoders import default_spec, encoder_options, lazy_encoder
    from features import default_file_name

    asked = {name: getattr(config, name) for name in ("layers", "pooling", "window", "hop")}
    elsewhere = {name for other in others for name in encoder_options(other)} - {*encoder_options(encoder_name)}
    options = {name: value for name, value in asked.items() if value is not None and name not in elsewhere}
    encoder = lazy_encoder(encoder_name, weights, config.device, config.precision, **options)
    crop = None if "window" in options else config.max_duration
    usual = default_spec(encoder_name)
    name = default_file_name(corpus.name, encoder.spec, crop, usual, CorpusConfig.max_duration, config.store_dtype)
    return {
        "corpus": corpus,
        "encoder": encoder,
        "path": features_path or config.output_dir / name,
        "max_duration": crop,
        "store_dtype": config.store_dtype,
        "batch_size": config.encoder_batch_size,
        "num_workers": None if config.num_workers == "auto" else config.num_workers,
    }


def report_failures(failures: Sequence[tuple[str, str]]) -> int:
    """List the utterances that gave no features, and return the exit code."""
    for utterance_id, reason in failures:
        print(f"failed: {utterance_id}: {reason}")
    if failures:
        print(f"{len(failures)} files failed; the others are done. Mend them and run the same command again.")
    return EXIT_SOME_FAILED if failures else EXIT_DONE


if __name__ == "__main__":
    run(ExtractionConfig, main)
