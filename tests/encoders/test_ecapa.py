"""`ecapa`: parity with SpeechBrain, padded batches, long, short and silent recordings, and weights that are refused."""

import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from encoders import Encoder, EncoderError, default_spec, encoder_from_spec, lazy_encoder, load_encoder
from encoders.ecapa import DEFAULT_WEIGHTS
from encoders.training_corpora import DIGESTS
from networks import ECAPATDNN, SpeechBrainFbank

RATE = 16_000
MakeState = Callable[..., dict[str, Tensor]]
SMALL = {"channels": 32, "pooled_channels": 48, "dim": 24, "attention_channels": 16, "gate_channels": 8}
# 0.04 s makes the minimum of 5 frames.
SECONDS = [2.1, 0.1, 3.0, 1.0, 0.04, 0.5]


@pytest.fixture(scope="module")
def ecapa(ecapa_weights: Path) -> Encoder:
    return load_encoder("ecapa", ecapa_weights, device="cpu")


def noises(seconds: list[float]) -> list[Tensor]:
    """Make noises with slowly varying levels and a silent passage, one for each length."""
    generator = torch.Generator().manual_seed(0)
    waves = []
    for length in seconds:
        noise = torch.randn(round(length * RATE), generator=generator)
        envelope = torch.sin(torch.arange(len(noise)) / 1_000 * (1 + length)) + 1.1
        wave = 0.05 * envelope * noise
        wave[len(wave) // 2 : len(wave) * 3 // 5] *= 1e-5  # below the limit of 80 dB
        waves.append(wave)
    return waves


def speechbrain_classifier(state: dict[str, Tensor]) -> Any:
    """Build the classifier of SpeechBrain that `from_hparams` makes of the published hyperparams.yaml."""
    from speechbrain.inference.classifiers import EncoderClassifier
    from speechbrain.lobes.features import Fbank
    from speechbrain.lobes.models.ECAPA_TDNN import ECAPA_TDNN
    from speechbrain.processing.features import InputNormalization
    from speechbrain.utils.importutils import LazyModule

    # Reading any attribute of SpeechBrain's lazy modules imports a package that may not be installed; hypothesis reads
    # attributes of all modules.
    for name, module in list(sys.modules.items()):
        if isinstance(module, LazyModule):
            del sys.modules[name]
    network = ECAPA_TDNN(80, channels=[1024, 1024, 1024, 1024, 3072], lin_neurons=192, attention_channels=128)
    network.load_state_dict(state)
    modules = {
        "compute_features": Fbank(n_mels=80),
        "mean_var_norm": InputNormalization(norm_type="sentence", std_norm=False),
        "embedding_model": network,
        "classifier": torch.nn.Identity(),
    }
    return EncoderClassifier(modules=modules, hparams={}, run_opts={"device": "cpu"})


def distances(found: Tensor, expected: Tensor) -> Tensor:
    """Return the distance of each vector from the expected one, relative to the length of the latter."""
    relative: Tensor = (found - expected).norm(dim=1) / expected.norm(dim=1)
    return relative


def test_vectors_are_those_of_speechbrain_one_at_a_time(ecapa: Encoder, ecapa_state: MakeState) -> None:
    peer, waveforms = speechbrain_classifier(ecapa_state()), noises(SECONDS)
    with torch.inference_mode():
        expected = torch.cat([peer.encode_batch(wave)[0] for wave in waveforms])
    assert distances(ecapa.encode(waveforms), expected).max() < 2e-5
    for batch_size in (3, len(waveforms)):
        assert distances(ecapa.encode(waveforms, batch_size=batch_size), expected).max() < 2e-5
    # The tolerance is far below the distance between different waveforms.
    assert distances(expected[:1], expected[2:3]).min() > 1e-2


def test_vectors_are_those_of_speechbrain_with_lengths(ecapa_state: MakeState, tmp_path: Path) -> None:
    """SpeechBrain's means, gates and attention use the lengths, but its convolutions read the padding.

    So in its batches, vectors are exact for the longest recordings, and for all if convolutions have a single tap.
    """
    waveforms = noises([2.0, 1.0, 1.5, 2.0])
    batch, lengths = pad_sequence(waveforms, batch_first=True), torch.tensor([len(wave) for wave in waveforms])
    state = ecapa_state()
    one_tap = {name: _only_middle_tap(tensor) if tensor.ndim == 3 else tensor for name, tensor in state.items()}
    for number, weights in enumerate((state, one_tap)):
        peer = speechbrain_classifier(weights)
        with torch.inference_mode():
            expected = peer.encode_batch(batch, lengths / lengths.max())[:, 0]
        torch.save(weights, tmp_path / f"{number}.ckpt")
        encoder = load_encoder("ecapa", tmp_path / f"{number}.ckpt", device="cpu")
        found = distances(encoder.encode(waveforms, batch_size=4), expected)
        rows = [0, 3] if weights is state else [0, 1, 2, 3]
        assert found[rows].max() < 2e-5
        if weights is state:
            assert found[[1, 2]].min() > 1e-2


def _only_middle_tap(weight: Tensor) -> Tensor:
    kept = torch.zeros_like(weight)
    kept[..., weight.shape[2] // 2] = weight[..., weight.shape[2] // 2]
    return kept


def test_front_end_is_that_of_speechbrain_for_padded_batches() -> None:
    from speechbrain.lobes.features import Fbank
    from speechbrain.processing.features import InputNormalization

    waveforms = [*noises([1.0, 0.3]), torch.cat([torch.zeros(RATE // 2), *noises([0.4])])]
    fbank, norm = Fbank(n_mels=80), InputNormalization(norm_type="sentence", std_norm=False)
    lengths = torch.tensor([len(wave) for wave in waveforms])
    frames, n_frames = SpeechBrainFbank()(pad_sequence(waveforms, batch_first=True), lengths)
    for wave, found, length in zip(waveforms, frames, n_frames.tolist(), strict=True):
        expected = norm(fbank(wave[None]), torch.ones(1))[0]
        assert length == len(expected)
        assert (found[:length] - expected).abs().max() < 1e-3  # decibels
        assert not found[length:].any()


def test_network_without_packed_weights_gives_the_same_vectors(ecapa_state: MakeState) -> None:
    network = ECAPATDNN(**SMALL).eval()
    network.load_state_dict(ecapa_state(**SMALL))
    frames, n_frames = torch.randn(2, 40, 80, generator=torch.Generator().manual_seed(0)), torch.tensor([40, 21])
    found = network(frames, n_frames)
    packed = ECAPATDNN.from_state(ecapa_state(**SMALL))(frames, n_frames)
    assert distances(packed, found).max() < 1e-5
    found.sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in network.parameters() if parameter.grad is not None)
    assert sum(parameter.grad is not None for parameter in network.parameters()) == len(list(network.parameters()))


def test_padding_does_not_change_vectors(ecapa: Encoder) -> None:
    waveforms = noises([2.0, 0.04, 0.6])
    alone = ecapa.encode(waveforms)
    lengths = torch.tensor([len(wave) for wave in waveforms])
    padded = torch.nn.functional.pad(pad_sequence(waveforms, batch_first=True), (0, RATE))
    with torch.inference_mode():
        assert distances(ecapa(padded, lengths), alone).max() < 1e-5
    assert torch.equal(ecapa.encode(waveforms), alone)
    assert torch.equal(ecapa.encode(waveforms[::-1]).flip(0), alone)


def test_sizes_follow_from_the_checkpoint(ecapa_state: MakeState, tmp_path: Path) -> None:
    torch.save(ecapa_state(**SMALL, scale=4), tmp_path / "small.ckpt")
    encoder = load_encoder("ecapa", tmp_path / "small.ckpt", device="cpu")
    assert encoder.encode(noises([1.0])).shape == (1, 24)
    halves = {name: tensor.half() for name, tensor in ecapa_state(**SMALL, scale=4).items()}
    torch.save(halves, tmp_path / "half.ckpt")
    found = load_encoder("ecapa", tmp_path / "half.ckpt", device="cpu").encode(noises([1.0]))
    assert 0 < distances(found, encoder.encode(noises([1.0]))).max() < 0.05


def test_file_folder_and_id_give_the_same_encoder(
    ecapa_state: MakeState, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert default_spec("ecapa") is None
    folder = tmp_path / "pretrained_models" / DEFAULT_WEIGHTS
    folder.mkdir(parents=True)
    torch.save(ecapa_state(**SMALL), folder / "embedding_model.ckpt")
    # The settings name classes to build, and are not read.
    (folder / "hyperparams.yaml").write_text("embedding_model: !!python/object/apply:sys.exit [1]\n")
    by_default = lazy_encoder("ecapa").spec
    assert by_default["source"] == DEFAULT_WEIGHTS
    assert by_default["trained_on"] == ["voxceleb1", "voxceleb2"]
    assert lazy_encoder("ecapa", DEFAULT_WEIGHTS).spec == default_spec("ecapa") == by_default
    for place in (folder, folder / "embedding_model.ckpt"):
        assert lazy_encoder("ecapa", place).spec == {**by_default, "source": None}
    assert encoder_from_spec(by_default).spec == by_default
    (folder / "embedding_model.ckpt").rename(tmp_path / "moved.ckpt")
    with pytest.raises(EncoderError, match=r"embedding_model\.ckpt \(about 83 MB\), are not on this machine.*HF_HUB_"):
        encoder_from_spec(by_default)
    with pytest.raises(EncoderError, match=f"the folder pretrained_models/{DEFAULT_WEIGHTS}/"):
        lazy_encoder("ecapa")


def test_published_file_names_its_training_corpora(ecapa_state: MakeState, monkeypatch: pytest.MonkeyPatch,
                                                   tmp_path: Path) -> None:  # fmt: skip
    import hashlib

    path = tmp_path / "published.ckpt"
    torch.save(ecapa_state(**SMALL), path)
    assert lazy_encoder("ecapa", path).spec["trained_on"] == "unknown"
    copy = tmp_path / "copy.ckpt"
    copy.write_bytes(path.read_bytes())
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setitem(DIGESTS, digest, ("voxceleb1",))
    assert lazy_encoder("ecapa", copy).spec["trained_on"] == ["voxceleb1"]


def test_recordings_above_90_s_are_the_average_of_pieces(ecapa_state: MakeState, tmp_path: Path) -> None:
    torch.save(ecapa_state(**SMALL), tmp_path / "small.ckpt")
    encoder, [long] = load_encoder("ecapa", tmp_path / "small.ckpt", device="cpu"), noises([94.0])
    pieces = [long[start * RATE : (start + 10) * RATE] for start in (*range(0, 90, 10), 84)]
    assert torch.equal(encoder.encode([long])[0], encoder.encode(pieces).mean(0))
    windowed = load_encoder("ecapa", tmp_path / "small.ckpt", device="cpu", window=2.0, hop=1.0)
    expected = encoder.encode([long[start * RATE : (start + 2) * RATE] for start in range(3)]).mean(0)
    assert torch.allclose(windowed.encode([long[: 4 * RATE]])[0], expected, atol=1e-6)


@pytest.mark.parametrize(
    ("waveform", "message"),
    [
        (torch.ones(639), "Waveform 0 has 639 samples; the encoder 'ecapa' needs at least 640"),
        (torch.zeros(RATE), "Waveform 0 is digital silence"),
        (torch.full((RATE,), 0.2), "Waveform 0 is digital silence: all of its samples are 0.2"),
    ],
)
def test_unusable_waveforms_are_refused(waveform: Tensor, message: str, ecapa: Encoder) -> None:
    with pytest.raises(EncoderError, match=message):
        ecapa.encode([waveform])
    assert ecapa.encode(noises([0.04])).isfinite().all()


FIRST = "blocks.0.conv.conv.weight"
BROKEN: dict[str, tuple[Callable[[Any], object], str]] = {
    "empty": (lambda state: state.clear(), "it has no asp.tdnn.conv.conv.weight.*It holds: nothing"),
    "text model": (
        lambda state: (state.clear(), state.update({"bert.embeddings.word_embeddings.weight": torch.zeros(3, 2)})),
        "so it is not a checkpoint of SpeechBrain's ECAPA-TDNN. It holds: bert.embeddings.word_embeddings.weight",
    ),
    "a layer is missing": (lambda state: state.pop("mfa.conv.conv.weight"), "it has no mfa.conv.conv.weight"),
    "tensors are missing": (
        lambda state: [state.pop(name) for name in list(state) if name.startswith("blocks.2.tdnn1.norm")],
        r"it lacks blocks.2.tdnn1.norm.norm.bias \(and 3 more\)",
    ),
    "another layer": (lambda state: state.update({"asp2.weight": torch.ones(1)}), "it also has asp2.weight"),
    "60 mel bands": (
        lambda state: state.update({FIRST: torch.ones(32, 60, 5)}),
        r"the shape of blocks.0.conv.conv.weight is \(32, 60, 5\); expected \(32, 80, 5\)",
    ),
    "another number of channels": (
        lambda state: state.update({"blocks.0.conv.conv.weight": torch.ones(40, 80, 5)}),
        r"the shape of \S+ is .*; expected \(40",
    ),
    "channels without groups": (
        lambda state: state.update({FIRST: torch.ones(33, 80, 5)}), "channels is 33; expected a multiple of scale, 8"
    ),
    "two axes": (
        lambda state: state.update({FIRST: torch.ones(32, 80)}), r"is \(32, 80\); expected \(outputs, inputs, kernel\)"
    ),
    "attention without context": (
        lambda state: state.update({"asp.tdnn.conv.conv.weight": torch.ones(16, 48, 1)}), r"expected \(16, 144, 1\)"
    ),
    "NaN": (lambda state: state[FIRST].fill_(torch.nan), f"{FIRST} is not a tensor of finite numbers"),
    "negative variance": (
        lambda state: state["asp_bn.norm.running_var"].fill_(-1), r"asp_bn\.norm\.running_var has negative variances"
    ),
    "another type": (
        lambda state: state.update({"fc.conv.bias": torch.zeros(24).to(torch.float8_e4m3fn)}), "fc.conv.bias is not a"
    ),
    "a small file that declares a large tensor": (
        lambda state: state.update({"fc.conv.bias": torch.zeros(1).expand(10**13)}), "fc.conv.bias is not a tensor"
    ),
    "infinite in fp32": (
        lambda state: state.update({"fc.conv.bias": torch.full((24,), 1e200, dtype=torch.float64)}),
        "fc.conv.bias is not a tensor of finite numbers",
    ),
    "a number": (lambda state: state.update({3: torch.zeros(1)}), "3 is not a tensor"),
    "text": (lambda state: state.update({"fc.conv.bias": "text"}), "fc.conv.bias is not a tensor"),
    "code": (lambda state: state.update({"x": logging.getLogger}), "not a checkpoint of SpeechBrain's ECAPA-TDNN"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "message"), BROKEN.values(), ids=BROKEN)
def test_broken_checkpoints_are_refused(
    change: Callable[[dict[str, Any]], object], message: str, ecapa_state: MakeState, tmp_path: Path
) -> None:
    state = ecapa_state(**SMALL)
    change(state)
    torch.save(state, tmp_path / "broken.ckpt")
    with pytest.raises(EncoderError, match=message) as caught:
        lazy_encoder("ecapa", tmp_path / "broken.ckpt", "cpu")
    assert "\n" not in str(caught.value)


def test_replaced_file_is_noticed(ecapa_state: MakeState, tmp_path: Path) -> None:
    path, state = tmp_path / "embedding_model.ckpt", ecapa_state(**SMALL)
    torch.save(state, path)
    lazy = lazy_encoder("ecapa", path, "cpu")
    torch.save({**state, "fc.conv.bias": state["fc.conv.bias"] + 1}, path)
    with pytest.raises(EncoderError, match="have changed since they were last read"):
        lazy.encode(noises([1.0]))


def test_other_files_and_folders_are_refused(
    ecapa_state: MakeState,
    campplus_weights: Path,
    speech_model: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.save(ecapa_state(**SMALL), tmp_path / "whole.ckpt")
    (tmp_path / "cut.ckpt").write_bytes((tmp_path / "whole.ckpt").read_bytes()[:10_000])
    mel_spec = tmp_path / "spkrec-ecapa-voxceleb-mel-spec"
    mel_spec.mkdir()
    torch.save(ecapa_state(**SMALL), mel_spec / "embedding_model.ckpt")
    cases: dict[str | Path, str] = {
        tmp_path / "cut.ckpt": r"cut\.ckpt: this is not a checkpoint .* or it is cut off",
        tmp_path / "absent.ckpt": r"absent\.ckpt: no such file or folder\. Give a checkpoint of SpeechBrain's",
        tmp_path: r"this folder has no embedding_model\.ckpt",
        speech_model(): r"no embedding_model\.ckpt.*; its config\.json is the settings of a model of the Hugging",
        campplus_weights: "it is a checkpoint of a network, for --encoder campplus",
        mel_spec: "takes the mel spectrograms of a vocoder",
        mel_spec / "embedding_model.ckpt": "takes the mel spectrograms of a vocoder",
        "speechbrain/spkrec-ecapa-voxceleb-mel-spec": "takes the mel spectrograms of a vocoder",
        "bert-base": "bert-base: no such file or folder",
        "weights/own.ckpt": "own.ckpt: no such file or folder",
        "google/bert": r"are not on this machine and cannot be downloaded \(HF_HUB_OFFLINE is set\).*google/bert/",
    }
    for weights, message in cases.items():
        with pytest.raises(EncoderError, match=message):
            lazy_encoder("ecapa", weights, "cpu")
    monkeypatch.chdir(mel_spec)
    with pytest.raises(EncoderError, match="takes the mel spectrograms of a vocoder"):
        lazy_encoder("ecapa", "embedding_model.ckpt", "cpu")
    with pytest.raises(EncoderError, match="it is a checkpoint of a network, for --encoder ecapa --encoder_weights"):
        lazy_encoder("campplus", tmp_path / "whole.ckpt", "cpu")
