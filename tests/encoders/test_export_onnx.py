"""`export_onnx`: the vectors and the metadata of the file, and encoders that cannot be exported."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor

from encoders import ENCODERS, Encoder, EncoderError, Pretrained, TrainedNetwork, export_onnx, load_encoder
from networks import KaldiFbank, create_network

RATE = 16_000


def noises(seconds: list[float]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [0.05 * torch.randn(round(length * RATE), generator=generator) for length in seconds]


def distance(found: Tensor, expected: Tensor) -> float:
    return float(((found - expected).norm(dim=1) / expected.norm(dim=1)).max())


@pytest.fixture(scope="module")
def campplus(campplus_weights: Path) -> Encoder:
    return load_encoder("campplus", campplus_weights, device="cpu")


@pytest.fixture(scope="module")
def exported(campplus: Encoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the exported CAM++ with random weights; the export takes seconds."""
    path = tmp_path_factory.mktemp("exported") / "out.onnx"
    assert export_onnx(campplus, path) <= 1e-5
    return path


def test_exported_campplus_has_the_vectors_of_torch(campplus: Encoder, exported: Path) -> None:
    encoder, waves = load_encoder("onnx", exported, device="cpu"), noises([0.7, 12.3, 1.0, 0.045, 3.21])
    assert encoder.spec["options"] == campplus.spec["options"]
    assert encoder.spec["min_seconds"] == campplus.spec["min_seconds"]
    assert distance(encoder.encode(waves), campplus.encode(waves)) < 1e-5
    onnx.checker.check_model(onnx.load(exported), full_check=True)


def test_exported_graph_takes_batches_of_any_size(campplus: Encoder, exported: Path) -> None:
    waves = noises([2.4, 2.4, 2.4])
    frames = np.stack([KaldiFbank().spectrogram(wave).numpy() for wave in waves])
    [found] = onnxruntime.InferenceSession(exported).run(["embedding"], {"x": frames})
    assert distance(torch.from_numpy(found), campplus.encode(waves)) < 1e-5


def save_network(path: Path, network: str, **settings: Any) -> Encoder:
    """Save a network with random weights as `train_encoder.py` does, and load it."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        if "pretrained" in settings:
            tensors = {name: 1.1 * tensor for name, tensor in settings["pretrained"].create().state_dict().items()}
        else:
            n_features = 80 if settings.get("front_end", "fbank") == "fbank" else 40
            tensors = dict(create_network(network, n_features).state_dict())
    defaults: dict[str, Any] = {"network_options": {}, "front_end": "fbank", "front_end_options": {}, "window": None}
    trained = TrainedNetwork(network=network, tensors=tensors, **{**defaults, **settings})
    return load_encoder("trained", trained.save(path), device="cpu")


HAMMING = {"front_end_options": {"window_type": "hamming", "factor": 32_768.0}}
# Front end -> names of the input and of the output, and metadata that sherpa-onnx distinguishes the front ends by.
FORMS = {
    "3dspeaker": (("x", "embedding"), {"framework": "3d-speaker", "normalize_samples": "1"}),
    "wespeaker": (("feats", "embs"), {"framework": "wespeaker", "normalize_samples": "0"}),
}


@pytest.mark.parametrize(("network", "front_end"), [("conv1d", "3dspeaker"), ("conv2d", "wespeaker")])
def test_trained_networks_are_exported_with_the_metadata_of_their_front_end(
    network: str, front_end: str, tmp_path: Path
) -> None:
    encoder = save_network(tmp_path / "network.pt", network, **(HAMMING if front_end == "wespeaker" else {}))
    assert export_onnx(encoder, tmp_path / "out.onnx") <= 1e-5
    found, waves = load_encoder("onnx", tmp_path / "out.onnx", device="cpu"), noises([0.7, 3.3])
    assert distance(found.encode(waves), encoder.encode(waves)) < 1e-5
    assert found.spec["options"]["front_end"] == front_end
    session, (names, form) = onnxruntime.InferenceSession(tmp_path / "out.onnx"), FORMS[front_end]
    assert (session.get_inputs()[0].name, session.get_outputs()[0].name) == names
    metadata = session.get_modelmeta().custom_metadata_map
    common = {"sample_rate": "16000", "output_dim": str(encoder.dim), "feature_normalize_type": "global-mean"}
    assert {**common, **form}.items() <= metadata.items()
    assert {"language", "url", "comment"} <= set(metadata)


def test_fine_tuned_campplus_is_exported(campplus_weights: Path, tmp_path: Path) -> None:
    tuned = Pretrained.find("campplus", campplus_weights)
    encoder = save_network(tmp_path / "encoder_campplus.pt", "campplus", pretrained=tuned)
    assert export_onnx(encoder, tmp_path / "out.onnx") <= 1e-5
    found, waves = load_encoder("onnx", tmp_path / "out.onnx", device="cpu"), noises([0.7, 3.3])
    assert distance(found.encode(waves), load_encoder("campplus", campplus_weights, "cpu").encode(waves)) > 1e-2


@pytest.mark.parametrize(
    ("network", "settings", "message"),
    [
        ("conv1d", {"front_end": "mfcc"}, "has the front end .*'mfcc'.*, which sherpa-onnx does not compute"),
        ("conv1d", {"window": (100, 50)}, "has a window, which an ONNX file cannot have"),
        ("conv1d", {"front_end_options": {"factor": 3.0}}, "which sherpa-onnx does not compute"),
        ("bilstm", {}, r"out\.onnx: the file is not kept, because its graph does not work for .* every length"),
    ],
)
def test_networks_that_cannot_be_exported_are_refused(
    network: str, settings: dict[str, Any], message: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    encoder = save_network(tmp_path / "network.pt", network, **settings)
    with pytest.raises(EncoderError, match=message):
        export_onnx(encoder, tmp_path / "out.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["network.pt"]
    assert capfd.readouterr().out == ""


def test_options_that_a_file_cannot_have_are_refused(
    campplus_weights: Path, speech_weights: Path, tmp_path: Path
) -> None:
    refused: dict[str, Any] = {"window": 2.0, "max_bandwidth": 4_000, "speech_detection": {}}
    for name, value in refused.items():
        encoder = load_encoder("campplus", campplus_weights, device="cpu", **{name: value})
        with pytest.raises(EncoderError, match=f"has a {name}, which an ONNX file cannot have"):
            export_onnx(encoder, tmp_path / "out.onnx")


def test_other_encoders_are_refused(spectral: Encoder, tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match=r"'spectral' cannot be exported .* Choose --encoder campplus, or trained"):
        export_onnx(spectral, tmp_path / "out.onnx")


def test_a_file_with_other_vectors_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder, path = save_network(tmp_path / "network.pt", "conv1d"), tmp_path / "out.onnx"
    path.write_bytes(b"before")
    forward = encoder.forward
    monkeypatch.setattr(encoder, "forward", lambda *batch: 1.001 * forward(*batch))
    with pytest.raises(EncoderError, match=r"out\.onnx: the file is not kept, .* by 0\.001 of their length; expected"):
        export_onnx(encoder, path)
    assert path.read_bytes() == b"before"


EXTRACT = "extract_features.py"


def test_script_exports_and_uses_the_file(corpus_root: Path, call_script: Callable[..., Any], tmp_path: Path) -> None:
    weights, path = tmp_path / "network.pt", tmp_path / "new" / "out.onnx"
    dim = save_network(weights, "conv1d").dim
    for _ in range(2):  # its own file may be replaced
        done = call_script(EXTRACT, "--export_onnx", path, "--encoder", "trained", "--encoder_weights", weights)
        assert done.returncode == 0, done.stderr
        first, second = done.stdout.splitlines()
        assert first == f"ONNX file: {path}"
        assert second.startswith(f"{dim} dimensions; its vectors are within ")
    extract = [EXTRACT, corpus_root, "--encoder", "onnx", "--encoder_weights", path, "--output_dir", tmp_path]
    done = call_script(*extract, "--num_workers", 0)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[1] == f"40 utterances, 4 speakers, {dim} dimensions"
    assert len(list(tmp_path.glob("librispeech_features_onnx_*.pt"))) == 1


@pytest.mark.parametrize("name", sorted({*ENCODERS} - {"campplus", "trained"}))
def test_script_refuses_encoders_before_their_weights_are_searched_for(
    name: str, call_script: Callable[..., Any], tmp_path: Path
) -> None:
    done = call_script(EXTRACT, "--export_onnx", tmp_path / "out.onnx", "--encoder", name)
    assert done.returncode == 2
    assert f"ERROR The encoder '{name}' cannot be exported" in done.stderr


def test_script_refuses_a_corpus_and_files_of_other_kinds(
    corpus_root: Path, campplus_weights: Path, call_script: Callable[..., Any], tmp_path: Path
) -> None:
    export = [EXTRACT, "--encoder", "campplus", "--encoder_weights", campplus_weights, "--export_onnx"]
    (tmp_path / "notes.onnx").write_text("my notes")
    for words, message in (
        ([tmp_path / "out.onnx", "--data_dir", corpus_root], "writes the encoder alone; leave out the corpus"),
        ([tmp_path / "out.pt"], "give --export_onnx a name that ends in .onnx"),
        ([tmp_path / "notes.onnx"], "a file of an unknown kind"),
    ):
        done = call_script(*export, *words)
        assert done.returncode == 2
        assert message in done.stderr
