"""Verify whether two recordings are of one speaker; enrol speakers and identify them.

python speaker_verification.py evaluate --features_path outputs/librispeech_features_spectral.pt --backend within plda
python speaker_verification.py train --features_path outputs/librispeech_features_spectral.pt --backend plda
python speaker_verification.py verify A.wav B.wav
python speaker_verification.py enroll --name anna A.wav B.wav
python speaker_verification.py identify --audio_path recordings
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from command_line import EXIT_DONE, EXIT_SOME_FAILED, command, run_one_of
from config import (
    EnrollConfig,
    EvaluateConfig,
    IdentifyConfig,
    ListConfig,
    MergeConfig,
    RemoveConfig,
    ScoreConfig,
    TrainVerifierConfig,
    VerifyConfig,
)
from files import check_suffix, check_writable, count_of, format_percent, format_table, write_atomically

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from corpora import Utterance
    from embedding import Row
    from encoders import LazyEncoder
    from verification import OwnCalibration, Recording, SpeakerVerifier


def evaluate(config: EvaluateConfig) -> int:
    """Score trials of cached embeddings: EER, minDCF, Cllr."""
    from evaluation import compare_backends
    from features import FeatureSet
    from reports import write_report
    from verification import TrialError, read_trials

    check_writable(config.output_dir)
    if config.features_path is None:
        raise TrialError("Give the features file of the trials: --features_path FILE.")
    features, train = FeatureSet.load(config.features_path), None
    if config.train_features is not None:
        train = FeatureSet.load(config.train_features)
    trials = None if config.trials is None else read_trials(config.trials, features.ids)
    found = compare_backends(
        features,
        config.backend,
        trials=trials,
        train_features=train,
        normalise=config.as_norm,
        seed=config.seed,
        triplets=config.triplets,
    )
    saved = found.save(config.output_dir, command())
    if config.triplets is not None:
        saved.append(found.scored[0].trials.save(config.output_dir / "trials.txt", found.ids))
    print(found.table())
    saved.append(write_report(config.output_dir))
    for path in saved:
        print(f"Saved {path}")
    return EXIT_DONE


def train(config: TrainVerifierConfig) -> int:
    """Train a backend, calibrate its scores, and save both as a verifier."""
    from features import FeatureSet
    from verification import SpeakerVerifier, VerifierError, compare_with_ready

    if config.features_path is None:
        raise VerifierError("Give the features file to train on: --features_path FILE.")
    check_writable(config.output.parent)
    features = FeatureSet.load(config.features_path)
    verifier = SpeakerVerifier.train(features, config.backend, config.seed)
    n_trained, n_calibrated = (len(verifier.training[name]) for name in ("trained_on", "calibrated_on"))
    trained = f"trained on {n_trained} speakers, " if n_trained else ""
    eer = format_percent(verifier.training["eer"], 2)
    print(f"{config.backend}: {trained}calibrated on {n_calibrated} speakers with an EER of {eer} %")
    print(f"Saved {verifier.save(config.output)}")
    compared = compare_with_ready(features, config.backend, config.seed)
    if compared is not None:
        print(
            f"Cllr on speakers that were left out: {compared[0]:.3f} if trained like this verifier on half of the "
            f"speakers, {compared[1]:.3f} with the ready verifier, which was calibrated on other corpora"
        )
    return EXIT_DONE


def verify(config: VerifyConfig) -> int:
    """Decide whether two recordings are of one speaker, or one is of an enrolled speaker."""
    from verification import SpeakerStore

    if config.store is None or config.name is None:
        verifier = load_verifier(config.verifier)
        one, other = config.audio
        verdict = verifier.verify(one, other, p_target=config.p_target, encoder=encoder_of(verifier, config))
    else:
        with SpeakerStore.open(config.store) as store:
            store.check_name(config.name)
            [vector], seconds = store.verifier.embed_files(config.audio, encoder_of(store.verifier, config))
            verdict = store.verify(config.name, vector, p_target=config.p_target, seconds=float(seconds))
    print(f"score {verdict.score:.4f}, log-likelihood ratio {verdict.llr:+.2f}")
    same, different = (
        ("the same speaker", "two speakers") if config.name is None else (config.name, f"not {config.name}")
    )
    print(
        f"{same if verdict.same else different}: probability of {same} {format_percent(verdict.probability)} % "
        f"(prior {100 * config.p_target:g} %)"
    )
    return EXIT_DONE


def enroll(config: EnrollConfig) -> int:
    """Enrol a speaker with some recordings, or all speakers of a features file."""
    from features import FeatureSet
    from verification import SpeakerStore

    verifier, is_new = verifier_of(config), not config.store.exists()
    encoder = encoder_of(verifier, config) if config.audio or config.background else None
    # All audio is embedded before the store is changed.
    background, failed = embed_recordings(() if config.background is None else (config.background,), verifier, encoder)
    recordings, others = embed_recordings(config.audio, verifier, encoder)
    features = None if config.features_path is None else FeatureSet.load(config.features_path)
    with SpeakerStore.create(config.store, verifier) as store:
        n_background = store.add_background(background) if background else None
        if features is not None:
            added, given = store.enroll_features(features, config.existing), len(features)
        elif recordings:
            added, given = store.enroll(str(config.name), recordings, config.existing), len(recordings)
        n_speakers = count_of(len(store), "speaker")
    if is_new:
        print(f"Created {config.store}")
    if features is not None or recordings:
        skipped = f", {given - added} skipped (enrolled before, or too short)" if added < given else ""
        print(f"{count_of(added, 'recording')} enrolled{skipped}; {config.store} has {n_speakers}")
    if n_background is not None:
        print(f"{count_of(n_background, 'background recording')} added")
    for row in [*others, *failed]:
        print(f"failed: {row.utterance.path}: {row.error}")
    return EXIT_SOME_FAILED if others or failed else EXIT_DONE


def embed_recordings(
    audio: Sequence[Path], verifier: SpeakerVerifier, encoder: LazyEncoder | None
) -> tuple[list[Recording], list[Row]]:
    """Embed files, and return the recordings and the rows of files that cannot be used."""
    from verification import Recording, StoreError

    if not audio or encoder is None:
        return [], []
    rows = list(verifier.embed(list_utterances(audio), encoder))
    failed = [row for row in rows if row.vector is None]
    if len(failed) == len(rows):
        raise StoreError(f"{failed[0].utterance.path}: {failed[0].error}. No speaker was enrolled.")
    return [Recording.of(row) for row in rows if row.vector is not None], failed


def remove(config: RemoveConfig) -> int:
    """Remove an enrolled speaker, or the background recordings."""
    from verification import SpeakerStore, StoreError

    if config.name is None and not config.background:
        raise StoreError("Give the name of the speaker to remove: --name NAME, or --background.")
    with SpeakerStore.open(config.store) as store:
        if config.name is not None:
            store.remove(config.name)
            print(f"{config.name} is removed; {config.store} has {count_of(len(store), 'speaker')}")
        if config.background:
            print(f"{count_of(store.remove_background(), 'background recording')} removed")
    return EXIT_DONE


def list_speakers(config: ListConfig) -> int:
    """List the enrolled speakers."""
    from verification import SpeakerStore

    with SpeakerStore.open(config.store) as store:
        lines = [[each.name, str(each.n_recordings), f"{each.seconds:.1f}", each.changed] for each in store.speakers()]
        verifier, own = store.verifier, store.own_calibration()
    print(format_table(["speaker", "recordings", "seconds", "enrolled (UTC)"], lines, "<>><"))
    encoder = verifier.encoder.get("name")
    print(f"{count_of(len(lines), 'speaker')}; encoder {encoder}, backend {verifier.backend.name}")
    print(f"Calibration: {describe_calibration(own)}")
    return EXIT_DONE


def describe_calibration(own: OwnCalibration) -> str:
    """Describe in words what the calibration of a store was adapted to."""
    if not own.n_speakers + own.n_background + own.n_left_out:
        return "that of the verifier"
    background = f" and {count_of(own.n_background, 'background recording')}" if own.n_background else ""
    left_out = f"; {own.n_left_out} more match an enrolled speaker and are left out" if own.n_left_out else ""
    speakers = count_of(own.n_speakers, "enrolled speaker")
    return f"that of the verifier, adapted to {speakers}{background} (scores shifted by {-own.shift:+.3f}){left_out}"


def merge(config: MergeConfig) -> int:
    """Enrol the speakers of another store."""
    from verification import SpeakerStore, StoreError

    if config.other is None:
        raise StoreError("Give the other store: --other FILE.")
    with SpeakerStore.open(config.store) as store, SpeakerStore.open(config.other) as other:
        added = store.merge(other, config.existing)
        print(f"{count_of(added, 'recording')} enrolled; {config.store} has {count_of(len(store), 'speaker')}")
    return EXIT_DONE


def identify(config: IdentifyConfig) -> int:
    """Identify the enrolled speaker of each recording, or report unknown."""
    from corpora import find_recordings
    from heads import check_predictions_path, predictions_table, write_predictions
    from verification import SpeakerStore

    paths = find_recordings(config.audio_path)
    if config.timeline:
        return show_timeline(config, paths)
    output = config.output or config.store.parent / "identified.csv"
    check_predictions_path(output)
    check_writable(output.parent)
    with SpeakerStore.open(config.store) as store:
        encoder = encoder_of(store.verifier, config)
        predictions = store.identify_files(paths, encoder, top_k=config.top_k, p_known=config.p_known, progress=True)
    failed = [prediction for prediction in predictions if prediction.error is not None]
    top_k = max(len(prediction.speakers) for prediction in predictions)
    saved = write_predictions(output, predictions, top_k)
    if len(failed) < len(predictions):
        print(predictions_table(predictions))
    print(f"Saved {saved}")
    for prediction in failed:
        print(f"failed: {prediction.path}: {prediction.error}")
    return EXIT_SOME_FAILED if failed else EXIT_DONE


def show_timeline(config: IdentifyConfig, paths: list[Path]) -> int:
    """Report who speaks when in one recording."""
    from verification import SpeakerStore, StoreError, find_turns, to_rttm

    if len(paths) != 1:
        raise StoreError(f"{config.audio_path}: found {len(paths)} recordings; --timeline expects one.")
    output = config.output or config.store.parent / "timeline.rttm"
    check_suffix(output, ".rttm")
    check_writable(output.parent)
    with SpeakerStore.open(config.store) as store:
        encoder = encoder_of(store.verifier, config)
        turns = find_turns(
            store, paths[0], encoder, window=config.window, hop=config.hop, p_known=config.p_known, progress=True
        )
    lines = [[f"{turn.start:.2f}", f"{turn.end:.2f}", turn.speaker, format_percent(turn.probability)] for turn in turns]
    print(format_table(["from", "to", "speaker", "percent"], lines, ">><>"))
    text = to_rttm(turns, paths[0])
    print(f"Saved {write_atomically(output, lambda file: file.write(text.encode('utf-8', 'surrogateescape')))}")
    return EXIT_DONE


def score(config: ScoreConfig) -> int:
    """Find the enrolled speakers that cached embeddings are most similar to."""
    from features import FeatureSet
    from verification import SHOWN, SpeakerStore, StoreError, scores_table, write_scores

    if config.features_path is None:
        raise StoreError("Give the features file to score: --features_path FILE.")
    check_suffix(config.output, ".csv")
    check_writable(config.output.parent)
    features = FeatureSet.load(config.features_path)
    with SpeakerStore.open(config.store) as store:
        nearest = store.nearest_features(features, config.top_k)
    saved = write_scores(config.output, features.ids, nearest)
    print(scores_table(features.ids, nearest))
    shown = f" (the first {SHOWN} are shown)" if len(features) > SHOWN else ""
    print(f"{count_of(len(features), 'recording')} against {count_of(nearest.n_speakers, 'speaker')}{shown}")
    print(f"Saved {saved}")
    return EXIT_DONE


def list_utterances(audio: Sequence[Path]) -> list[Utterance]:
    """Return the given files, and the recordings in the given folders, as utterances."""
    from corpora import Utterance, find_recordings

    listed = [find_recordings(given) if given.is_dir() else [given] for given in audio]
    return [Utterance(path, speaker="", session="") for paths in listed for path in paths]


def verifier_of(config: EnrollConfig) -> SpeakerVerifier:
    """Return the verifier of the store, or of a new store; refuse bad input before audio is embedded."""
    from verification import SpeakerStore, check_name

    is_created = config.store.exists() and (config.store.is_dir() or config.store.stat().st_size > 0)
    if config.name is not None:
        check_name(config.name)
    if not is_created:
        return load_verifier(config.verifier)
    if config.verifier is not None:
        SpeakerStore.create(config.store, load_verifier(config.verifier)).close()
    with SpeakerStore.open(config.store) as store:
        if config.name is not None and config.existing == "refuse":
            store.check_name(config.name, is_enrolled=False)
        return store.verifier


def load_verifier(path: Path | None) -> SpeakerVerifier:
    """Load a verifier; by default the one that the command train saved if it exists, or else the ready one."""
    from verification import SpeakerVerifier

    saved = TrainVerifierConfig.output
    if (path is None and not saved.exists()) or str(path) == "ready":
        print("Verifier: the ready one (encoder campplus, cosine)")
        return SpeakerVerifier.ready()
    if path is None:
        print(f"Verifier: {saved}")
    return SpeakerVerifier.load(path or saved)


def encoder_of(verifier: SpeakerVerifier, config: VerifyConfig | EnrollConfig | IdentifyConfig) -> LazyEncoder:
    """Return the encoder of a verifier, with the weights, device and precision from the flags."""
    from encoders import encoder_from_spec

    return encoder_from_spec(verifier.encoder, config.encoder_weights, config.device, precision=config.precision)


if __name__ == "__main__":
    run_one_of(
        {
            "evaluate": (EvaluateConfig, evaluate),
            "train": (TrainVerifierConfig, train),
            "verify": (VerifyConfig, verify),
            "enroll": (EnrollConfig, enroll),
            "remove": (RemoveConfig, remove),
            "list": (ListConfig, list_speakers),
            "merge": (MergeConfig, merge),
            "identify": (IdentifyConfig, identify),
            "score": (ScoreConfig, score),
        }
    )
