"""Who speaks in this file, or in each file of this folder?

python speaker_recognition_inference.py --audio_path recordings
"""

from __future__ import annotations

from command_line import EXIT_DONE, EXIT_SOME_FAILED, run
from config import InferenceConfig


def main(config: InferenceConfig) -> int:
    from corpora import find_recordings
    from evaluation import about_strangers, check_predictions_path, predictions_table, write_predictions
    from features import check_writable
    from heads import SpeakerClassifier

    paths = find_recordings(config.audio_path)
    classifier = SpeakerClassifier.load(config.classifier)
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
        print("\n".join(about_strangers(classifier.metrics.get("open_set"))))
    print(f"Saved {saved}")
    for prediction in failed:
        print(f"failed: {prediction.path}: {prediction.error}")
    return EXIT_SOME_FAILED if failed else EXIT_DONE


if __name__ == "__main__":
    run(InferenceConfig, main)
