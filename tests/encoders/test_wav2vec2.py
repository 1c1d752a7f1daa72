"""`wav2vec2`: parity with transformers for every family, layers, pooling, batches, and models that are refused."""

import json
import logging
import shutil
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from encoders import Encoder, EncoderError, default_spec, lazy_encoder, load_encoder, spec_differences

SaveModel = Callable[..., Path]
RATE = 16_000
LARGE = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
# Every family, with both kinds of checkpoints: with group norm (base) and with layer norm (large).
FAMILIES: dict[str, dict[str, Any]] = {
    "wav2vec2": {"family": "Wav2Vec2"},
    "wav2vec2 large": {"family": "Wav2Vec2", **LARGE},
    "hubert": {"family": "Hubert"},
    "hubert large": {"family": "Hubert", **LARGE},
    "hubert batch norm": {"family": "Hubert", "conv_pos_batch_norm": True},
    "hubert without projection norm": {"family": "Hubert", "feat_proj_layer_norm": False},
    "wavlm": {"family": "WavLM"},
    "wavlm large": {"family": "WavLM", **LARGE},
    "data2vec": {"family": "Data2VecAudio", "conv_pos_kernel_size": 9},
    "unispeech-sat": {"family": "UniSpeechSat"},
    "unispeech-sat large": {"family": "UniSpeechSat", **LARGE},
}


def noises(lengths: Sequence[int]) -> list[Tensor]:
    """Make waveforms with different levels, and with offsets that normalisation must remove."""
    generator = torch.Generator().manual_seed(0)
    return [0.02 * (n + 1) * torch.randn(k, generator=generator) + 0.01 * n for n, k in enumerate(lengths)]


def distance(found: Tensor, expected: Tensor) -> float:
    """Return the largest relative distance of a vector from its expected value."""
    return float(((found - expected).norm(dim=-1) / expected.norm(dim=-1)).max())


@torch.inference_mode()
def embed_with_transformers(folder: Path, waveforms: Sequence[Tensor]) -> Tensor:
    """Compute the mean over time of each layer with transformers, one utterance at a time; (n, layers, dim)."""
    from transformers import AutoFeatureExtractor, AutoModel

    extractor_class: Any = AutoFeatureExtractor
    model, extractor = AutoModel.from_pretrained(folder).eval(), extractor_class.from_pretrained(folder)
    rows = []
    for waveform in waveforms:
        values = extractor(waveform.numpy(), sampling_rate=RATE, return_tensors="pt").input_values
        output = model(values, output_hidden_states=True)
        states = [*output.hidden_states[:-1], output.last_hidden_state]
        rows.append(torch.stack([state[0].mean(0) for state in states]))
    return torch.stack(rows)


@pytest.mark.parametrize("settings", FAMILIES.values(), ids=FAMILIES)
def test_batched_embeddings_equal_those_of_transformers(settings: dict[str, Any], speech_model: SaveModel) -> None:
    folder = speech_model(**settings)
    encoder = load_encoder("wav2vec2", folder, device="cpu")
    waveforms = noises([16_000, 400, 9_000, 23_456])
    expected = embed_with_transformers(folder, waveforms)
    alone = torch.cat([encoder.encode([waveform]) for waveform in waveforms])
    assert alone.shape == (4, 4, 32)
    assert distance(alone, expected) < 1e-4
    assert distance(encoder.encode(waveforms, batch_size=4), alone) < 1e-4
    assert distance(encoder.encode(waveforms, batch_size=3), alone) < 1e-4
    assert torch.equal(encoder.encode(waveforms), alone)
    # The tolerance is smaller than the distance between different utterances.
    assert distance(alone[:1], alone[2:3]) > 1e-2


@pytest.fixture(scope="module")
def folder(speech_model: SaveModel) -> Path:
    return speech_model()


@pytest.fixture(scope="module")
def all_layers(folder: Path) -> Encoder:
    return load_encoder("wav2vec2", folder, device="cpu")


@pytest.mark.parametrize(
    ("layers", "numbers"),
    [("all", [0, 1, 2, 3]), ("last", [3]), ("0", [0]), ("1", [1]), ("1-2", [1, 2]), ("2-3", [2, 3])],
)
@pytest.mark.parametrize("kind", ["wav2vec2", "wavlm large"])
def test_selected_layers_equal_those_of_all_layers(
    layers: str, numbers: list[int], kind: str, speech_model: SaveModel
) -> None:
    folder = speech_model(**FAMILIES[kind])
    waveforms = noises([8_000, 5_000])
    complete = load_encoder("wav2vec2", folder, device="cpu").encode(waveforms)
    encoder = load_encoder("wav2vec2", folder, device="cpu", layers=layers)
    assert encoder.layers == tuple(numbers)
    expected = complete[:, numbers] if len(numbers) > 1 else complete[:, numbers[0]]
    torch.testing.assert_close(encoder.encode(waveforms), expected)


def test_equivalent_layer_options_give_one_spec(folder: Path) -> None:
    assert lazy_encoder("wav2vec2", folder).spec == lazy_encoder("wav2vec2", folder, layers="0-3").spec
    assert lazy_encoder("wav2vec2", folder, layers="last").spec == lazy_encoder("wav2vec2", folder, layers="3").spec


@pytest.mark.parametrize("layers", ["4", "2-1", "1-4", "top", "-1", ""])
def test_invalid_layers_are_refused(layers: str, folder: Path) -> None:
    with pytest.raises(EncoderError, match="layers is"):
        lazy_encoder("wav2vec2", folder, layers=layers)


def test_mean_and_deviation_use_valid_frames_only(folder: Path, all_layers: Encoder) -> None:
    encoder = load_encoder("wav2vec2", folder, device="cpu", pooling="mean+std", layers="2")
    waveforms = noises([16_000, 6_000])
    states: list[Tensor] = []

    def read(number: int, hidden: Tensor) -> None:
        if number == 2:
            states.append(hidden[0].clone())

    network: Any = all_layers.network
    for waveform in waveforms:
        normalised = (waveform - waveform.mean()) / (waveform.var(correction=0) + 1e-7).sqrt()
        with torch.inference_mode():
            network(normalised[None], torch.tensor([len(waveform)]), read)
    expected = torch.stack([torch.cat([state.mean(0), state.std(0, correction=0)]) for state in states])
    assert encoder.dim == 64
    torch.testing.assert_close(encoder.encode(waveforms), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(encoder.encode(waveforms, batch_size=2), expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(EncoderError, match=r"'max'.*mean, mean\+std"):
        lazy_encoder("wav2vec2", folder, pooling="max")


def test_clip_shorter_than_one_frame_is_padded(all_layers: Encoder) -> None:
    short = noises([1, 100, 399])
    alone = torch.cat([all_layers.encode([waveform]) for waveform in short])
    assert alone.isfinite().all()
    assert distance(all_layers.encode([*short, *noises([9_000])], batch_size=4)[:3], alone) < 1e-4


def test_normalisation_follows_the_checkpoint(speech_model: SaveModel, caplog: pytest.LogCaptureFixture) -> None:
    (waveform,) = noises([8_000])
    specs = []
    for do_normalize, depends_on_level in ((True, False), (False, True), (None, False)):
        caplog.clear()
        folder = speech_model(do_normalize=do_normalize)
        encoder = load_encoder("wav2vec2", folder, device="cpu")
        change = distance(encoder.encode([10 * waveform + 0.1]), encoder.encode([waveform]))
        assert (change > 1e-3) == depends_on_level
        assert ("waveforms are normalised" in caplog.text) == (do_normalize is None)
        specs.append(encoder.spec)
    assert any("normalises" in difference for difference in spec_differences(specs[0], specs[1]))


def test_windows_are_averaged_for_each_layer(folder: Path, all_layers: Encoder) -> None:
    encoder = load_encoder("wav2vec2", folder, device="cpu", window=0.5)
    (waveform,) = noises([20_000])
    windows = all_layers.encode([waveform[start : start + 8_000] for start in (0, 4_000, 8_000, 12_000)])
    torch.testing.assert_close(encoder.encode([waveform])[0], windows.mean(0))
    assert encoder.spec["options"]["hop"] == 0.25


def test_lower_precisions_are_close_to_fp32(folder: Path, all_layers: Encoder) -> None:
    waveforms = noises([8_000, 16_000])
    exact = all_layers.encode(waveforms)
    for precision in ("bf16", "fp16"):
        found = load_encoder("wav2vec2", folder, device="cpu", precision=precision).encode(waveforms)
        assert 0 < distance(found, exact) < 0.05, precision


class Limited(Encoder):
    """An encoder that sums samples, and runs out of memory for more than `capacity` waveforms in a batch."""

    batch_size = {"cpu": 8}  # noqa: RUF012
    batch_seconds = {"cpu": 100.0}  # noqa: RUF012

    def __init__(self, capacity: int = 3, error: Exception | None = None) -> None:
        super().__init__({"name": "x", "sample_rate": 10, "dim": 1, "layers": [], "options": {}})
        self.capacity = capacity
        self.sizes: list[int] = []
        self.error = error or torch.OutOfMemoryError("out of memory")

    @classmethod
    def describe(cls, weights: str | Path | None, options: Any) -> dict[str, Any]:
        raise NotImplementedError

    def forward(self, waveforms: Tensor, lengths: Tensor) -> Tensor:
        if len(waveforms) > self.capacity:
            raise self.error
        self.sizes.append(len(waveforms))
        return waveforms.sum(1, keepdim=True)


def test_batch_that_does_not_fit_into_memory_is_halved(caplog: pytest.LogCaptureFixture) -> None:
    encoder = Limited()
    waveforms = [torch.full((length,), 1.0) for length in (3, 1, 7, 2, 5, 4, 6, 8, 9)]
    assert encoder.encode(waveforms).flatten().tolist() == [3, 1, 7, 2, 5, 4, 6, 8, 9]
    assert encoder.sizes == [2, 2, 2, 2, 1]
    assert "--encoder_batch_size 2" in caplog.text
    caplog.clear()
    encoder.encode(waveforms)
    assert not caplog.text, "the size that fits is kept"
    cpu_error = RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory")
    assert Limited(error=cpu_error).encode(waveforms).flatten().tolist() == [3, 1, 7, 2, 5, 4, 6, 8, 9]
    with pytest.raises(RuntimeError, match="something else"):
        Limited(error=RuntimeError("something else")).encode(waveforms)
    with pytest.raises(EncoderError, match=r"one utterance of 0.9 s.*--max_duration"):
        Limited(capacity=0).encode(waveforms)


def test_batches_are_limited_by_seconds() -> None:
    encoder = Limited(capacity=8)
    encoder.batch_seconds = {"cpu": 2.0}  # type: ignore[misc]
    encoder.encode([torch.ones(length) for length in (10, 10, 10, 4, 4, 4, 4, 4, 4)])
    assert encoder.sizes == [2, 2, 5]
    encoder.sizes.clear()
    encoder.encode([torch.ones(10)] * 5, batch_size=4)
    assert encoder.sizes == [4, 1]


OTHER_SETTINGS: list[dict[str, Any]] = [
    {"layer_norm_eps": 0.1},
    {"hidden_act": "relu"},
    {"num_attention_heads": 2},
    {"conv_stride": [5] + 6 * [3]},
]


@pytest.mark.parametrize("change", OTHER_SETTINGS)
def test_settings_that_change_the_output_change_the_spec(
    change: dict[str, Any], folder: Path, all_layers: Encoder, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "model"))
    change_config(copy, **change)
    assert lazy_encoder("wav2vec2", copy).spec["weights"] != all_layers.spec["weights"]


@pytest.mark.parametrize(
    ("family", "form"),
    [("Wav2Vec2", "ForSequenceClassification"), ("Hubert", "ForSequenceClassification")],
)
def test_checkpoint_whose_layers_would_be_ignored_is_refused(family: str, form: str, speech_model: SaveModel) -> None:
    folder = speech_model(family=family, form=form)
    with pytest.raises(EncoderError, match=rf"{family}{form}, whose .* would be ignored.*Use the model that it was"):
        load_encoder("wav2vec2", folder, device="cpu")


@pytest.mark.parametrize(
    ("family", "form"), [("Wav2Vec2", "ForCTC"), ("Wav2Vec2", "ForPreTraining"), ("UniSpeechSat", "ForPreTraining")]
)
def test_heads_of_checkpoints_are_ignored(family: str, form: str, speech_model: SaveModel) -> None:
    folder = speech_model(family=family, form=form)
    encoder = load_encoder("wav2vec2", folder, device="cpu")
    assert distance(encoder.encode(noises([8_000])), embed_with_transformers(folder, noises([8_000]))) < 1e-4


def test_bin_file_gives_the_same_encoder(folder: Path, all_layers: Encoder, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    copy = Path(shutil.copytree(folder, tmp_path / "model"))
    torch.save(load_file(copy / "model.safetensors"), copy / "pytorch_model.bin")
    (copy / "model.safetensors").unlink()
    encoder = load_encoder("wav2vec2", copy, device="cpu")
    assert encoder.spec == all_layers.spec
    assert torch.equal(encoder.encode(noises([8_000])), all_layers.encode(noises([8_000])))


def change_config(folder: Path, **settings: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **settings}))


def remove_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def remove_layer(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    state = load_file(folder / "model.safetensors")
    kept = {name: tensor for name, tensor in state.items() if "layers.1.attention" not in name}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})


def write_index_of_missing_file(folder: Path) -> None:
    remove_weights(folder)
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {"a": "model-1-of-1.safetensors"}}')


def write_index_of_nothing(folder: Path) -> None:
    remove_weights(folder)
    (folder / "model.safetensors.index.json").write_text("{}")


def write_code(folder: Path) -> None:
    remove_weights(folder)
    torch.save({"x": logging.getLogger}, folder / "pytorch_model.bin")


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "text model": (lambda folder: change_config(folder, model_type="bert"), "model of type 'bert'.*wav2vec2, hubert"),
    "no config": (lambda folder: (folder / "config.json").unlink(), "has no config.json"),
    "config is text": (lambda folder: (folder / "config.json").write_text("text"), "config.json: this cannot be read"),
    "config is a list": (lambda folder: (folder / "config.json").write_text("[]"), "holds a list"),
    "no weights": (remove_weights, "has no weights; expected one of model.safetensors"),
    "layers are null": (lambda folder: change_config(folder, num_hidden_layers=None), "num_hidden_layers is None"),
    "a listed file is missing": (
        write_index_of_missing_file,
        r"index\.json: files that it lists are missing: model-1-of-1\.safetensors",
    ),
    "no list of weights": (
        write_index_of_nothing,
        r"index\.json: it lists no files of weights",
    ),
    "weights are text": (lambda folder: (folder / "model.safetensors").write_text("x" * 99), "cannot be loaded"),
    "a layer is missing": (remove_layer, r"lack encoder\.layers\.1\.attention.*and \d+ more"),
    "another size": (
        lambda folder: change_config(folder, intermediate_size=99),
        r"has the shape \[48\] in the weights, but \[99\] by the settings in config\.json; download both again",
    ),
    "code": (write_code, "cannot be loaded"),
    "another rate": (
        lambda folder: (folder / "preprocessor_config.json").write_text('{"sampling_rate": 8000}'),
        "takes audio at 8000 Hz",
    ),
}


@pytest.mark.parametrize(("damage", "sentence"), BROKEN.values(), ids=BROKEN)
def test_bad_model_folder_is_refused_in_one_sentence(
    damage: Callable[[Path], object], sentence: str, folder: Path, tmp_path: Path
) -> None:
    broken = Path(shutil.copytree(folder, tmp_path / "model"))
    damage(broken)
    with pytest.raises(EncoderError, match=sentence) as caught:
        lazy_encoder("wav2vec2", broken)
    assert str(caught.value).startswith(str(broken))
    assert "\n" not in str(caught.value)


def test_id_is_found_in_pretrained_models(
    folder: Path, all_layers: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("encoders.hub_model.CLONE", tmp_path / "clone")
    assert default_spec("wav2vec2") is None
    shutil.copytree(folder, tmp_path / "pretrained_models" / "facebook" / "wav2vec2-base")
    shutil.copytree(folder, tmp_path / "clone" / "pretrained_models" / "other")
    default, other = default_spec("wav2vec2"), lazy_encoder("wav2vec2", "some/other").spec
    assert default == {**all_layers.spec, "source": "facebook/wav2vec2-base", "trained_on": ["librispeech"]}
    assert all_layers.spec["source"] is None
    assert other["source"] == "some/other"
    assert spec_differences(default, other) == []
    assert load_encoder("wav2vec2", "some/other", device="cpu").encode(noises([800])).shape == (1, 4, 32)


def test_id_is_found_in_the_hub_cache(
    folder: Path, all_layers: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    repository = tmp_path / "hub" / "models--some--model"
    shutil.copytree(folder, repository / "snapshots" / "abc")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    assert spec_differences(lazy_encoder("wav2vec2", "some/model").spec, all_layers.spec) == []


def test_missing_model_error_lists_the_files_to_get(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(EncoderError, match="no/such_model: this model is neither in") as caught:
        lazy_encoder("wav2vec2", "no/such_model")
    for part in ("Hugging Face cache (", "HF_HUB_OFFLINE", "config.json", "pretrained_models/no/such_model/"):
        assert part in str(caught.value)
    for name in ("nowhere", "../nope", "./nope", "a--b/c", "models/x."):
        with pytest.raises(EncoderError, match=r"no such folder.*an id of the Hugging Face hub"):
            lazy_encoder("wav2vec2", name)


def test_hub_that_does_not_answer_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("files.downloads.PROBE_SECONDS", 0.5)
    with socket.socket() as silent:  # accepts the connection and sends nothing
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        monkeypatch.setattr("huggingface_hub.hf_hub_url", lambda model_id, name: f"{address}/{model_id}/{name}")
        with pytest.raises(EncoderError, match=r"cannot be downloaded \(.*(timed out|did not answer)"):
            lazy_encoder("wav2vec2", "no/such_model")


def test_model_in_several_files_is_downloaded(
    folder: Path, all_layers: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub
    from huggingface_hub import constants
    from transformers import AutoModel

    client: Any = huggingface_hub.utils
    remote = tmp_path / "remote"
    AutoModel.from_pretrained(folder).save_pretrained(remote, max_shard_size="20KB")
    shutil.copy(folder / "preprocessor_config.json", remote)
    (remote / "flax_model.msgpack").write_bytes(b"weights for JAX")
    files = [path.name for path in remote.iterdir()]
    assert "model.safetensors.index.json" in files
    repository = tmp_path / "hub" / "models--some--large"

    def snapshot(model_id: str, allow_patterns: list[str], **_: object) -> None:
        for name in client.filter_repo_objects(files, allow_patterns=allow_patterns):
            (repository / "snapshots" / "abc").mkdir(parents=True, exist_ok=True)
            shutil.copy(remote / name, repository / "snapshots" / "abc")
        (repository / "refs").mkdir()
        (repository / "refs" / "main").write_text("abc")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("encoders.hub_model.connection_problem", lambda url: None)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    monkeypatch.setattr(huggingface_hub.HfApi, "list_repo_files", lambda self, model_id: files)
    spec = lazy_encoder("wav2vec2", "some/large").spec
    assert spec_differences(spec, all_layers.spec) == []
    assert "flax_model.msgpack" not in [path.name for path in (repository / "snapshots" / "abc").iterdir()]


def test_classifier_needs_the_folder_of_its_weights(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from evaluation import compare_heads
    from features import FeatureSet

    monkeypatch.chdir(tmp_path)
    spec = lazy_encoder("wav2vec2", folder, layers="last").spec
    labels = torch.arange(60) % 3
    rows = torch.randn(60, 32, generator=torch.Generator().manual_seed(0)) + 5 * labels[:, None]
    names = tuple("abc")
    features = FeatureSet(rows, labels, names, labels, names, tuple(map(str, range(60))), torch.ones(60), spec, "made")
    classifier = compare_heads(features, ["lda"]).classifier
    with pytest.raises(
        EncoderError, match=r"weights from a file or folder \(digest \w{8}\); give it with --encoder_weights"
    ):
        classifier.predict([tmp_path / "x.wav"])
    found = classifier.predict([tmp_path / "x.wav"], encoder_weights=folder)
    assert found[0].error == "no such file"
