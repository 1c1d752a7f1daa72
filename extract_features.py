"""Extract the embeddings of a corpus into a features file.

python extract_features.py LibriSpeech/dev-clean --encoder spectral
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from command_line import EXIT_DONE, EXIT_SOME_FAILED, read_assignments, run
from config import CorpusConfig, EmbeddedCorpusConfig, ExtractionConfig, channel_number
from files import count_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from corpora import Corpus


def main(config: ExtractionConfig) -> int:
    from features import FeaturesError, FeatureSet, Shard, extract, extract_shard

    if config.shard and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise FeaturesError("torchrun assigns a shard to each process; leave out --shard, or do not use torchrun.")
    if config.download_weights:
        return download_weights(config)
    if config.export_onnx is not None:
        return export(config, config.export_onnx)
    corpus = open_corpus(config)
    config = replace(config, device=own_device(config.device), num_workers=own_workers(config.num_workers))
    job = describe_extraction(
        config, corpus, config.encoder, weights=config.encoder_weights, features_path=config.features_path
    )
    # Without the flag, the shard is that of torchrun's rank.
    shard = config.shard or f"{os.environ.get('RANK', '0')}/{os.environ.get('WORLD_SIZE', '1')}"
    index, count = map(int, shard.split("/"))
    features = extract(**job) if count == 1 else extract_shard(**job, shard=Shard(index, count))
    if not isinstance(features, FeatureSet):
        print(f"Shard {index} of {count} is done. The last shard to finish writes {job['path']}.")
        code = report_failures(features)
        # torchrun stops all processes if one does not exit with 0. The process that merges reports the failures too.
        return code if config.shard else EXIT_DONE
    print(f"Features: {job['path']}")
    counts = f"{count_of(len(features), 'utterance')}, {count_of(len(features.speakers), 'speaker')}"
    print(f"{counts}, {features.features.shape[-1]} dimensions")
    return report_failures(features.failures)


def download_weights(config: ExtractionConfig) -> int:
    """Download the weights of the encoder if they are not on this machine."""
    from encoders import lazy_encoder

    spec = lazy_encoder(config.encoder, config.encoder_weights, speech_detection=config.speech_detection() or None).spec
    digest = spec["weights"]
    found = "it needs none" if digest is None else f"on this machine, digest {digest[:8]}"
    print(f"Weights of {config.encoder}: {found}")
    if "speech_detection" in spec:
        print(f"Weights of the speech detection: on this machine, digest {spec['speech_detection']['weights'][:8]}")
    return EXIT_DONE


def export(config: ExtractionConfig, path: Path) -> int:
    """Write the network of the encoder as an ONNX file."""
    from encoders import check_exportable, export_onnx, load_encoder

    check_exportable(config.encoder)
    options = config.encoder_settings() | read_assignments(config.encoder_options)
    encoder = load_encoder(
        config.encoder,
        config.encoder_weights,
        "cpu",
        precision=config.precision,
        max_bandwidth=config.max_bandwidth,
        speech_detection=config.speech_detection() or None,
        **options,
    )
    difference = export_onnx(encoder, path)
    print(f"ONNX file: {path}")
    print(f"{encoder.dim} dimensions; its vectors are within {difference:.1g} of those of {config.encoder}")
    return EXIT_DONE


def own_device(device: str) -> str:
    """Return the GPU of this torchrun process if no other device is given, or else the given device."""
    rank = os.environ.get("LOCAL_RANK")
    if rank is None or device not in ("auto", "cuda"):
        return device
    import torch

    return f"cuda:{int(rank) % torch.cuda.device_count()}" if torch.cuda.is_available() else device


def own_workers(num_workers: int | Literal["auto"]) -> int | Literal["auto"]:
    """Divide the cores among the torchrun processes on this machine."""
    n_processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if num_workers != "auto" or n_processes == 1:
        return num_workers
    from embedding import n_workers_of

    return max(n_workers_of(None) // n_processes, 1)


def open_corpus(config: CorpusConfig) -> Corpus:
    """Load the corpus, or ask for its folder."""
    from corpora import CorpusError, load_corpus

    if config.data_dir is None:
        raise CorpusError("Give the folder of the corpus, as the first argument or with --data_dir.")
    corpus = load_corpus(config.data_dir, config.layout, pattern=config.pattern)
    return corpus.with_channel(channel_number(config.channel))


def describe_extraction(
    config: EmbeddedCorpusConfig,
    corpus: Corpus,
    encoder_name: str,
    *,
    weights: str | None,
    features_path: Path | None,
    others: Sequence[str] = (),
) -> dict[str, Any]:
    """Return the arguments of `features.extract`, without the options that only the encoders `others` have."""
    from encoders import encoder_options, lazy_encoder, windows_of
    from features import choose_path, crop_of, default_file_name

    asked = config.encoder_settings() | read_assignments(config.encoder_options)
    elsewhere = {name for other in others for name in encoder_options(other)} - {*encoder_options(encoder_name)}
    options = {name: value for name, value in asked.items() if name not in elsewhere}
    encoder = lazy_encoder(
        encoder_name,
        weights,
        config.device,
        precision=config.precision,
        max_bandwidth=config.max_bandwidth,
        speech_detection=config.speech_detection() or None,
        **options,
    )
    # Windows cover whole utterances, whatever the crop.
    crop = crop_of(encoder, "auto" if windows_of(encoder.spec) else config.max_duration)
    name = default_file_name(
        corpus.name, encoder, crop, store_dtype=config.store_dtype, channel=channel_number(config.channel)
    )
    path = features_path or choose_path(config.output_dir / name, corpus, config.data_dir or corpus.root)
    return {
        "corpus": corpus,
        "encoder": encoder,
        "path": path,
        "max_duration": crop,
        "store_dtype": config.store_dtype,
        "batch_size": config.encoder_batch_size,
        "num_workers": None if config.num_workers == "auto" else config.num_workers,
    }


def report_failures(
    failures: Sequence[tuple[str, str]], advice: str = "Fix what failed and run the same command again."
) -> int:
    """Print the utterances that could not be used, and what to do about them; return the exit code."""
    for utterance_id, reason in failures:
        print(f"failed: {utterance_id}: {reason}")
    if failures:
        failed = count_of(len(failures), "file")
        print(f"{failed} failed; the others are done. {advice}")
    return EXIT_SOME_FAILED if failures else EXIT_DONE


if __name__ == "__main__":
    run(ExtractionConfig, main)
