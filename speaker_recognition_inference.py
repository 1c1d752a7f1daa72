"""Identify the speaker of a file, or of each file in a folder.

python speaker_recognition_inference.py recordings
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from command_line import EXIT_DONE, EXIT_SOME_FAILED, run
from config import InferenceConfig, channel_number

if TYPE_CHECKING:
    from collections.abc import Sequence

    from heads import Prediction


def main(config: InferenceConfig) -> int:
    from corpora import find_recordings
    from encoders import register_encoder
    from files import check_writable
    from heads import (
        SpeakerClassifier,
        describe_open_set,
        predictions_table,
        register_head,
        write_predictions,
    )

    paths = find_recordings(config.recordings)
    for encoder in config.encoder:
        register_encoder(encoder)
    for head in config.heads:
        register_head(head)
    classifier = SpeakerClassifier.load(find_classifier(config.classifier))
    check_writable(config.output.parent)
    n_answers = len(classifier.speakers) + (1 if config.reject else 0)
    top_k = min(config.top_k, n_answers)
    predictions = classifier.predict(
        paths,
        top_k,
        encoder_weights=config.encoder_weights,
        device=config.device,
        precision=config.precision,
        speech_detection=config.speech_detection(),
        progress=True,
        reject=config.reject,
        channel=channel_number(config.channel),
    )
    saved = write_predictions(config.output, predictions, top_k)
    if any(prediction.error is None for prediction in predictions):
        print(predictions_table(predictions))
    if config.reject:
        for sentence in describe_open_set(classifier.metrics.get("open_set")):
            print(sentence)
    return report_saved(saved, predictions)


def report_saved(saved: Path, predictions: Sequence[Prediction]) -> int:
    """Print the files that could not be used, and where the predictions are; return the exit code."""
    failed = [prediction for prediction in predictions if prediction.error is not None]
    for prediction in failed:
        print(f"failed: {prediction.name}: {prediction.error}")
    if len(failed) == len(predictions):
        print(f"No file could be used; {saved} contains the reasons.")
    else:
        print(f"Saved {saved}")
    return EXIT_SOME_FAILED if failed else EXIT_DONE


def find_classifier(path: Path) -> Path:
    """Return the path; if it does not exist, refuse with a list of the classifiers in its folder."""
    from heads import ClassifierError

    others = [] if path.exists() else sorted(path.parent.glob("speaker_classifier_*.pt"))
    if others:
        listed = ", ".join(map(str, others[:3])) + (", ..." if len(others) > 3 else "")
        raise ClassifierError(f"{path}: no such file, but there is {listed}. Give the classifier with --classifier.")
    return path


if __name__ == "__main__":
    run(InferenceConfig, main)
