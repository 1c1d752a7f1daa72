"""``--vad`` on the command lines: pauses are left out, and recordings without speech are reported as such."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from command_line import parse
from config import InferenceConfig
from features import FeatureSet
from heads import SpeakerClassifier
from verification import SpeakerStore

Run = Callable[..., "subprocess.CompletedProcess[str]"]
Check = Callable[..., None]
EXTRACT, COMPARE, INFER = (
    "extract_features.py",
    "speaker_recognition_librispeech.py",
    "speaker_recognition_inference.py",
)
VERIFY = "speaker_verification.py"
RATE = 16_000


@pytest.fixture(scope="module")
def voices(
    speech_weights: Path, make_conversation: Callable[..., np.ndarray], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Return a corpus of two speakers with eight recordings each, and beside it `asked` with a room without a voice."""
    root = tmp_path_factory.mktemp("voices")
    for speaker, pitch in (("anna", 200.0), ("ben", 100.0)):
        (root / "corpus" / speaker).mkdir(parents=True)
        for number in range(8):
            samples = make_conversation(2, number, pitch + number)
            soundfile.write(root / "corpus" / speaker / f"{number}.flac", samples, RATE)
    (root / "asked").mkdir()
    soundfile.write(root / "asked" / "anna.flac", make_conversation(2, 99, 203.0), RATE)
    soundfile.write(root / "asked" / "room.flac", 0.001 * np.random.default_rng(0).standard_normal(5 * RATE), RATE)
    return root


@pytest.fixture(scope="module")
def store(voices: Path, trained_features: Path, run_script: Run) -> Path:
    """Return a store whose recordings were enrolled without their pauses."""
    verifier, store = voices / "verifier.pt", voices / "speakers.db"
    done = run_script(VERIFY, "train", "--features_path", trained_features, "--output", verifier)
    assert done.returncode == 0, done.stderr
    command = [VERIFY, "enroll", "--store", store, "--verifier", verifier, "--data_dir", voices / "corpus"]
    done = run_script(*command, "--vad", "--vad_threshold", 0.3)
    assert done.returncode == 0, done.stderr
    assert "16 recordings enrolled" in done.stdout
    return store


def test_store_leaves_out_pauses_by_itself(
    store: Path, voices: Path, call_script: Run, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    with SpeakerStore.open(store) as opened:
        assert opened.verifier.encoder["speech_detection"]["threshold"] == 0.3
        assert all(each.seconds < 8 * 3.2 for each in opened.speakers())  # recordings are 3.9 s long
    done = call_script(VERIFY, "identify", voices / "asked", "--store", store, "--output", tmp_path / "x.csv")
    assert done.returncode == 3, done.stderr
    assert (
        f"failed: {voices / 'asked' / 'room.flac'}: no speech: the highest probability of speech is 0." in done.stdout
    )
    assert "anna.flac" in done.stdout
    assert "without pauses" not in caplog.text  # as the recordings of the store
    command = ["identify", voices / "asked", "--store", store, "--output", tmp_path / "x.csv", "--no_vad"]
    done = call_script(VERIFY, *command)
    assert done.returncode == 0, done.stderr
    assert "room.flac" in done.stdout
    assert "were embedded without pauses (threshold 0.3, " in caplog.text
    assert "these are embedded with their pauses." in caplog.text
    done = call_script(VERIFY, "enroll", "--store", store, "--name", "nobody", voices / "asked" / "room.flac")
    assert done.returncode == 2
    assert "no speech" in done.stderr


def test_flag_adds_the_detection_to_a_store_without_it(
    voices: Path,
    store: Path,
    call_script: Run,
    assert_refused: Check,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> None:
    plain = tmp_path / "plain.db"
    command = ["enroll", "--store", plain, "--verifier", voices / "verifier.pt", "--data_dir", voices / "corpus"]
    done = call_script(VERIFY, *command)
    assert done.returncode == 0, done.stderr
    command = ["identify", voices / "asked", "--store", plain, "--output", tmp_path / "x.csv"]
    done = call_script(VERIFY, *command)
    assert done.returncode == 0, done.stderr
    done = call_script(VERIFY, *command, "--vad")
    assert done.returncode == 3, done.stderr
    assert "room.flac: no speech" in done.stdout
    assert "were embedded with their pauses, these are embedded without pauses (threshold 0.2, " in caplog.text
    done = call_script(VERIFY, "enroll", "--store", plain, "--name", "carl", "--vad", voices / "asked" / "anna.flac")
    assert_refused(done, "its recordings were enrolled with another speech detection, or none")


def test_speakers_without_a_usable_recording_are_named(
    store: Path, voices: Path, call_script: Run, tmp_path: Path
) -> None:
    copy, verifier = Path(shutil.copy(store, tmp_path / "speakers.db")), voices / "verifier.pt"
    for name in ("anna", "room"):
        (tmp_path / "people" / name).mkdir(parents=True)
        shutil.copy(voices / "asked" / f"{name}.flac", tmp_path / "people" / name)
    # The verifier of the store is the same one, although the store has speech detection.
    command = ["--existing", "add", "--verifier", verifier, "--data_dir", tmp_path / "people"]
    done = call_script(VERIFY, "enroll", "--store", copy, *command)
    assert done.returncode == 3, done.stderr
    assert "no recording of these speakers could be used: room\n" in done.stdout
    assert "1 recording enrolled" in done.stdout


def test_classifier_leaves_out_pauses_by_itself(
    voices: Path, call_script: Run, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    arguments = ["--encoder", "spectral", "--heads", "centroid", "--output_dir", tmp_path, "--vad"]
    done = call_script(COMPARE, voices / "corpus", *arguments)
    assert done.returncode == 0, done.stderr
    [path] = tmp_path.glob("corpus_features_spectral_*.pt")  # with a digest, as other settings of the encoder
    features = FeatureSet.load(path)
    assert features.encoder["speech_detection"]["min_speech"] == 0.25
    assert bool((features.durations < 3.2).all())
    classifier = tmp_path / "speaker_classifier_corpus.pt"
    command = [INFER, voices / "asked", "--classifier", classifier, "--output", tmp_path / "p.csv"]
    done = call_script(*command)
    assert done.returncode == 3, done.stderr
    assert "room.flac: no speech" in done.stdout
    assert "were embedded" not in caplog.text
    done = call_script(*command, "--vad", "--vad_threshold", 0.6)
    assert "these are embedded without pauses (threshold 0.6, " in caplog.text
    done = call_script(*command, "--no_vad")
    assert done.returncode == 0, done.stderr
    assert "these are embedded with their pauses." in caplog.text
    by_path = {
        each.path.name: each for each in SpeakerClassifier.load(classifier).predict(voices / "asked" / "anna.flac")
    }
    assert by_path["anna.flac"].speakers[0] == "anna"


def test_store_can_be_made_without_the_detection_of_its_verifier(
    store: Path, voices: Path, call_script: Run, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    verifier, plain = tmp_path / "verifier.pt", tmp_path / "plain.db"
    with SpeakerStore.open(store) as opened:
        opened.verifier.save(verifier)
    (tmp_path / "settings.yaml").write_text("vad: false\n")
    command = ["enroll", "--store", plain, "--verifier", verifier, "--name", "anna", voices / "asked" / "anna.flac"]
    done = call_script(VERIFY, *command, "--config", tmp_path / "settings.yaml")
    assert done.returncode == 0, done.stderr
    with SpeakerStore.open(plain) as opened:
        assert "speech_detection" not in opened.verifier.encoder
        assert opened.speakers()[0].seconds == pytest.approx(3.7)  # with the pauses
    assert "embedded without pauses" not in caplog.text


@pytest.mark.parametrize(
    ("text", "flags", "vad"),
    [
        ("", [], None),
        ("vad: true", [], True),
        ("vad: false", [], False),
        ("vad:", [], None),
        ("vad: false", ["--vad"], True),
        ("vad: true", ["--no_vad"], False),
    ],
)
def test_detection_is_on_off_or_as_before(text: str, flags: list[str], vad: bool | None, tmp_path: Path) -> None:
    (tmp_path / "settings.yaml").write_text(text)
    found = parse(InferenceConfig, ["a.wav", "--config", str(tmp_path / "settings.yaml"), *flags])
    assert found == InferenceConfig(audio=(Path("a.wav"),), config=tmp_path / "settings.yaml", vad=vad)


def test_features_with_and_without_pauses_are_different_files(
    voices: Path, call_script: Run, assert_refused: Check, tmp_path: Path
) -> None:
    path = tmp_path / "features.pt"
    command = [EXTRACT, voices / "corpus", "--encoder", "spectral", "--features_path", path]
    assert call_script(*command).returncode == 0
    done = call_script(*command, "--vad")
    assert_refused(done, "speech_detection is None there, (name 'silero', ", "here")


def test_weights_are_downloaded_ahead(speech_weights: Path, call_script: Run) -> None:
    done = call_script(EXTRACT, "--encoder", "spectral", "--download_weights", "--vad")
    assert done.returncode == 0, done.stderr
    assert "Weights of the speech detection: on this machine, digest e1122837" in done.stdout


def test_settings_without_effect_are_refused(
    voices: Path, call_script: Run, assert_refused: Check, tmp_path: Path
) -> None:
    done = call_script(EXTRACT, voices / "corpus", "--encoder", "spectral", "--vad_threshold", 0.4)
    assert_refused(done, "--vad_threshold is a setting of the speech detection; give --vad too.")
    (tmp_path / "settings.yaml").write_text("vad: yes please")
    assert_refused(call_script(EXTRACT, "--config", tmp_path / "settings.yaml"), "expected true or false or none")
    done = call_script(COMPARE, "--features_path", voices / "x.pt", "--no_vad")
    assert_refused(done, "--vad has no effect on a finished features file")
