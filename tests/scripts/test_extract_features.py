"""`extract_features.py`: flags, file names, and the options of encoders."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from corpora import Corpus
from encoders import load_encoder
from features import FeatureSet, default_file_name, extract

Run = Callable[..., "subprocess.CompletedProcess[str]"]
Check = Callable[..., None]
EXTRACT = "extract_features.py"
COMPARE = "speaker_recognition_librispeech.py"


@pytest.fixture
def command(corpus_root: Path, tmp_path: Path) -> list[object]:
    """Return the words of an extraction with the encoder spectral into `tmp_path`."""
    return [EXTRACT, "--data_dir", corpus_root, "--encoder", "spectral", "--output_dir", tmp_path]


def test_extraction_prints_its_file_and_counts(command: list[object], run_script: Run, tmp_path: Path) -> None:
    done = run_script(*command)
    assert done.returncode == 0, done.stderr
    assert "layout librispeech, 40 utterances, 4 speakers, 8 sessions" in done.stderr
    assert done.stdout.splitlines() == [
        f"Features: {tmp_path / 'librispeech_features_spectral.pt'}",
        "40 utterances, 4 speakers, 100 dimensions",
    ]


def test_another_crop_gives_another_file(command: list[object], call_script: Run, tmp_path: Path) -> None:
    for flags in ([], ["--max_duration", 0.5]):
        done = call_script(*command, *flags)
        assert done.returncode == 0, done.stderr
    assert len(list(tmp_path.glob("librispeech_features_spectral*.pt"))) == 2


def test_default_crop_is_that_of_the_encoder(
    command: list[object], call_script: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "librispeech_features_spectral.pt"
    for seconds in (10.0, 0.5, None):
        if seconds != 10.0:
            monkeypatch.setattr("encoders.spectral.SpectralEncoder.max_duration", seconds)
        done = call_script(*command, "--num_workers", 0)
        assert done.returncode == 0, done.stderr
        audio = FeatureSet.load(path).audio
        assert audio is not None
        assert audio.crop == seconds
        path.unlink()


def test_encoder_options_are_those_of_the_library(
    command: list[object], corpus: Corpus, features: FeatureSet, call_script: Run, tmp_path: Path
) -> None:
    done = call_script(*command, "--encoder_options", "n_mfcc=30", "n_delta=5")
    assert done.returncode == 0, done.stderr
    encoder = load_encoder("spectral", device="cpu", n_mfcc=30, n_delta=5)
    (path,) = tmp_path.glob("*.pt")
    assert path.name == default_file_name(corpus.name, encoder, encoder.max_duration)
    assert path.name != default_file_name(corpus.name, load_encoder("spectral"), encoder.max_duration)
    found = FeatureSet.load(path)
    expected = extract(corpus, encoder, tmp_path / "library" / path.name, progress=False)
    assert found.features.shape == (40, 65)
    assert found.features.shape[1] != features.features.shape[1]
    assert found.encoder == expected.encoder
    assert found.ids == expected.ids
    torch.testing.assert_close(found.features, expected.features)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["n_mfc=30"], "The encoder 'spectral' has no option 'n_mfc'; perhaps you meant 'n_mfcc'"),
        (["n_mfcc=many"], "expected a whole number"),
        (["n_mfcc=2.5"], "expected a whole number"),
        (["n_mfcc=900"], "expected 1 <= n_mfcc <= n_mels"),
        (["window=3"], "--encoder_options has 'window=3', but window has its own flag; give --window 3."),
        (["n_mfcc=30", "pooling=mean"], "but pooling has its own flag; give --pooling mean."),
        (["n_mfcc=30", "n_mfcc=20"], "--encoder_options has more than one value of n_mfcc; give one."),
        (["n_mfcc"], "--encoder_options has 'n_mfcc'; expected NAME=VALUE."),
        (["=3"], "expected NAME=VALUE"),
    ],
)
def test_bad_encoder_options_are_refused(
    words: list[str], expected: str, command: list[object], call_script: Run, assert_refused: Check, tmp_path: Path
) -> None:
    assert_refused(call_script(*command, "--encoder_options", *words), expected)
    assert list(tmp_path.iterdir()) == []


def test_bad_files_are_listed_and_give_code_3(corpus_root: Path, call_script: Run, tmp_path: Path) -> None:
    data = Path(shutil.copytree(corpus_root, tmp_path / "data"))
    (data / "101" / "1010" / "101-1010-0090.flac").write_text("text")
    (data / "109" / "1090").mkdir(parents=True)  # a speaker without any other recording
    (data / "109" / "1090" / "109-1090-0000.gsm").write_bytes(bytes(range(1, 200)))
    for script in (EXTRACT, COMPARE):
        done = call_script(script, "--data_dir", data, "--encoder", "spectral", "--output_dir", tmp_path / "out")
        assert done.returncode == 3, done.stderr
        assert "failed: 101/1010/101-1010-0090.flac: this is not audio" in done.stdout
        assert "failed: 109/1090/109-1090-0000.gsm: this is not audio" in done.stdout
        assert "ffmpeg -f gsm -ar 8000 -i x.gsm x.wav" in done.stdout
        assert done.stdout.splitlines()[-1].startswith("2 files failed; the others are done.")
    assert (tmp_path / "out" / "speaker_classifier_librispeech.pt").exists()


def test_m4a_files_of_voxceleb2_are_extracted(
    write_compressed: Callable[..., Path], call_script: Run, tmp_path: Path
) -> None:
    root = tmp_path / "vox2/dev/aac"
    for number in range(4):
        path = root / f"id0000{number % 2}/21Uxsk56VDQ{number}/00001.m4a"
        write_compressed(path, 1.0 + 0.1 * number, seed=number)
    done = call_script(
        EXTRACT, "--data_dir", root, "--layout", "voxceleb", "--encoder", "spectral", "--output_dir", tmp_path
    )
    assert done.returncode == 0, done.stderr
    features = FeatureSet.load(tmp_path / "voxceleb_features_spectral.pt")
    assert features.durations.tolist() == pytest.approx([1.0, 1.2, 1.1, 1.3])
    assert not features.failures


def test_windows_and_precision_have_flags(
    corpus_root: Path, clap_weights: Path, call_script: Run, assert_refused: Check, tmp_path: Path
) -> None:
    command = [EXTRACT, "--data_dir", corpus_root / "101", "--encoder", "clap", "--encoder_weights", clap_weights]
    done = call_script(*command, "--window", 0.5, "--precision", "bf16", "--output_dir", tmp_path)
    assert done.returncode == 0, done.stderr
    (path,) = tmp_path.glob("librispeech_features_audiosep_????????.pt")
    features = FeatureSet.load(path)
    assert features.encoder["options"] == {"window": 0.5, "hop": 0.25}
    assert features.encoder["precision"] == "bf16"
    assert features.audio is not None
    assert features.audio.crop is None
    assert_refused(call_script(*command, "--hop", 1), "--hop", "give --window")
    done = call_script(*command[:3], "--encoder", "spectral", "--window", 2)
    assert_refused(done, "'spectral' has no option 'window'")


def test_shards_are_merged_by_the_last(command: list[object], call_script: Run, assert_refused: Check) -> None:
    first = call_script(*command, "--shard", "0/2")
    assert first.returncode == 0, first.stderr
    assert first.stdout.startswith("Shard 0 of 2 is done. The last shard to finish writes ")
    last = call_script(*command, "--shard", "1/2")
    assert last.returncode == 0, last.stderr
    assert "40 utterances, 4 speakers, 100 dimensions" in last.stdout
    for shard in ("2/2", "-1/2", "1", "a/b", "0/0"):
        assert_refused(call_script(*command, f"--shard={shard}"), "--shard is", "such as 0/4")


def test_shard_within_torchrun_is_refused(
    command: list[object], call_script: Run, assert_refused: Check, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert_refused(call_script(*command, "--shard", "0/2"), "torchrun", "--shard")


def test_sessions_come_from_the_names_of_files(
    corpus_root: Path, call_script: Run, assert_refused: Check, tmp_path: Path
) -> None:
    """A flat folder has no layout; with a pattern it gives speakers and sessions, and new ones cost no extraction."""
    for path in sorted((corpus_root / "101").rglob("*.flac"))[::3] + sorted((corpus_root / "102").rglob("*.flac"))[::3]:
        shutil.copy(path, tmp_path / path.name)
    extract = [EXTRACT, "--data_dir", tmp_path, "--encoder", "spectral", "--output_dir", tmp_path / "out"]
    assert_refused(call_script(*extract, "--pattern", "{speaker}_*"), "matches none of the 8 audio files")
    done = call_script(*extract, "--pattern", "{speaker}-*")
    assert done.returncode == 0, done.stderr
    path = tmp_path / "out" / f"{tmp_path.name}_features_spectral.pt"
    assert FeatureSet.load(path).session_names == ("101", "102")
    done = call_script(*extract, "--pattern", "{speaker}-{session}-*")
    assert "8 utterances, 2 speakers" in done.stdout
    assert FeatureSet.load(path).session_names == ("1010", "1011", "1020", "1021")


def test_limit_of_the_bandwidth_gives_another_file(command: list[object], call_script: Run, tmp_path: Path) -> None:
    for flags in ([], ["--max_bandwidth", 4000], ["--max_bandwidth", 8000]):
        done = call_script(*command, *flags)
        assert done.returncode == 0, done.stderr
    default, limited = sorted(tmp_path.glob("librispeech_features_spectral*.pt"))
    audio = FeatureSet.load(limited).audio
    assert default.name == "librispeech_features_spectral.pt"
    assert FeatureSet.load(limited).encoder["max_bandwidth"] == 4000
    assert audio is not None
    assert float(audio.bandwidth.max()) <= 4000


def test_manifests_of_one_folder_have_their_own_files(corpus_root: Path, call_script: Run, tmp_path: Path) -> None:
    root = Path(shutil.copytree(corpus_root, tmp_path / "calls"))
    files = sorted(path.relative_to(root).as_posix() for path in root.rglob("*.flac"))
    for name, chapter in (("train", "0"), ("test", "1")):
        chosen = [file for file in files if file.split("/")[1].endswith(chapter)]
        lines = [f"{file},{file.split('/')[0]}\n" for file in chosen]
        (root / f"{name}.csv").write_text("path,speaker\n" + "".join(lines))
    train, test = tmp_path / "calls_features_spectral.pt", tmp_path / "calls_features_spectral_test.pt"
    for script, name in (("extract_features.py", "train"), ("speaker_recognition_librispeech.py", "test")):
        done = call_script(script, root / f"{name}.csv", "--encoder", "spectral", "--output_dir", tmp_path)
        assert done.returncode == 0, done.stderr
    assert f"Features: {test}" in done.stdout
    assert not set(FeatureSet.load(train).ids) & set(FeatureSet.load(test).ids)
    assert len(FeatureSet.load(train)) == len(FeatureSet.load(test)) == 20


def test_stored_features_are_checked_before_others_are_computed(
    corpus_root: Path,
    features: FeatureSet,
    scratch_weights: Callable[[], Path],
    call_script: Run,
    assert_refused: Check,
    tmp_path: Path,
) -> None:
    first, other = tmp_path / "first.pt", features.save(tmp_path / "other.pt")
    done = call_script(
        COMPARE, corpus_root, "--encoder", "spectral", "scratch", "--encoder_weights", "auto", scratch_weights(),
        "--features_path", first, other, "--output_dir", tmp_path,
    )  # fmt: skip
    assert_refused(done, f"{other}: these features cannot be continued with the encoder 'scratch'")
    assert not first.exists()
