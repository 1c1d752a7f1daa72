"""Train a network on a corpus, and save it as a frozen encoder.

python train_encoder.py LibriSpeech/train-clean-100 --network bilstm --objective triplet
python extract_features.py LibriSpeech/dev-clean --encoder trained --encoder_weights outputs/encoder_bilstm.pt
"""

import os
import shlex
from dataclasses import replace
from pathlib import Path

from command_line import EXIT_DONE, command, read_assignments, run
from config import TrainingConfig
from extract_features import open_corpus, report_failures


def main(config: TrainingConfig) -> int:
    from corpora import download_librispeech, take_subsets
    from files import InputError, announce
    from reports import format_results, write_report
    from training import train_encoder

    if config.download:
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise InputError("--download is for one process. Download first, without torchrun, then train without it.")
        folder = download_librispeech(config.data_dir or Path("data"), config.download_url)
        config = replace(config, data_dir=folder)
    trained = train_encoder(
        take_subsets(open_corpus(config), config.subsets),
        config.network,
        network_options=read_assignments(config.all_network_options),
        front_end_options=read_assignments(config.front_end_options),
        command=command(),
        **config.training_settings(),
    )
    if not trained.paths:  # the first process writes and prints
        return EXIT_DONE
    print("\n\n".join(format_results(config.output_dir, "plain")))
    with announce("Drawing the report"):
        page = write_report(config.output_dir)
    for path in (*trained.saved, page):
        print(f"Saved {path}")
    weights = shlex.quote(str(trained.paths[0]))
    print(f"Use it: python extract_features.py CORPUS --encoder trained --encoder_weights {weights}")
    if trained.classifier is not None:
        classifier = shlex.quote(str(trained.classifier))
        print(f"Identify its speakers: python speaker_recognition_inference.py RECORDINGS --classifier {classifier}")
    return report_failures(trained.failures, "Fix what failed, and give another --output_dir to train with it.")


if __name__ == "__main__":
    run(TrainingConfig, main)
