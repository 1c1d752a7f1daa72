"""Train a network on a corpus, or fine-tune a pretrained one, and save it as a frozen encoder.

python train_encoder.py LibriSpeech/train-clean-100 --network bilstm --objective triplet
python extract_features.py LibriSpeech/dev-clean --encoder trained --encoder_weights outputs/encoder_bilstm.pt
python train_encoder.py AISHELL-4 --config recipes/aishell4_transfer.yaml --init_weights facebook/wav2vec2-large-xlsr-53
"""

import os
import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from command_line import EXIT_DONE, command, read_assignments, run
from config import TrainingConfig
from extract_features import open_corpus, report_failures

if TYPE_CHECKING:
    from corpora import Corpus

AFTER_FAILURES = "Fix what failed, and give another --output_dir to train with it."


def main(config: TrainingConfig) -> int:
    from corpora import download_librispeech, take_subsets
    from embedding import warn_of_mixed_channels
    from files import InputError, announce
    from reports import format_results, write_report
    from training import train_encoder

    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        if config.download:
            raise InputError("--download is for one process. Download first, without torchrun, then train without it.")
        if config.per_session:
            raise InputError("--per_session is for one process; leave out torchrun.")
    if config.download:
        folder = download_librispeech(config.data_dir or Path("data"), config.download_url)
        config = replace(config, data_dir=folder)
    corpus = take_subsets(open_corpus(config), config.subsets)
    warn_of_mixed_channels(corpus.utterances)
    if config.per_session:
        return train_each_session(config, corpus)
    trained = train_encoder(
        corpus,
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
    return report_failures(trained.failures, AFTER_FAILURES)


def train_each_session(config: TrainingConfig, corpus: "Corpus") -> int:
    """Train a network for each session, draw its report, and print the table of all sessions."""
    from files import announce, check_not_other_kind, file_kinds
    from reports import write_report
    from training import session_folders, train_sessions

    for folder in session_folders(corpus, config.output_dir).values():
        replace(config, output_dir=folder).check_outputs(corpus=corpus.name)
        check_not_other_kind(folder / f"{folder.name}-best.pt", file_kinds.CLASSIFIER, "output_dir")
    done = train_sessions(
        corpus,
        config.network,
        start_session=config.start_session,
        network_options=read_assignments(config.all_network_options),
        front_end_options=read_assignments(config.front_end_options),
        command=command(),
        **config.training_settings(),
    )
    classifiers = [trained.classifier for trained in done.trained.values() if trained.classifier is not None]
    with announce("Drawing the reports"):
        pages = [write_report(classifier.parent) for classifier in classifiers]
    print(done.table.text())
    for path in (*classifiers, *pages, *(config.output_dir / name for name in ("sessions.csv", "metrics.csv"))):
        print(f"Saved {path}")
    first = shlex.quote(str(classifiers[0]))
    print(f"Identify its speakers: python speaker_recognition_inference.py RECORDINGS --classifier {first}")
    return report_failures(done.failures, AFTER_FAILURES)


if __name__ == "__main__":
    run(TrainingConfig, main)
