"""Files that are given for a wrong flag: the message says what the file is, and for which flag it is."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from command_line import parse
from config import ComparisonConfig
from corpora import load_corpus, read_rttm
from encoders import load_encoder
from features import FeatureSet
from files import InputError
from heads import SpeakerClassifier
from verification import SpeakerStore, SpeakerVerifier, read_trials

# Kind of file -> what the message says it is.
PHRASES = {
    "features": "a features file, for --features_path",
    "classifier": "a speaker classifier, for --classifier",
    "verifier": "a speaker verifier, for --verifier",
    "store": "a store of speakers, for --store",
    "scaler": "a scaler,",
    "checkpoint": "a checkpoint of a network, for --encoder audiosep --encoder_weights",
    "metrics": "a file of results,",
    "predictions": "a file of predictions,",
    "trials": "a list of trials, for --trials",
    "settings": "a YAML file of settings, for --config",
    "audio": "an audio file, for --audio_path (for --data_dir, give the folder that contains it)",
    "rttm": "an RTTM file, for --rttm",
    "arrays": "an .npz file of features, for --features_path",
    "encoder": "a trained encoder, for --encoder trained --encoder_weights",
    "onnx": "an ONNX file of a network, for --encoder onnx --encoder_weights",
    "training": "a checkpoint of train_encoder.py, from which the same command continues",
}
# The loader of each flag, and the kind of file that it expects.
LOADERS: Mapping[str, tuple[str, Callable[[Path], Any]]] = {
    "--features_path": ("features", FeatureSet.load),
    "--classifier": ("classifier", SpeakerClassifier.load),
    "--verifier": ("verifier", SpeakerVerifier.load),
    "--store": ("store", SpeakerStore.open),
    "--trials": ("trials", lambda path: read_trials(path, ["a.wav", "b.wav"])),
    "--rttm": ("rttm", read_rttm),
    "--data_dir": ("manifest", lambda path: load_corpus(path)),
    "--encoder campplus": ("campplus", lambda path: load_encoder("campplus", path)),
    "--encoder ecapa": ("ecapa", lambda path: load_encoder("ecapa", path)),
    "--encoder resemblyzer": ("resemblyzer", lambda path: load_encoder("resemblyzer", path)),
    "--encoder audiosep": ("checkpoint", lambda path: load_encoder("audiosep", path)),
    "--encoder scratch": ("scratch", lambda path: load_encoder("scratch", path)),
    "--encoder trained": ("encoder", lambda path: load_encoder("trained", path)),
    "--encoder onnx": ("onnx", lambda path: load_encoder("onnx", path)),
    "--encoder wav2vec2": ("wav2vec2", lambda path: load_encoder("wav2vec2", path)),
}


@pytest.fixture(scope="module")
def kinds(
    trained: Path,
    trained_features: Path,
    classifier: Path,
    clap_weights: Path,
    trained_weights: Callable[..., Path],
    onnx_file: Callable[..., Path],
    write_audio: Callable[..., Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Path]:
    """Return a file of each kind of `PHRASES`, all without a telling suffix."""
    folder = tmp_path_factory.mktemp("kinds")
    verifier = SpeakerVerifier.train(FeatureSet.load(trained_features))
    (folder / "trials.txt").write_text("1 a.wav b.wav\n0 b.wav a.wav\n")
    (folder / "day.rttm").write_text("SPEAKER day 1 0.0 1.5 <NA> <NA> anna <NA> <NA>\n")
    (folder / "settings.yaml").write_text("epochs: 50\n")
    (folder / "predictions.csv").write_text("path,speaker,probability,error\na.wav,anna,0.5,\n")
    SpeakerStore.create(folder / "speakers.db", verifier).close()
    # With the names of tensors that checkpoints for `scratch` have too.
    torch.save(
        {"format": 1, "identity": {}, "epoch": 1, "step": 0, "rows": [],
         "members": [{"model": {"network.lstm.weight_ih_l0": torch.ones(4, 4)}}]},
        folder / "training",
    )  # fmt: skip
    return {
        "features": trained_features,
        "classifier": classifier,
        "verifier": verifier.save(folder / "verifier.pt"),
        "store": folder / "speakers.db",
        "scaler": trained / "librispeech_scaler.pt",
        "checkpoint": clap_weights,
        "metrics": trained / "metrics.json",
        "predictions": folder / "predictions.csv",
        "trials": folder / "trials.txt",
        "settings": folder / "settings.yaml",
        "rttm": folder / "day.rttm",
        "arrays": FeatureSet.load(trained_features).save(folder / "features.npz").rename(folder / "arrays"),
        "audio": write_audio(folder / "a.wav"),
        "encoder": trained_weights("bilstm", network_options={"hidden": 8}).rename(folder / "encoder"),
        "onnx": onnx_file().rename(folder / "onnx"),
        "training": folder / "training",
    }


@pytest.mark.parametrize("flag", LOADERS)
def test_a_mixed_up_file_is_named_for_what_it_is(flag: str, kinds: dict[str, Path]) -> None:
    expected, load = LOADERS[flag]
    for kind, phrase in PHRASES.items():
        if kind == expected:
            continue
        with pytest.raises(InputError, match=rf"^{re.escape(str(kinds[kind]))}: .*{re.escape(phrase)}") as refused:
            load(kinds[kind])
        assert str(refused.value).count(". ") <= 1, refused.value  # one sentence, perhaps with advice


def test_a_mixed_up_file_of_settings_is_named_for_what_it_is(
    kinds: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    for kind, phrase in PHRASES.items():
        if kind != "settings":
            with pytest.raises(SystemExit) as refused:
                parse(ComparisonConfig, ["--config", str(kinds[kind])])
            assert refused.value.code == 2
            printed = capsys.readouterr().err
            assert printed.startswith(f"ERROR {kinds[kind]}: this is not a YAML file of settings")
            assert phrase in printed


def test_files_of_the_expected_kind_are_loaded(kinds: dict[str, Path]) -> None:
    for expected, load in LOADERS.values():
        if expected in kinds:
            loaded = load(kinds[expected])
            if isinstance(loaded, SpeakerStore):
                loaded.close()
