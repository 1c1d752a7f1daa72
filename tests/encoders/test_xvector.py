"""X-vector heads in `wav2vec2`: parity with transformers, padded batches, short audio, and models that are refused."""

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch
from torch import Tensor

from corpora import Corpus, Utterance
from embedding import embed_utterances
from encoders import Encoder, EncoderError, Pretrained, encoder_from_spec, lazy_encoder, load_encoder
from features import FeaturesError, extract

SaveModel = Callable[..., Path]
RATE = 16_000
# 16 frames: 20 ms each, and 25 ms for the last.
MIN_SAMPLES = 5_200
LARGE = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
MODELS: dict[str, dict[str, Any]] = {
    "wav2vec2": {"family": "Wav2Vec2"},
    "wav2vec2, last layer": {"family": "Wav2Vec2", "use_weighted_layer_sum": False},
    "wav2vec2 large": {"family": "Wav2Vec2", **LARGE},
    "wavlm": {"family": "WavLM"},
    "wavlm large, last layer": {"family": "WavLM", "use_weighted_layer_sum": False, **LARGE},
    "data2vec": {"family": "Data2VecAudio", "conv_pos_kernel_size": 9},
    "unispeech-sat": {"family": "UniSpeechSat"},
    "unispeech-sat large": {"family": "UniSpeechSat", **LARGE},
    "small head": {"tdnn_dim": [24, 20], "tdnn_kernel": [3, 2], "tdnn_dilation": [4, 1], "xvector_output_dim": 12},
}
LENGTHS = [16_000, MIN_SAMPLES, 30_001, 9_000]


@pytest.fixture(scope="module")
def speaker_model(speech_model: SaveModel) -> SaveModel:
    """Return a function that saves a small random model with an x-vector head, whose layers have unequal weights."""
    from safetensors.torch import load_file, save_file

    def save(**settings: Any) -> Path:
        folder = speech_model(**{"form": "ForXVector", "use_weighted_layer_sum": True, **settings})
        state = load_file(folder / "model.safetensors")
        if "layer_weights" in state:
            state["layer_weights"] = torch.linspace(-1, 1, len(state["layer_weights"]))
            save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
        return folder

    return save


@pytest.fixture(scope="module")
def folder(speaker_model: SaveModel) -> Path:
    return speaker_model(family="WavLM")


@pytest.fixture(scope="module")
def wavlm(folder: Path) -> Encoder:
    return load_encoder("wav2vec2", folder, device="cpu")


def noises(lengths: Sequence[int] = LENGTHS) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [0.02 * (n + 1) * torch.randn(k, generator=generator) + 0.01 * n for n, k in enumerate(lengths)]


def distance(found: Tensor, expected: Tensor) -> float:
    """Return the largest relative distance of a vector from its expected value."""
    return float(((found - expected).norm(dim=-1) / expected.norm(dim=-1)).max())


@torch.inference_mode()
def embed_with_transformers(
    folder: Path, waveforms: Sequence[Tensor], *, is_padded: bool = False, ties_last_layer: bool = False
) -> Tensor:
    """Compute x-vectors with transformers, one utterance at a time or in a padded batch.

    With `ties_last_layer`, the last of the hidden states is the output of the network, as in transformers 4.
    """
    from transformers import AutoModelForAudioXVector, Wav2Vec2FeatureExtractor

    model_class: Any = AutoModelForAudioXVector
    model = model_class.from_pretrained(folder).eval()
    if ties_last_layer:
        model.config.tie_last_hidden_states = True
    extractor: Any = Wav2Vec2FeatureExtractor.from_pretrained(folder)
    batches = [waveforms] if is_padded else [[waveform] for waveform in waveforms]
    rows = []
    for batch in batches:
        arrays = [waveform.numpy() for waveform in batch]
        inputs = extractor(
            arrays, sampling_rate=RATE, return_tensors="pt", padding=True, return_attention_mask=is_padded
        )
        rows.append(model(**inputs).embeddings)
    return torch.cat(rows)


def change_config(folder: Path, **settings: Any) -> Path:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **settings}))
    return folder


def change_weights(folder: Path, change: Callable[[dict[str, Tensor]], object]) -> Path:
    from safetensors.torch import load_file, save_file

    state = load_file(folder / "model.safetensors")
    change(state)
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.mark.parametrize("settings", MODELS.values(), ids=MODELS)
def test_x_vectors_equal_those_of_transformers_in_any_batch(settings: dict[str, Any], speaker_model: SaveModel) -> None:
    folder, waveforms = speaker_model(**settings), noises()
    encoder = load_encoder("wav2vec2", folder, device="cpu")
    alone = torch.cat([encoder.encode([waveform]) for waveform in waveforms])
    assert alone.shape == (4, encoder.dim) == (4, settings.get("xvector_output_dim", 512))
    assert distance(alone, embed_with_transformers(folder, waveforms)) <= 1e-5
    assert distance(encoder.encode(waveforms, batch_size=4), alone) <= 1e-5
    assert distance(encoder.encode(waveforms, batch_size=3), alone) <= 1e-5
    assert torch.equal(encoder.encode(waveforms), alone)
    # In padded batches, transformers gives other vectors; and the tolerance is below the distance of utterances.
    assert distance(embed_with_transformers(folder, waveforms, is_padded=True), alone) > 0.01
    assert distance(alone[:1], alone[2:3]) > 1e-2


# The settings of microsoft/wavlm-base-plus-sv that differ from the defaults of transformers, with 2 of 12 layers.
PUBLISHED: dict[str, Any] = {
    "_name_or_path": "microsoft/wavlm-base-plus",
    "architectures": ["WavLMForXVector"],
    "model_type": "wavlm",
    "num_hidden_layers": 2,
    "feat_extract_norm": "group",
    "freeze_feat_extract_train": True,
    "mask_feature_prob": 0.0,
    "mask_time_prob": 0.05,
    "no_mask_channel_overlap": False,
    "num_feat_extract_layers": 7,
    "tdnn_dilation": [1, 2, 3, 1, 1],
    "tdnn_dim": [512, 512, 512, 512, 1500],
    "tdnn_kernel": [5, 3, 3, 1, 1],
    "tokenizer_class": "Wav2Vec2CTCTokenizer",
    "torch_dtype": "float32",
    "transformers_version": "4.15.0.dev0",
    "use_weighted_layer_sum": True,
    "xvector_output_dim": 512,
}
PREPROCESSOR = {
    "do_normalize": False,
    "feature_extractor_type": "Wav2Vec2FeatureExtractor",
    "feature_size": 1,
    "padding_side": "right",
    "padding_value": 0.0,
    "return_attention_mask": True,
    "sampling_rate": 16000,
}


def test_files_of_a_published_model_are_read(tmp_path: Path) -> None:
    import transformers

    library: Any = transformers
    (tmp_path / "config.json").write_text(json.dumps(PUBLISHED))
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(PREPROCESSOR))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = library.WavLMForXVector(library.WavLMConfig.from_pretrained(tmp_path))
    names = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
    state = {}
    for key, tensor in model.state_dict().items():  # the names of the hub's file
        for new, old in names.items():
            key = key.replace(new, old)
        state[key] = tensor
    torch.save(state, tmp_path / "pytorch_model.bin")
    encoder, waveforms = load_encoder("wav2vec2", tmp_path, device="cpu"), noises()
    alone = encoder.encode(waveforms)
    assert distance(alone, embed_with_transformers(tmp_path, waveforms)) <= 1e-5
    assert distance(encoder.encode(waveforms, batch_size=4), alone) <= 1e-4
    assert (encoder.spec["normalises"], encoder.dim, encoder.layers) == (False, 512, ())
    assert encoder.spec["min_seconds"] == MIN_SAMPLES / RATE


def test_last_layer_of_large_models_is_that_of_their_training(speaker_model: SaveModel) -> None:
    """In models that transformers 4 saved, the average of layers has the last one after the final norm."""
    folder, waveforms = speaker_model(family="UniSpeechSat", **LARGE), noises([16_000, 9_000])
    of_version_5 = load_encoder("wav2vec2", folder, device="cpu")
    change_config(folder, transformers_version="4.13.0")
    of_version_4 = load_encoder("wav2vec2", folder, device="cpu")
    expected = embed_with_transformers(folder, waveforms, ties_last_layer=True)
    assert distance(of_version_4.encode(waveforms), expected) <= 1e-5
    assert distance(of_version_5.encode(waveforms), expected) > 1e-3
    assert of_version_4.spec["weights"] != of_version_5.spec["weights"]
    change_config(folder, transformers_version="5.0.0", tie_last_hidden_states=True)
    assert lazy_encoder("wav2vec2", folder).spec["weights"] == of_version_4.spec["weights"]
    change_config(folder, transformers_version="4.13.0", tie_last_hidden_states=False)
    assert lazy_encoder("wav2vec2", folder).spec["weights"] == of_version_5.spec["weights"]


def test_fewer_frames_than_16_are_refused_with_the_minimum(wavlm: Encoder, tmp_path: Path) -> None:
    shortest, short, shorter, long = noises([MIN_SAMPLES, MIN_SAMPLES - 1, 4_800, RATE])
    assert wavlm.encode([shortest]).isfinite().all()
    with pytest.raises(EncoderError, match=r"Waveform 1 has 5199 samples; the encoder 'wav2vec2' needs at least 5200"):
        wavlm.encode([shortest, short])
    utterances = []
    for name, wave in (("short", shorter), ("long", long)):
        soundfile.write(tmp_path / f"{name}.wav", wave.numpy(), RATE, subtype="FLOAT")
        utterances.append(Utterance(tmp_path / f"{name}.wav", "a", ""))
    failed, embedded = embed_utterances(utterances, wavlm)
    assert failed.error == "the audio is 0.300 s long; this encoder needs 0.325 s"
    assert embedded.vector is not None


def test_digital_silence_has_no_x_vector(wavlm: Encoder) -> None:
    for wave in (torch.zeros(RATE), torch.full((RATE,), 0.2)):
        with pytest.raises(EncoderError, match="Waveform 0 is digital silence"):
            wavlm.encode([wave])


def test_layers_of_a_speaker_model_are_pooled_as_those_of_others(folder: Path, wavlm: Encoder) -> None:
    from transformers import AutoModel

    waveforms = noises([16_000, 400])
    pooled = load_encoder("wav2vec2", folder, device="cpu", layers="all")
    last = load_encoder("wav2vec2", folder, device="cpu", layers="last", pooling="mean+std")
    model: Any = AutoModel.from_pretrained(folder).eval()
    with torch.inference_mode():
        wave = waveforms[0]
        normalised = (wave - wave.mean()) / (wave.var(correction=0) + 1e-7).sqrt()
        states = model(normalised[None], output_hidden_states=True).hidden_states
    expected = torch.stack([state[0].mean(0) for state in states])
    found = pooled.encode(waveforms)
    assert distance(found[0], expected) < 1e-4
    assert (pooled.layers, pooled.dim, last.layers, last.dim) == ((0, 1, 2, 3), 32, (3,), 64)
    torch.testing.assert_close(last.encode(waveforms)[:, :32], found[:, 3])
    assert "min_seconds" not in pooled.spec
    assert pooled.spec["weights"] == wavlm.spec["weights"]


def test_spec_finds_the_same_encoder_again(folder: Path, wavlm: Encoder) -> None:
    assert wavlm.spec["options"]["layers"] == "xvector"
    assert lazy_encoder("wav2vec2", folder, layers="xvector").spec == wavlm.spec
    again = encoder_from_spec(wavlm.spec, folder, "cpu")
    assert again.spec == wavlm.spec
    assert torch.equal(again.build().encode(noises()), wavlm.encode(noises()))


def test_windows_are_averaged(folder: Path, wavlm: Encoder) -> None:
    windowed = load_encoder("wav2vec2", folder, device="cpu", window=0.5)
    [wave] = noises([16_000])
    expected = wavlm.encode([wave[start : start + 8_000] for start in (0, 4_000, 8_000)]).mean(0)
    torch.testing.assert_close(windowed.encode([wave])[0], expected)
    with pytest.raises(
        EncoderError, match=r"window is 0\.3 s; the x-vector head of this model needs at least 0\.325 s"
    ):
        lazy_encoder("wav2vec2", folder, window=0.3)


def test_lower_precision_is_close_to_fp32(folder: Path, wavlm: Encoder) -> None:
    found = load_encoder("wav2vec2", folder, device="cpu", precision="bf16").encode(noises())
    assert 0 < distance(found, wavlm.encode(noises())) < 0.05


def test_extraction_does_not_depend_on_processes_and_refuses_pooled_layers(
    folder: Path, wavlm: Encoder, corpus: Corpus, tmp_path: Path
) -> None:
    few = Corpus(corpus.utterances[:6], corpus.root, corpus.name)
    one = extract(few, wavlm, tmp_path / "one.pt", progress=False, num_workers=0)
    many = extract(few, wavlm, tmp_path / "many.pt", progress=False, num_workers=2)
    assert one.features.shape == (6, 512)
    assert torch.equal(one.features, many.features)
    assert torch.equal(extract(few, wavlm, tmp_path / "one.pt", progress=False).features, one.features)
    pooled = load_encoder("wav2vec2", folder, device="cpu", layers="last")
    with pytest.raises(FeaturesError, match=r"layers is .*'xvector' there, '3' here|dim is 512 there, 32 here"):
        extract(few, pooled, tmp_path / "one.pt", progress=False)


def test_digest_is_that_of_what_is_used(folder: Path, wavlm: Encoder, tmp_path: Path) -> None:
    def copy(name: str) -> Path:
        return Path(shutil.copytree(folder, tmp_path / name))

    def digest(path: Path) -> Any:
        return lazy_encoder("wav2vec2", path).spec["weights"]

    others = [
        change_weights(copy("a"), lambda state: state["tdnn.4.kernel.bias"].add_(1)),
        change_weights(copy("b"), lambda state: state["layer_weights"].neg_()),
        change_weights(copy("c"), lambda state: state["feature_extractor.bias"].add_(1)),
        change_config(copy("d"), tdnn_dilation=[1, 3, 3, 1, 1]),
    ]
    assert len({wavlm.spec["weights"], *map(digest, others)}) == 5
    same = change_weights(copy("e"), lambda state: [state.pop("objective.weight"), state["classifier.bias"].add_(1)])
    assert digest(same) == wavlm.spec["weights"]


def write_code(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    torch.save({"x": json.loads}, folder / "pytorch_model.bin")


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "text model": (
        lambda folder: change_config(folder, model_type="bert", architectures=["BertModel"]),
        "this is a model of type 'bert'; expected a speech model: wav2vec2, .*unispeech-sat",
    ),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), "this folder has no weights"),
    "no head": (
        lambda folder: change_weights(
            folder, lambda state: [state.pop(key) for key in list(state) if not key.startswith("wavlm.")]
        ),
        r"the weights lack feature_extractor\.bias \(and \d+ more\).*with an x-vector head",
    ),
    "other dimensions of the head": (
        lambda folder: change_config(folder, tdnn_dim=[512, 512, 512, 512, 1400]),
        r"feature_extractor\.weight has the shape \[512, 3000\] in the weights, but \[512, 2800\] by the settings",
    ),
    "another dimension of the embedding": (
        lambda folder: change_config(folder, xvector_output_dim=256),
        r"feature_extractor\.bias has the shape \[512\] in the weights, but \[256\]",
    ),
    "another width": (lambda folder: change_config(folder, intermediate_size=64), r"has the shape .* but .*64"),
    "lists of other lengths": (
        lambda folder: change_config(folder, tdnn_kernel=[5, 3, 3]),
        r"config\.json: .*tdnn_kernel is \[5, 3, 3\].*expected three lists of the same number of positive whole",
    ),
    "kernel of zero": (lambda folder: change_config(folder, tdnn_kernel=[5, 0, 3, 1, 1]), "expected three lists"),
    "kernel is text": (lambda folder: change_config(folder, tdnn_kernel="5"), "expected three lists"),
    "a head that this family does not have": (
        lambda folder: change_config(folder, model_type="hubert", architectures=["HubertForXVector"]),
        "cannot be loaded",
    ),
    "an adapter": (lambda folder: change_config(folder, add_adapter=True), "x-vector head on an adapter"),
    "no name of the head": (
        lambda folder: change_config(folder, architectures=["WavLMModel"]),
        r"the weights have an x-vector head, but architectures in config\.json names WavLMModel; expected a model",
    ),
    "no architecture": (lambda folder: change_config(folder, architectures=None), "names no model; expected"),
    "NaN": (
        lambda folder: change_weights(folder, lambda state: state["layer_weights"].fill_(torch.nan)),
        "layer_weights in the weights has NaN or infinity",
    ),
    "code": (write_code, "cannot be loaded"),
}


@pytest.mark.parametrize(("damage", "sentence"), BROKEN.values(), ids=BROKEN)
def test_bad_speaker_model_is_refused_in_one_sentence(
    damage: Callable[[Path], object], sentence: str, folder: Path, tmp_path: Path
) -> None:
    broken = Path(shutil.copytree(folder, tmp_path / "model"))
    damage(broken)
    with pytest.raises(EncoderError, match=sentence) as caught:
        lazy_encoder("wav2vec2", broken)
    assert str(caught.value).startswith(str(broken))
    assert "\n" not in str(caught.value)


def test_options_that_do_not_fit_are_refused(folder: Path, speech_model: SaveModel) -> None:
    with pytest.raises(
        EncoderError, match="layers is 'xvector', but this model has no x-vector head; choose all, last"
    ):
        lazy_encoder("wav2vec2", speech_model(), layers="xvector")
    with pytest.raises(EncoderError, match=r"pooling is 'mean\+std', but the x-vector head .* has its own pooling"):
        lazy_encoder("wav2vec2", folder, pooling="mean+std")
    with pytest.raises(EncoderError, match="has an x-vector head, which fine-tuning would leave out"):
        Pretrained.find("wav2vec2", folder)
