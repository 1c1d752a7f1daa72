"""Who speaks in this file, or in each file of this folder?

python speaker_recognition_inference.py --audio_path recordings
"""

from __future__ import annotations

from pathlib import Path

from command_line import EXIT_DONE, EXIT_SOME_FAILED, run
from config import InferenceConfig


def main(config: InferenceConfig) -> int:
    from corpora import find_recordings
    from evaluation import about_strangers, check_predictions_path, predictions_table, write_predictions
    from features import check_writable
    from heads import SpeakerClassifier

    paths = find_recordings(config.audio_path)
    classifier = SpeakerClassifier.load(find_classifier(config.classifier))
    check_predictions_path(config.output)
    check_writable(config.output.parent)
    top_k = min(config.top_k, len(classifier.speakers) + config.reject)
    predictions = classifier.predict(
        paths,
        top_k,
        encoder_weights=config.encoder_weights,
        device=config.device,
        precision=config.precision,
        progress=True,
        reject=config.reject,
    )
    failed = [prediction for prediction in predictions if prediction.error is not None]
    saved = write_predictions(config.output, predictions, top_k)
    if len(failed) < len(predictions):
        print(predictions_table(predictions))
    if config.reject:
        for sentence in about_strangers(classifier.metrics.get("open_set")):
            print(sentence)
    print(f"Saved {saved}")
    for prediction in failed:
        print(f"failed: {prediction.path}: {prediction.error}")
    return EXIT_SOME_FAILED if failed else EXIT_DONE


def find_classifier(path: Path) -> Path:
    """Return the path, or say which classifiers there are instead."""
    from heads import ClassifierError

    others = [] if path.exists() else sorted(path.parent.glob("speaker_classifier_*.pt"))
    if others:
        listed = ", ".join(map(str, others[:3])) + ", ..." * (len(others) > 3)
        raise ClassifierError(f"{path}: no such file, but there is {listed}. Give the one you mean as --classifier.")
    return path


if __name__ == "__main__":
    run(InferenceConfig, main)
