"""Who speaks in this file, or in each file of this folder?

python speaker_recognition_inference.py --audio_path recordings
"""

from __future__ import annotations

from pathlib import Path

from command_line import EXIT_DONE, EXIT_SOME_FAILED, run
from config import InferenceConfig


def main(config: InferenceConfig) -> int:
    from evaluation import check_predictions_path, predictions_table, write_predictions
    from features import check_writable
    from heads import SpeakerClassifier

    paths = list_audio(config.audio_path)
    classifier = SpeakerClassifier.load(config.classifier)
    check_predictions_path(config.output)
    check_writable(config.output.parent)
    top_k = min(config.top_k, len(classifier.speakers))
    predictions = classifier.predict(
        paths,
        top_k,
        encoder_weights=config.encoder_weights,
        device=config.device,
        precision=config.precision,
        progress=True,
    )
    failed = [prediction for prediction in predictions if prediction.error is not None]
    saved = write_predictions(config.output, predictions, top_k)
    if len(failed) < len(predictions):
        print(predictions_table(predictions))
    print(f"Saved {saved}")
    for prediction in failed:
        print(f"failed: {prediction.path}: {prediction.error}")
    return EXIT_SOME_FAILED if failed else EXIT_DONE


def list_audio(path: Path | None) -> list[Path]:
    """Return the file, or the audio files in the folder and all folders in it."""
    from corpora import CorpusError, find_audio

    if path is None:
        raise CorpusError("Say what to listen to: --audio_path FILE_OR_FOLDER.")
    if not path.exists():
        raise CorpusError(f"{path}: no such file or folder. Give an audio file, or a folder of them, as --audio_path.")
    paths = [path] if path.is_file() else [path / name for name in find_audio(path)]
    if not paths:
        raise CorpusError(f"{path}: there is no audio in this folder. Give the folder that holds the recordings.")
    return paths


if __name__ == "__main__":
    run(InferenceConfig, main)
