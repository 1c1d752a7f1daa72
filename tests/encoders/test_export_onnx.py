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


@pytest.mark.parametrize(
    ("front_end", "names", "form"),
    [
        ("3dspeaker", ("x", "embedding"), {"framework": "3d-speaker", "normalize_samples": "1"}),
        ("wespeaker", ("feats", "embs"), {"framework": "wespeaker", "normalize_samples": "0"}),
    ],
)
def test_exported_campplus_has_the_vectors_of_torch(
    front_end: str, names: tuple[str, str], form: dict[str, str], campplus_weights: Path, tmp_path: Path
) -> None:
    encoder = load_encoder("campplus", campplus_weights, device="cpu", front_end=front_end)
    assert export_onnx(encoder, tmp_path / "out.onnx") <= 1e-5
    exported = load_encoder("onnx", tmp_path / "out.onnx", device="cpu")
    assert exported.spec["options"]["front_end"] == front_end
    assert exported.spec["min_seconds"] == encoder.spec["min_seconds"]
    waves = noises([0.7, 12.3, 1.0, 0.045, 3.21])
    assert distance(exported.encode(waves), encoder.encode(waves)) < 1e-5
    session = onnxruntime.InferenceSession(tmp_path / "out.onnx")
    assert (session.get_inputs()[0].name, session.get_outputs()[0].name) == names
    found = session.get_modelmeta().custom_metadata_map
    common = {"sample_rate": "16000", "output_dim": "192", "feature_normalize_type": "global-mean"}
    assert {"language", "url", "comment"} <= set(found)
    assert {**common, **form}.items() <= found.items()
    onnx.checker.check_model(onnx.load(tmp_path / "out.onnx"), full_check=True)


def test_exported_graph_takes_batches_of_any_size(campplus_weights: Path, tmp_path: Path) -> None:
    encoder = load_encoder("campplus", campplus_weights, device="cpu")
    export_onnx(encoder, tmp_path / "out.onnx")
    waves = noises([2.4, 2.4, 2.4])
    frames = np.stack([KaldiFbank().spectrogram(wave).numpy() for wave in waves])
    [found] = onnxruntime.InferenceSession(tmp_path / "out.onnx").run(None, {"x": frames})
    assert distance(torch.from_numpy(found), encoder.encode(waves)) < 1e-5


def save_network(path: Path, network: str, **settings: Any) -> Encoder:
    """Save a network with random weights as `train_encoder.py` does, and load it."""
    tensors: dict[str, Tensor] = {}
    if "pretrained" not in settings:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            n_features = 80 if settings.get("front_end", "fbank") == "fbank" else 40
            tensors = dict(create_network(network, n_features).state_dict())
    defaults = {"network_options": {}, "front_end": "fbank", "front_end_options": {}, "window": None}
    trained = TrainedNetwork(network=network, tensors=tensors, **{**defaults, **settings})
    return load_encoder("trained", trained.save(path), device="cpu")


def test_trained_networks_are_exported(campplus_weights: Path, tmp_path: Path) -> None:
    tuned = {"pretrained": Pretrained.find("campplus", campplus_weights)}
    hamming = {"front_end_options": {"window_type": "hamming", "factor": 32_768.0}}
    for network, settings in (("conv1d", {}), ("conv2d", hamming), ("campplus", tuned)):
        encoder = save_network(tmp_path / f"{network}.pt", network, **settings)
        assert export_onnx(encoder, tmp_path / "out.onnx") <= 1e-5
        exported, waves = load_encoder("onnx", tmp_path / "out.onnx", device="cpu"), noises([0.7, 3.3])
        assert distance(exported.encode(waves), encoder.encode(waves)) < 1e-5
        assert exported.spec["options"]["front_end"] == ("wespeaker" if settings is hamming else "3dspeaker")


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


def test_options_that_a_file_cannot_have_are_refused(campplus_weights: Path, tmp_path: Path) -> None:
    for options, name in (({"window": 2.0}, "window"), ({"max_bandwidth": 4_000}, "max_bandwidth")):
        encoder = load_encoder("campplus", campplus_weights, device="cpu", **options)
        with pytest.raises(EncoderError, match=f"has a {name}, which an ONNX file cannot have"):
            export_onnx(encoder, tmp_path / "out.onnx")


def test_other_encoders_are_refused(spectral: Encoder, tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match=r"'spectral' cannot be exported .* Choose --encoder campplus, or trained"):
        export_onnx(spectral, tmp_path / "out.onnx")


def test_a_file_with_other_vectors_is_not_kept(
    campplus_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder, path = load_encoder("campplus", campplus_weights, device="cpu"), tmp_path / "out.onnx"
    path.write_bytes(b"before")
    forward = encoder.forward
    monkeypatch.setattr(encoder, "forward", lambda *batch: 1.001 * forward(*batch))
    with pytest.raises(EncoderError, match=r"out\.onnx: the file is not kept, .* by 0\.001 of their length; expected"):
        export_onnx(encoder, path)
    assert path.read_bytes() == b"before"


EXTRACT = "extract_features.py"


def test_script_exports_and_uses_the_file(
    campplus_weights: Path, corpus_root: Path, call_script: Callable[..., Any], tmp_path: Path
) -> None:
    path = tmp_path / "new" / "out.onnx"
    export = [EXTRACT, "--export_onnx", path, "--encoder", "campplus", "--encoder_weights", campplus_weights]
    for _ in range(2):  # its own file may be replaced
        done = call_script(*export)
        assert done.returncode == 0, done.stderr
        first, second = done.stdout.splitlines()
        assert first == f"ONNX file: {path}"
        assert second.startswith("192 dimensions; its vectors are within ")
    extract = [EXTRACT, corpus_root, "--encoder", "onnx", "--encoder_weights", path, "--output_dir", tmp_path]
    done = call_script(*extract, "--num_workers", 0)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[1] == "40 utterances, 4 speakers, 192 dimensions"
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
