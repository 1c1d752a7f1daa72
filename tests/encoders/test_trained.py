"""`trained`: what every encoder has to do, and what its file says and may not do."""

import logging
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from corpora import Corpus
from encoders import Encoder, EncoderError, TrainedNetwork, encoder_from_spec, load_encoder, spec_digest
from evaluation import compare_backends, compare_heads
from features import FeaturesError, FeatureSet, extract
from files import InputError
from networks import NETWORKS, embed_frames

Save = Callable[..., Path]
RATE = 16_000


def noises(seconds: list[float]) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [0.1 * torch.randn(round(RATE * each), generator=generator) for each in seconds]


@pytest.fixture(scope="module")
def encoder(trained_weights: Save) -> Encoder:
    return load_encoder("trained", trained_weights(), device="cpu")


@pytest.mark.parametrize(
    ("network", "window"), [*((network, None) for network in NETWORKS), ("bilstm", (100, 50)), ("conv1d", (100, 50))]
)
def test_batches_are_one_recording_at_a_time(
    network: str, window: tuple[int, int] | None, trained_weights: Save
) -> None:
    encoder = load_encoder("trained", trained_weights(network, window=window), device="cpu")
    waveforms = noises([1.1, 0.02, 2.4, 0.5, 1.0])
    alone = torch.cat([encoder.encode([wave]) for wave in waveforms])
    together = encoder.encode(waveforms, batch_size=len(waveforms))
    assert float(((together - alone).norm(dim=1) / alone.norm(dim=1)).max()) < 1e-4
    assert torch.equal(encoder.encode(waveforms), encoder.encode(waveforms))
    assert alone.shape == (5, encoder.dim)


def test_embedding_is_that_of_the_network(trained_weights: Save) -> None:
    path = trained_weights("bilstm", window=(30, 15))
    front_end, network = TrainedNetwork.load(path).build()
    [wave] = noises([3.0])
    with torch.inference_mode():
        frames, n_frames = front_end(wave[None], torch.tensor([len(wave)]))
        expected = embed_frames(network, frames, n_frames, window=(30, 15))
    assert torch.equal(load_encoder("trained", path, device="cpu").encode([wave]), expected)


def test_spec_depends_on_weights_and_settings_and_not_on_the_path(trained_weights: Save) -> None:
    spec = load_encoder("trained", trained_weights(), device="cpu").spec
    assert load_encoder("trained", trained_weights(), device="cpu").spec == spec
    assert (spec["network"]["name"], spec["front_end"]["name"], spec["frames"]) == ("conv1d", "log_mel", None)
    for other in (
        trained_weights(seed=1),
        trained_weights(window=(100, 50)),
        trained_weights(front_end_options={"normalize": "none"}),
        trained_weights(network_options={"dropout": 0.2}),
    ):
        assert spec_digest(load_encoder("trained", other, device="cpu").spec) != spec_digest(spec)


def test_training_speakers_are_recorded_without_changing_the_digest(trained_weights: Save) -> None:
    path = trained_weights(speakers=("b", "a"), corpora=("x", "y"), earlier_speakers=("c", "a"))
    spec = load_encoder("trained", path, device="cpu").spec
    assert (spec["trained_on"], spec["trained_speakers"]) == (["x", "y"], ["a", "b", "c"])
    other = load_encoder("trained", trained_weights(speakers=("d",), corpora=("z",)), device="cpu").spec
    assert spec_digest(other) == spec_digest(spec)


def test_the_encoder_of_a_spec_is_found_with_its_weights(trained_weights: Save) -> None:
    path = trained_weights()
    spec = load_encoder("trained", path, device="cpu").spec
    assert encoder_from_spec(spec, path, "cpu").spec == spec


def test_features_of_other_weights_are_refused_by_name(trained_weights: Save, corpus: Corpus, tmp_path: Path) -> None:
    few, path = Corpus(corpus.utterances[:4], corpus.root, corpus.name), tmp_path / "features.pt"
    first = extract(few, load_encoder("trained", trained_weights(), device="cpu"), path, progress=False)
    assert first.features.shape == (4, 512)
    again = extract(few, load_encoder("trained", trained_weights(), device="cpu"), path, progress=False)
    assert torch.equal(first.features, again.features)
    with pytest.raises(
        FeaturesError, match=r"features\.pt: .*encoder 'trained': weights is '\w{8}' there, '\w{8}' here"
    ):
        extract(few, load_encoder("trained", trained_weights(seed=1), device="cpu"), path, progress=False)
    with pytest.raises(FeaturesError, match=r"frames is None there, \[100, 50\] here"):
        extract(few, load_encoder("trained", trained_weights(window=(100, 50)), device="cpu"), path, progress=False)


def test_results_name_the_test_speakers_who_trained_the_encoder(made_up: Callable[..., FeatureSet]) -> None:
    features = made_up(n_sessions=1)
    seen = {"trained_on": ["other", "hard"], "trained_speakers": ["speaker 03", "someone", "speaker 01"]}
    features.encoder.update(seen)
    expected = (
        "the encoder was trained on 2 of the 12 speakers of hard (speaker 01, speaker 03), so the figures are "
        "optimistic; test it on other speakers"
    )
    assert expected in compare_heads(features, ["centroid"]).notes
    assert expected in compare_backends(features, "cosine").notes
    for other in (
        {"trained_on": ["other"]},
        {"trained_speakers": ["someone"]},
        {"trained_on": "unknown"},
    ):
        features.encoder.update({**seen, **other})
        assert not any("was trained on" in note for note in compare_heads(features, ["centroid"]).notes)
        assert not any("was trained on" in note for note in compare_backends(features, "cosine").notes)


def change(path: Path, key: str, value: object) -> Path:
    """Replace a value in a saved file."""
    content: dict[str, Any] = torch.load(path, weights_only=True)
    content[key] = value
    torch.save(content, path)
    return path


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        (
            "format",
            3,
            r"its format is 3, but this version of Voxprobe reads up to 2\. Update Voxprobe, or train it again",
        ),
        ("network", {"name": "conv3d", "options": {}}, "no network 'conv3d'"),
        ("network", {"name": "bilstm", "options": {}}, "its weights are not those of the network 'bilstm'"),
        ("network", {"name": "conv1d", "options": {"width": 3}}, "no option 'width'"),
        ("network", "conv1d", "is damaged"),
        ("front_end", {"name": "mel", "options": {}}, "no front end 'mel'"),
        ("front_end", {"name": "log_mel", "options": {"n_mels": 40}}, "its weights are not those of the network"),
        ("window", [100, 0], r"its window is \[100, 0\]"),
        ("window", [100], r"its window is \[100\]"),
        ("tensors", {}, "its weights are not those of the network 'conv1d'"),
        ("tensors", {"blocks.0.0.weight": "text"}, "is damaged"),
        ("speakers", 3, "is damaged"),
    ],
)
def test_damaged_files_are_refused_in_one_line(key: str, value: object, sentence: str, trained_weights: Save) -> None:
    path = change(trained_weights(), key, value)
    with pytest.raises(EncoderError, match=rf"^{path}: .*{sentence}") as refused:
        load_encoder("trained", path, device="cpu")
    assert "\n" not in str(refused.value)


def test_weights_that_are_not_finite_are_neither_saved_nor_loaded(trained_weights: Save, tmp_path: Path) -> None:
    path = trained_weights()
    trained = TrainedNetwork.load(path)
    tensors = {name: tensor.clone() for name, tensor in trained.tensors.items()}
    tensors["blocks.1.0.weight"].view(-1)[3] = math.nan
    with pytest.raises(EncoderError, match=r"new\.pt: the weights of 'blocks\.1\.0\.weight' are not finite"):
        TrainedNetwork(
            network="conv1d",
            network_options={},
            front_end="log_mel",
            front_end_options={},
            window=None,
            tensors=tensors,
        ).save(tmp_path / "new.pt")
    assert not (tmp_path / "new.pt").exists()
    with pytest.raises(EncoderError, match=r"the weights of 'blocks\.1\.0\.weight' are not finite"):
        load_encoder("trained", change(path, "tensors", tensors), device="cpu")


def test_other_files_are_refused(trained_weights: Save, tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match=r"give --encoder_weights FILE, as train_encoder\.py saves it"):
        load_encoder("trained")
    with pytest.raises(EncoderError, match=r"none\.pt: no such file"):
        load_encoder("trained", tmp_path / "none.pt")
    (tmp_path / "cut.pt").write_bytes(trained_weights().read_bytes()[:5000])
    with pytest.raises(EncoderError, match=r"cut\.pt: this is not a trained encoder, .* or it is cut off"):
        load_encoder("trained", tmp_path / "cut.pt")
    with pytest.raises(EncoderError, match="has no option 'window'"):
        load_encoder("trained", trained_weights(), window=1.0)


def test_an_absent_package_is_no_damage(trained_weights: Save, monkeypatch: pytest.MonkeyPatch) -> None:
    path = trained_weights("resnet18")
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(InputError, match=r"^The package torchvision is not installed; it is needed for the networks"):
        load_encoder("trained", path, device="cpu")


def test_weights_that_change_after_the_description_are_refused(trained_weights: Save) -> None:
    path = trained_weights()
    spec = load_encoder("trained", path, device="cpu").spec
    with pytest.raises(EncoderError, match="these weights have changed since they were last read"):
        type(load_encoder("trained", path, device="cpu"))(spec, trained_weights(seed=1))


class TouchWhenLoaded:
    """An object whose pickle creates a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


def test_code_in_a_file_is_not_run(trained_weights: Save, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    content = torch.load(trained_weights(), weights_only=True)
    torch.save({**content, "figures": TouchWhenLoaded(tmp_path / "touched")}, tmp_path / "code.pt")
    with caplog.at_level(logging.ERROR), pytest.raises(EncoderError, match="never loaded, because it could run code"):
        load_encoder("trained", tmp_path / "code.pt")
    assert not (tmp_path / "touched").exists()
