"""Are these two the same speaker? Who is this, if anyone I know?

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
    IdentifyConfig,
    MergeConfig,
    RemoveConfig,
    ScoreConfig,
    StoreConfig,
    TrialsConfig,
    VerifierConfig,
    VerifyConfig,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from corpora import Utterance
    from encoders import LazyEncoder
    from verification import SpeakerVerifier


def evaluate(config: TrialsConfig) -> int:
    """Score trials of cached features by backends: EER, minDCF, Cllr."""
    from evaluation import compare_backends, write_report
    from features import FeatureSet, check_writable
    from verification import TrialError, read_trials

    check_writable(config.output_dir)
    if config.features_path is None:
        raise TrialError("Say which features the trials are of: --features_path FILE.")
    features, train = FeatureSet.load(config.features_path), None
    if config.train_features is not None:
        train = FeatureSet.load(config.train_features)
    trials = None if config.trials is None else read_trials(config.trials, features.ids)
    found = compare_backends(features, config.backend, trials, train, config.as_norm, config.seed, config.triplets)
    saved = found.save(config.output_dir, command())
    if config.triplets is not None:
        saved.append(found.scored[0].trials.save(config.output_dir / "trials.txt", found.ids))
    print(found.table())
    saved.append(write_report(config.output_dir))
    for path in saved:
        print(f"Saved {path}")
    return EXIT_DONE


def train(config: VerifierConfig) -> int:
    """Train a backend, calibrate its scores, and save both as a verifier."""
    from features import FeatureSet, check_writable
    from verification import SpeakerVerifier, VerifierError

    if config.features_path is None:
        raise VerifierError("Say what to train on: --features_path FILE.")
    check_writable(config.output.parent)
    verifier = SpeakerVerifier.train(FeatureSet.load(config.features_path), config.backend, config.seed)
    n_trained, n_calibrated = (len(verifier.training[name]) for name in ("trained_on", "calibrated_on"))
    trained = f"trained on {n_trained} speakers, " * (n_trained > 0)
    print(
        f"{config.backend}: {trained}calibrated on {n_calibrated}, whose EER is {100 * verifier.training['eer']:.2f} %"
    )
    print(f"Saved {verifier.save(config.output)}")
    return EXIT_DONE


def verify(config: VerifyConfig) -> int:
    """Tell whether two recordings are of one speaker, or one is of an enrolled speaker."""
    from verification import SpeakerStore, SpeakerVerifier

    if config.store is None or config.name is None:
        verifier = SpeakerVerifier.load(config.verifier)
        one, other = config.audio
        verdict = verifier.verify(one, other, config.p_target, encoder_of(verifier, config))
    else:
        with SpeakerStore.open(config.store) as store:
            store.check_name(config.name)
            [vector] = store.verifier.vectors(config.audio, encoder_of(store.verifier, config))
            verdict = store.verify(config.name, vector, config.p_target)
    print(f"score {verdict.score:.4f}, log-likelihood ratio {verdict.llr:+.2f}")
    who = ("the same speaker", "two speakers") if config.name is None else (config.name, f"not {config.name}")
    print(
        f"{who[0] if verdict.same else who[1]}: probability of {who[0]} {100 * verdict.probability:.1f} %, "
        f"before anything was heard {100 * config.p_target:g} %"
    )
    return EXIT_DONE


def enroll(config: EnrollConfig) -> int:
    """Enrol a speaker by some recordings, or all speakers of a features file."""
    from features import FeatureSet
    from verification import Recording, SpeakerStore, StoreError

    verifier, is_new = verifier_of(config), not config.store.exists()
    failed = []
    if config.features_path is not None:
        features = FeatureSet.load(config.features_path)
        with SpeakerStore.create(config.store, verifier) as store:
            added, given = store.enroll_features(features, config.existing), len(features)
            n_speakers = len(store)
    else:
        rows = list(verifier.listen(list_utterances(config.audio), encoder_of(verifier, config)))
        failed = [row for row in rows if row.vector is None]
        if len(failed) == len(rows):
            raise StoreError(f"{failed[0].utterance.path}: {failed[0].error}. Nobody was enrolled.")
        recordings = [Recording.of(row) for row in rows if row.vector is not None]
        with SpeakerStore.create(config.store, verifier) as store:
            added, given = store.enroll(str(config.name), recordings, config.existing), len(recordings)
            n_speakers = len(store)
    if is_new:
        print(f"Made {config.store}")
    already = f", {given - added} were there already or are too short" * (added < given)
    print(f"{count(added, 'recording')} enrolled{already}; {config.store} has {count(n_speakers, 'speaker')}")
    for row in failed:
        print(f"failed: {row.utterance.path}: {row.error}")
    return EXIT_SOME_FAILED if failed else EXIT_DONE


def remove(config: RemoveConfig) -> int:
    """Forget an enrolled speaker."""
    from verification import SpeakerStore, StoreError

    if config.name is None:
        raise StoreError("Say who is forgotten: --name NAME.")
    with SpeakerStore.open(config.store) as store:
        store.remove(config.name)
        print(f"{config.name} is removed; {config.store} has {count(len(store), 'speaker')}")
    return EXIT_DONE


def list_speakers(config: StoreConfig) -> int:
    """List the speakers who are enrolled."""
    from evaluation import format_table
    from verification import SpeakerStore

    with SpeakerStore.open(config.store) as store:
        lines = [[each.name, str(each.n_recordings), f"{each.seconds:.1f}", each.changed] for each in store.speakers()]
        verifier = store.verifier
    print(format_table(["speaker", "recordings", "seconds", "enrolled (UTC)"], lines, "<>><"))
    print(
        f"{count(len(lines), 'speaker')}, heard by {verifier.encoder.get('name')}, compared by {verifier.backend.name}"
    )
    return EXIT_DONE


def merge(config: MergeConfig) -> int:
    """Enrol the speakers of another store."""
    from verification import SpeakerStore, StoreError

    if config.other is None:
        raise StoreError("Say which store's speakers are enrolled: --other FILE.")
    with SpeakerStore.open(config.store) as store, SpeakerStore.open(config.other) as other:
        added = store.merge(other, config.existing)
        print(f"{count(added, 'recording')} enrolled; {config.store} has {count(len(store), 'speaker')}")
    return EXIT_DONE


def identify(config: IdentifyConfig) -> int:
    """Tell which enrolled speaker speaks, or that none does."""
    from corpora import find_recordings
    from evaluation import check_predictions_path, predictions_table, write_predictions
    from features import check_writable
    from verification import SpeakerStore

    paths = find_recordings(config.audio_path)
    if config.timeline:
        return show_timeline(config, paths)
    output = config.output or config.store.parent / "identified.csv"
    check_predictions_path(output)
    check_writable(output.parent)
    with SpeakerStore.open(config.store) as store:
        encoder = encoder_of(store.verifier, config)
        predictions = store.identify_files(paths, encoder, config.top_k, config.p_known, progress=True)
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
    """Tell who speaks when in one recording."""
    from evaluation import format_table
    from features import check_writable, write_atomically
    from verification import SpeakerStore, StoreError, find_turns, to_rttm

    if len(paths) != 1:
        raise StoreError(f"{config.audio_path}: {len(paths)} recordings; --timeline takes one at a time.")
    output = config.output or config.store.parent / "timeline.rttm"
    check_suffix(output, ".rttm")
    check_writable(output.parent)
    with SpeakerStore.open(config.store) as store:
        encoder = encoder_of(store.verifier, config)
        turns = find_turns(store, paths[0], encoder, config.window, config.hop, config.p_known, progress=True)
    lines = [[f"{turn.start:.2f}", f"{turn.end:.2f}", turn.speaker, f"{100 * turn.probability:.1f}"] for turn in turns]
    print(format_table(["from", "to", "speaker", "percent"], lines, ">><>"))
    text = to_rttm(turns, paths[0])
    print(f"Saved {write_atomically(output, lambda file: file.write(text.encode('utf-8', 'surrogateescape')))}")
    return EXIT_DONE


def score(config: ScoreConfig) -> int:
    """Find the enrolled speakers that cached embeddings are likest to."""
    from evaluation import SHOWN, scores_table, write_scores
    from features import FeatureSet, check_writable
    from verification import SpeakerStore, StoreError

    if config.features_path is None:
        raise StoreError("Say what to score: --features_path FILE.")
    check_suffix(config.output, ".csv")
    check_writable(config.output.parent)
    features = FeatureSet.load(config.features_path)
    with SpeakerStore.open(config.store) as store:
        nearest = store.nearest_features(features, config.top_k)
    saved = write_scores(config.output, features.ids, nearest)
    print(scores_table(features.ids, nearest))
    shown = f" (the first {SHOWN} above)" * (len(features) > SHOWN)
    print(f"{count(len(features), 'recording')} against {count(nearest.n_speakers, 'speaker')}{shown}")
    print(f"Saved {saved}")
    return EXIT_DONE


def count(number: int, thing: str) -> str:
    """Write how many there are of a thing."""
    return f"{number} {thing}{'s' * (number != 1)}"


def check_suffix(path: Path, suffix: str) -> None:
    """Refuse an output of another kind, which might be a file that is needed."""
    from features import OutputError

    if path.suffix.lower() != suffix:
        raise OutputError(f"{path}: this answer is written to a {suffix} file; give --output the name of one.")


def list_utterances(audio: Sequence[Path]) -> list[Utterance]:
    """List the files that are named, and those of folders that are named."""
    from corpora import Utterance, find_recordings

    listed = [find_recordings(given) if given.is_dir() else [given] for given in audio]
    return [Utterance(path, speaker="", session="") for paths in listed for path in paths]


def verifier_of(config: EnrollConfig) -> SpeakerVerifier:
    """Return the verifier of the store, or the one for a new store; refuse now what the store would refuse later."""
    from pathlib import Path

    from verification import SpeakerStore, SpeakerVerifier, check_name

    is_there = config.store.exists() and (config.store.is_dir() or config.store.stat().st_size > 0)
    if config.name is not None:
        check_name(config.name)
    if not is_there:
        return SpeakerVerifier.load(config.verifier or Path("outputs/speaker_verifier.pt"))
    if config.verifier is not None:
        SpeakerStore.create(config.store, SpeakerVerifier.load(config.verifier)).close()
    with SpeakerStore.open(config.store) as store:
        if config.name is not None and config.existing == "refuse":
            store.check_name(config.name, is_enrolled=False)
        return store.verifier


def encoder_of(verifier: SpeakerVerifier, config: VerifyConfig | EnrollConfig | IdentifyConfig) -> LazyEncoder:
    """Find the encoder of a verifier, as the flags say."""
    from heads import find_encoder

    return find_encoder(verifier.encoder, config.encoder_weights, config.device, config.precision)


if __name__ == "__main__":
    run_one_of(
        {
            "evaluate": (TrialsConfig, evaluate),
            "train": (VerifierConfig, train),
            "verify": (VerifyConfig, verify),
            "enroll": (EnrollConfig, enroll),
            "remove": (RemoveConfig, remove),
            "list": (StoreConfig, list_speakers),
            "merge": (MergeConfig, merge),
            "identify": (IdentifyConfig, identify),
            "score": (ScoreConfig, score),
        }
    )
