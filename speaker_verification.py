"""Verify whether two recordings are of one speaker; enrol speakers and identify them.

python speaker_verification.py evaluate --features_path outputs/librispeech_features_spectral.pt --backend within plda
python speaker_verification.py train --features_path outputs/librispeech_features_spectral.pt --backend plda
python speaker_verification.py verify A.wav B.wav
python speaker_verification.py enroll --name anna A.wav B.wav
python speaker_verification.py identify recordings
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from command_line import EXIT_DONE, EXIT_SOME_FAILED, command, run_one_of
from config import (
    EmbeddingConfig,
    EnrollConfig,
    EvaluateConfig,
    ExportConfig,
    IdentifyConfig,
    ListConfig,
    MergeConfig,
    PageConfig,
    RemoveConfig,
    ScoreConfig,
    TrainVerifierConfig,
    VerifyConfig,
    channel_number,
)
from files import (
    announce,
    check_writable,
    count_of,
    format_percent,
    format_table,
    timestamp,
    track,
    versions,
    write_tables,
)
from speaker_recognition_inference import report_saved

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from corpora import Utterance
    from embedding import Row
    from encoders import LazyEncoder
    from verification import EnrolmentResult, SpeakerStore, SpeakerVerifier, Turn


def evaluate(config: EvaluateConfig) -> int:
    """Score trials of cached embeddings: EER, minDCF, Cllr."""
    from evaluation import compare_backends
    from features import load_features
    from reports import write_report
    from verification import TrialError, check_trial_ids, read_trials

    check_writable(config.output_dir)
    if config.features_path is None:
        raise TrialError("Give the features file of the trials: --features_path FILE.")
    features, train = load_features(config.features_path), None
    if config.train_features is not None:
        train = load_features(config.train_features)
    trials = None if config.trials is None else read_trials(config.trials, features.ids)
    if config.triplets is not None:
        check_trial_ids(features.ids)
    with announce("Scoring the trials"):
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
    table = found.table(config.table_format)
    print(table)
    saved += write_tables(config.output_dir, [table], config.table_format)
    with announce("Drawing the report"):
        saved.append(write_report(config.output_dir, config.picture_formats))
    for path in saved:
        print(f"Saved {path}")
    return EXIT_DONE


def train(config: TrainVerifierConfig) -> int:
    """Train a backend, calibrate its scores, and save both as a verifier."""
    from features import load_features
    from verification import SpeakerVerifier, VerifierError, compare_with_ready

    if config.features_path is None:
        raise VerifierError("Give the features file to train on: --features_path FILE.")
    check_writable(config.output.parent)
    features = load_features(config.features_path)
    with announce("Training the verifier"):
        verifier = SpeakerVerifier.train(features, config.backend, config.seed)
    n_trained, n_calibrated = (len(verifier.training[name]) for name in ("trained_on", "calibrated_on"))
    trained = f"trained on {n_trained} speakers, " if n_trained else ""
    eer = format_percent(verifier.training["eer"], 2)
    print(f"{config.backend}: {trained}calibrated on {n_calibrated} speakers with an EER of {eer} %")
    print(f"Saved {verifier.save(config.output)}")
    try:
        with announce("Comparing the verifier with the ready one"):
            compared = compare_with_ready(features, config.backend, config.seed)
    except VerifierError as error:
        print(error)
        return EXIT_DONE
    if compared is not None:
        print(
            f"Cllr on speakers that were left out: {compared[0]:.3f} if trained like this verifier on half of the "
            f"speakers, {compared[1]:.3f} with the ready verifier, which was calibrated on other corpora"
        )
    return EXIT_DONE


def verify(config: VerifyConfig) -> int:
    """Decide whether two recordings are of one speaker, or one is of an enrolled speaker."""
    from verification import SpeakerStore, describe_errors

    channels = [channel_number(channel) for channel in config.channel]
    if config.store is None or config.name is None:
        verifier = load_verifier(config.verifier)
        one, other = config.audio
        verdict = verifier.verify(
            one,
            other,
            p_target=config.p_target,
            encoder=encoder_of(verifier, config),
            channels=(channels[0], channels[-1]),
        )
    else:
        with SpeakerStore.open(config.store) as store:
            verifier = store.verifier
            store.check_name(config.name)
            [vector], seconds = verifier.embed_files(config.audio, encoder_of(verifier, config), channels=channels)
            verdict = store.verify(config.name, vector, p_target=config.p_target, seconds=float(seconds))
    print(f"score {verdict.score:.4f}, log-likelihood ratio {verdict.llr:+.2f}")
    print(verdict.describe(config.p_target, config.name))
    errors = describe_errors(verifier.training)
    if errors is not None:
        print(f"{errors} Other recordings can have more errors.")
    return EXIT_DONE


def enroll(config: EnrollConfig) -> int:
    """Enrol a speaker with some recordings, or the speakers of a corpus, an RTTM file or a features file."""
    from corpora import Utterance, find_recordings
    from verification import SpeakerStore, add_background_rows, check_background, check_name, enroll_rows

    utterances, others = list_utterances(config), []
    if config.background is not None:
        channel = channel_number(config.channel)
        paths = find_recordings([config.background])
        others = [Utterance(path, speaker="", session="", channel=channel) for path in paths]
    if config.name is not None:
        check_name(config.name)
    verifier, is_new = verifier_of(config), not config.store.exists()
    check_new_names(config, sorted({each.speaker for each in utterances}))
    enroll_file = None if config.features_path is None else open_speakers(config.features_path, verifier, config)
    if config.background is not None:
        check_background(config.store, verifier)
    # All audio is embedded before the store is changed.
    background = embed_recordings(others, verifier, config)
    rows = embed_speakers(utterances, verifier, config)
    results = []
    with SpeakerStore.create(config.store, verifier) as store:
        if background:
            results.append((add_background_rows(store, background), "background recording", "added"))
        if enroll_file is not None:
            with announce("Enrolling the speakers"):
                results.append((enroll_file(store), "recording", "enrolled"))
        elif rows:
            results.append((enroll_rows(store, rows, config.existing), "recording", "enrolled"))
        n_speakers = count_of(len(store), "speaker")
    if is_new:
        print(f"Created {config.store}")
    for line in [line for result, _, _ in results for line in result.reasons()]:
        print(line)
    for result, noun, verb in results:
        skipped = f", {len(result.skipped)} skipped" if result.skipped else ""
        speakers = f"; {config.store} has {n_speakers}" if verb == "enrolled" else ""
        print(f"{count_of(result.n_added, noun)} {verb}{skipped}{speakers}")
    return EXIT_SOME_FAILED if any(result.failed for result, _, _ in results) else EXIT_DONE


def open_speakers(
    path: Path, verifier: SpeakerVerifier, config: EnrollConfig
) -> Callable[[SpeakerStore], EnrolmentResult]:
    """Load a features file, or a file of the command export; return the function that enrols its speakers."""
    from features import load_features
    from verification import Voices, check_origin, enroll_feature_set, enroll_voices, is_voices

    if is_voices(path):
        voices = Voices.load(path)
        # A new store is made only if it can have these speakers.
        check_origin(config.store, verifier, str(path), encoder=voices.encoder, crop=voices.crop)
        return lambda store: enroll_voices(store, voices, config.existing, source=str(path))
    features = load_features(path)
    return lambda store: enroll_feature_set(store, features, config.existing)


def list_utterances(config: EnrollConfig) -> list[Utterance]:
    """Return the recordings to enrol, with the names of their speakers."""
    from corpora import Utterance, find_recordings, load_corpus, rttm_utterances
    from verification import MIN_SECONDS, StoreError

    channel = channel_number(config.channel)
    if config.data_dir is not None:
        corpus = load_corpus(config.data_dir, config.layout, pattern=config.pattern, allow_unknown=True)
        return list(corpus.with_channel(channel))
    if not config.audio:
        return []
    files = find_recordings(config.audio)
    if config.rttm is None:
        start, duration = config.start or 0.0, config.duration
        if (start or duration) and len(files) != 1:
            raise StoreError(f"--start and --duration are for one recording; found {len(files)}. Give one file.")
        name = str(config.name)
        return [Utterance(path, name, "", start=start, duration=duration, channel=channel) for path in files]
    spoken = rttm_utterances(config.rttm, files, speaker=config.rttm_speaker, name=config.name, min_seconds=MIN_SECONDS)
    return [replace(each, channel=channel) for each in spoken]


def embed_speakers(utterances: Sequence[Utterance], verifier: SpeakerVerifier, config: EnrollConfig) -> list[Row]:
    """Embed the recordings of speakers; those of speakers whose names are invalid fail without being read."""
    from embedding import Row
    from verification import StoreError, name_problem

    problems = {each.speaker: name_problem(each.speaker) for each in utterances}
    failed = [Row(each, error=problems[each.speaker]) for each in utterances if problems[each.speaker]]
    if failed and len(failed) == len(utterances):
        raise StoreError(f"{failed[0].utterance.path}: {failed[0].error}. No speaker was enrolled.")
    return [*embed_recordings([each for each in utterances if not problems[each.speaker]], verifier, config), *failed]


def embed_recordings(utterances: Sequence[Utterance], verifier: SpeakerVerifier, config: EnrollConfig) -> list[Row]:
    """Embed recordings with the encoder of the verifier; refuse if none of them can be used."""
    from verification import StoreError

    if not utterances:
        return []
    embedded = verifier.embed(utterances, encoder_of(verifier, config))
    rows = list(track(embedded, "Embedding", len(utterances), unit="recording"))
    if all(row.vector is None for row in rows):
        raise StoreError(f"{rows[0].utterance.path}: {rows[0].error}. No speaker was enrolled.")
    return rows


def remove(config: RemoveConfig) -> int:
    """Remove an enrolled speaker, a recording, or the background recordings."""
    from verification import SpeakerStore, StoreError

    if config.name is None and not config.background:
        raise StoreError("Give the name of the speaker to remove: --name NAME, or --background.")
    with SpeakerStore.open(config.store) as store:
        if config.name is not None and config.recording is not None:
            removed = store.remove_recording(config.name, config.recording)
            left = count_of(len(store.recordings(config.name)), "recording")
            print(f"{count_of(removed, 'recording')} of {config.name} removed; {config.name} has {left}")
        elif config.name is not None:
            store.remove(config.name)
            print(f"{config.name} is removed; {config.store} has {count_of(len(store), 'speaker')}")
        if config.background:
            print(f"{count_of(store.remove_background(), 'background recording')} removed")
    return EXIT_DONE


def list_speakers(config: ListConfig) -> int:
    """List the enrolled speakers, or the recordings of one of them."""
    from verification import SpeakerStore

    with SpeakerStore.open(config.store) as store:
        if config.name is not None:
            recordings = [[each.path, f"{each.seconds:.1f}"] for each in store.recordings(config.name)]
            print(format_table([f"recording of {config.name}", "seconds"], recordings, "<>"))
            return EXIT_DONE
        lines = [[each.name, str(each.n_recordings), f"{each.seconds:.1f}", each.changed] for each in store.speakers()]
        verifier, own = store.verifier, store.own_calibration()
    print(format_table(["speaker", "recordings", "seconds", "enrolled (UTC)"], lines, "<>><"))
    encoder = verifier.encoder.get("name")
    print(f"{count_of(len(lines), 'speaker')}; encoder {encoder}, backend {verifier.backend.name}")
    print(f"Calibration: {own.describe()}")
    return EXIT_DONE


def export(config: ExportConfig) -> int:
    """Write the enrolled speakers to an .npz file, for numpy and for enroll."""
    from verification import SpeakerStore

    check_writable(config.output.parent)
    with SpeakerStore.open(config.store) as store, announce("Exporting the speakers"):
        store.check_not_empty()
        voices = store.voices()
        saved = voices.save(config.output)
    n_recordings = sum(len(recordings) for _, recordings in voices.speakers)
    print(f"{count_of(len(voices.speakers), 'speaker')}, {count_of(n_recordings, 'recording')}")
    print(f"Saved {saved}")
    return EXIT_DONE


def merge(config: MergeConfig) -> int:
    """Enrol the speakers of another store."""
    from verification import SpeakerStore, StoreError

    if config.other is None:
        raise StoreError("Give the other store: --other FILE.")
    with SpeakerStore.open(config.store) as store, SpeakerStore.open(config.other) as other:
        with announce("Merging the stores"):
            added = store.merge(other, config.existing)
        print(f"{count_of(added, 'recording')} enrolled; {config.store} has {count_of(len(store), 'speaker')}")
    return EXIT_DONE


def identify(config: IdentifyConfig) -> int:
    """Identify the enrolled speaker of each recording, or report unknown."""
    from corpora import find_recordings
    from heads import predictions_table, write_predictions
    from verification import SpeakerStore, StoreError

    paths = find_recordings(config.recordings)
    if config.timeline or config.segments is not None:
        if len(paths) != 1:
            flag = "--timeline" if config.timeline else "--segments"
            raise StoreError(f"{paths[0]}: found {len(paths)} recordings; {flag} expects one.")
        if config.segments is not None:
            return name_segments(config, paths[0], config.segments)
        return show_timeline(config, paths[0])
    check_writable(config.results.parent)
    with SpeakerStore.open(config.store) as store:
        store.check_not_empty()  # before weights are downloaded
        p_known = prior_of(store, config)
        encoder = encoder_of(store.verifier, config)
        predictions = store.identify_files(
            paths,
            encoder,
            top_k=config.top_k,
            p_known=p_known,
            channel=channel_number(config.channel),
            progress=True,
        )
    top_k = max(len(prediction.speakers) for prediction in predictions)
    saved = write_predictions(config.results, predictions, top_k)
    if any(prediction.error is None for prediction in predictions):
        print(predictions_table(predictions))
        print("score: log-likelihood ratio of the most similar speaker; below the threshold, the speaker is unknown")
    return report_saved(saved, predictions)


def prior_of(store: SpeakerStore, config: IdentifyConfig) -> float:
    """Return the prior probability that a speaker is enrolled, from --p_known or --far."""
    if config.far is None:
        return 0.5 if config.p_known is None else config.p_known
    store.check_not_empty()
    p_known = store.verifier.prior_for(config.far, len(store))
    accepted = f"{100 * config.far:g} % of the recordings of unknown speakers"
    print(f"The threshold accepts {accepted}, as measured on the calibration; it is that of --p_known {p_known:.4g}")
    return p_known


def show_timeline(config: IdentifyConfig, path: Path) -> int:
    """Report who speaks when in one recording."""
    from verification import SpeakerStore, find_turns

    check_writable(config.results.parent)
    channel = channel_number(config.channel)
    with SpeakerStore.open(config.store) as store:
        store.check_not_empty()
        encoder, p_known = encoder_of(store.verifier, config), prior_of(store, config)
        settings = config.smoothing("speech_detection" in encoder.spec)
        turns = find_turns(
            store, path, encoder, hop=config.hop, p_known=p_known, channel=channel, progress=True, **settings
        )
        about = settings_of(config, store, encoder, p_known=p_known)
    about["windows"] = f"{settings['window']:g} s long, every {config.hop:g} s"
    about["turns"] = f"of at least {settings['min_turn']:g} s; a change costs {settings['switch_cost']:g}"
    return report_turns(config, path, turns, settings=about)


def name_segments(config: IdentifyConfig, path: Path, segments: Path) -> int:
    """Report the enrolled speakers of the labels of a diarisation."""
    from audio import span_seconds
    from corpora import segments_of_recording
    from verification import SpeakerStore, labels_table, name_labels, repeats_of, turns_of_labels

    channel = channel_number(config.channel)
    listed = segments_of_recording(segments, path, span_seconds(path, channel=channel), channel=channel)
    check_writable(config.results.parent)
    with SpeakerStore.open(config.store) as store:
        store.check_not_empty()
        encoder, p_known = encoder_of(store.verifier, config), prior_of(store, config)
        labels = name_labels(
            store,
            path,
            encoder,
            segments=listed,
            p_known=p_known,
            allow_repeats=config.allow_repeats,
            channel=channel,
            progress=True,
        )
        about = settings_of(config, store, encoder, p_known=p_known)
    about["segments"] = str(segments)
    print("\n".join([labels_table(labels), *repeats_of(labels)]))
    return report_turns(config, path, turns_of_labels(listed, labels), settings=about)


def settings_of(config: IdentifyConfig, store: SpeakerStore, encoder: LazyEncoder, *, p_known: float) -> dict[str, str]:
    """Return the settings that the page of a recording lists, by name."""
    from encoders import describe_detection

    return {
        "store": f"{config.store} ({count_of(len(store), 'speaker')})",
        "prior probability that a speaker is enrolled": f"{p_known:.4g}",
        "recordings are embedded": describe_detection(encoder.spec),
    }


def report_turns(config: IdentifyConfig, path: Path, turns: Sequence[Turn], *, settings: Mapping[str, str]) -> int:
    """Print the turns of a recording, and write them as RTTM, as CSV and as a page."""
    from heads import UNKNOWN
    from reports import write_timeline_page
    from verification import turns_table, write_turns

    if config.timeline:
        print(turns_table(turns) if turns else f"{path}: no speech was found")
        if config.p_known is None and config.far is None and any(turn.speaker == UNKNOWN for turn in turns):
            print("If all speakers of the recording are enrolled, --p_known 0.99 names more of them.")
    channel = channel_number(config.channel)
    saved = [*write_turns(config.results, turns, path, channel=channel)]
    about = {"command": command(), "versions": versions(), "created": timestamp(), "settings": settings}
    with announce("Drawing the page"):
        saved.append(
            write_timeline_page(config.results.with_suffix(".html"), path, turns, about=about, channel=channel)
        )
    for each in saved:
        print(f"Saved {each}")
    return EXIT_DONE


def score(config: ScoreConfig) -> int:
    """Find the enrolled speakers that cached embeddings are most similar to."""
    from features import load_features
    from verification import SHOWN, SpeakerStore, StoreError, scores_table, write_scores

    if config.features_path is None:
        raise StoreError("Give the features file to score: --features_path FILE.")
    check_writable(config.output.parent)
    features = load_features(config.features_path)
    with SpeakerStore.open(config.store) as store, announce("Scoring the recordings"):
        nearest = store.nearest_features(features, config.top_k)
    saved = write_scores(config.output, features.ids, nearest)
    print(scores_table(features.ids, nearest))
    shown = f" (the first {SHOWN} are shown)" if len(features) > SHOWN else ""
    print(f"{count_of(len(features), 'recording')} against {count_of(nearest.n_speakers, 'speaker')}{shown}")
    print(f"Saved {saved}")
    return EXIT_DONE


def verifier_of(config: EnrollConfig | PageConfig, is_changed: bool = True) -> SpeakerVerifier:
    """Return the verifier of the store, or of a new store; refuse settings that an existing store does not have.

    With `is_changed`, a store that cannot be written is refused too.
    """
    from encoders import with_detection_of
    from verification import SpeakerStore, StoreError

    if not is_created(config.store):
        return load_verifier(config.verifier).with_speech_detection(config.speech_detection())
    with SpeakerStore.open(config.store) as store:
        if is_changed:
            store.check_writable()
        if store.verifier.with_speech_detection(config.speech_detection()).encoder != store.verifier.encoder:
            raise StoreError(
                f"{config.store}: its recordings were enrolled with another speech detection, or none, and a store has "
                "one kind of vectors. Leave out --vad or --no_vad, or make a new store."
            )
        if config.verifier is not None:
            given = load_verifier(config.verifier)
            given = replace(given, encoder=with_detection_of(given.encoder, store.verifier.encoder))
            SpeakerStore.create(config.store, given).close()  # refuses another verifier
        return store.verifier


def is_created(store: Path) -> bool:
    """Return whether there is a store, and not only an empty file, which becomes one."""
    return store.exists() and (store.is_dir() or store.stat().st_size > 0)


def check_new_names(config: EnrollConfig, names: Sequence[str]) -> None:
    """Refuse names that are enrolled already, unless --existing allows them, before audio is embedded."""
    from verification import SpeakerStore, name_problem

    if config.existing != "refuse" or not is_created(config.store):
        return
    with SpeakerStore.open(config.store) as store:
        for name in names:
            if name_problem(name) is None:  # the recordings of the others fail with this reason
                store.check_name(name, is_enrolled=False)


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


def encoder_of(verifier: SpeakerVerifier, config: EmbeddingConfig) -> LazyEncoder:
    """Return the encoder of a verifier, with the weights, device, precision and speech detection from the flags."""
    from encoders import encoder_from_spec, register_encoder, warn_of_detection

    if config.encoder is not None:
        register_encoder(config.encoder)
    encoder = encoder_from_spec(
        verifier.encoder,
        config.encoder_weights,
        config.device,
        precision=config.precision,
        speech_detection=config.speech_detection(),
    )
    warn_of_detection("The recordings of the store or of the verifier's training", verifier.encoder, encoder.spec)
    return encoder


if __name__ == "__main__":
    run_one_of(
        {
            "evaluate": (EvaluateConfig, evaluate),
            "train": (TrainVerifierConfig, train),
            "verify": (VerifyConfig, verify),
            "enroll": (EnrollConfig, enroll),
            "remove": (RemoveConfig, remove),
            "list": (ListConfig, list_speakers),
            "export": (ExportConfig, export),
            "merge": (MergeConfig, merge),
            "identify": (IdentifyConfig, identify),
            "score": (ScoreConfig, score),
        }
    )
