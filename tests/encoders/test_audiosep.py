"""`audiosep`: parity with laion-clap and transformers, checkpoint formats, windows, precisions."""

import math
import random
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torchaudio
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from benchmarks.laion_reference import ReferenceClap, repeat_and_pad
from encoders import Encoder, EncoderError, lazy_encoder, load_encoder, spec_differences
from encoders.audiosep import AudioSepOptions

MakeState = Callable[..., dict[str, Tensor]]
RATE = 32_000
TINY: dict[str, Any] = {"width": 96, "depths": (2, 2, 6, 2), "heads": (4, 8, 16, 32), "dim": 512, "n_classes": 527}
BASE: dict[str, Any] = {**TINY, "width": 128, "depths": (2, 2, 12, 2)}


def noise(seconds: float, seed: int = 0) -> Tensor:
    """Make noise of varying level with a rising tone (samples,), so that all parts of a clip differ."""
    generator = torch.Generator().manual_seed(seed)
    time = torch.arange(round(seconds * RATE)) / RATE
    level = (4 * time + seed).sin().abs()
    tone = (2 * torch.pi * (300 * (1 + seed) * time + 50 * time.square())).sin()
    return 0.1 * level * torch.randn(len(time), generator=generator) + 0.3 * tone


def save(state: dict[str, Tensor], path: Path, layout: str = "module.") -> Path:
    """Write a checkpoint in one of the layouts of published files."""
    prefixed = {f"query_encoder.model.{name}": tensor for name, tensor in state.items()}
    if layout == "safetensors":
        from safetensors.torch import save_file

        save_file({f"module.{name}": tensor.contiguous() for name, tensor in state.items()}, path)
        return path
    contents: dict[str, dict[str, Any]] = {
        "bare": state,
        "state_dict": {"state_dict": state},
        "module.": {"epoch": 15, "state_dict": {f"module.{name}": tensor for name, tensor in state.items()}},
        "lightning": {
            "epoch": 3,
            "global_step": 4_000_000,
            "pytorch-lightning_version": "2.0.0",
            "state_dict": {**prefixed, "ss_model.base.bn0.weight": torch.ones(2)},
            "callbacks": {},
            "optimizer_states": [{"param_groups": [{"lr": 1e-3}]}],
        },
        "bin": {**prefixed, "ss_model.base.bn0.weight": torch.ones(2)},
    }
    torch.save(contents[layout], path)
    return path


@pytest.mark.parametrize("sizes", [TINY, BASE], ids=["tiny", "base"])
def test_embeddings_equal_those_of_laion_clap(sizes: dict[str, Any], clap_state: MakeState, tmp_path: Path) -> None:
    state = clap_state(**sizes, scale=0.05)
    encoder = load_encoder("audiosep", save(state, tmp_path / "clap.pt"), device="cpu")
    reference = ReferenceClap(**sizes)
    reference.load_state_dict(state)
    waveforms = [noise(seconds, seed) for seed, seconds in enumerate((0.3, 3.0, 10.0, 12.0))]
    embeddings = encoder.encode(waveforms)
    assert embeddings.shape == (4, 512)
    clips = [repeat_and_pad(torchaudio.functional.resample(waveform, RATE, 48_000)) for waveform in waveforms]
    with torch.no_grad():
        expected = reference(torch.stack(clips))
    assert (embeddings - expected).norm(dim=1).max() <= 1e-5  # the vectors have unit length
    # The tolerance is smaller than the distances between different clips.
    assert torch.pdist(embeddings).min() > 1e-3


def test_embeddings_equal_those_of_transformers(clap_state: MakeState, tmp_path: Path) -> None:
    from transformers import ClapAudioConfig, ClapAudioModelWithProjection

    state = clap_state(**TINY)
    encoder = load_encoder("audiosep", save(state, tmp_path / "clap.pt"), device="cpu")
    config = ClapAudioConfig(
        patch_embeds_hidden_size=96, depths=[2, 2, 6, 2], enable_fusion=False, hidden_size=768, projection_dim=512
    )
    model: Any = ClapAudioModelWithProjection(config)
    model.eval()
    loaded = model.load_state_dict(as_transformers(state), strict=False)
    assert not loaded.unexpected_keys
    assert not [key for key in loaded.missing_keys if "relative_position_index" not in key]
    clip = torchaudio.functional.resample(noise(10.0), RATE, 48_000)
    log_mel = encoder.tower.log_mel(clip[None])  # type: ignore[operator,union-attr]
    with torch.no_grad():
        expected = model(input_features=log_mel, is_longer=torch.zeros(1, 1, dtype=torch.bool)).audio_embeds[0]
    expected = expected / expected.norm()  # transformers does not normalise `audio_embeds`
    assert (encoder.encode([noise(10.0)])[0] - expected).abs().max() <= 1e-5


def as_transformers(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename the weights as the conversion script of transformers does."""
    names = [
        ("audio_branch.", "audio_model.audio_encoder."),
        (".attn.proj.", ".attention.output.dense."),
        (".attn.", ".attention.self."),
        (".mlp.fc1.", ".intermediate.dense."),
        (".mlp.fc2.", ".output.dense."),
        (".norm1.", ".layernorm_before."),
        (".norm2.", ".layernorm_after."),
        (".bn0.", ".batch_norm."),
        ("audio_projection.0.", "audio_projection.linear1."),
        ("audio_projection.2.", "audio_projection.linear2."),
    ]
    renamed = {}
    for name, tensor in state.items():
        if re.search("extractor|tscam|branch.head|attn_mask|relative_position_index", name):
            continue
        for old, new in names:
            name = name.replace(old, new)
        if ".qkv." in name:
            for part, third in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
                renamed[name.replace("qkv", part)] = third
        else:
            renamed[name] = tensor
    return renamed


def test_only_the_network_is_imported_and_nothing_is_downloaded(
    clap_weights: Path, run_python: Callable[[str], str], tmp_path: Path
) -> None:
    printed = run_python(
        f"""
import socket, sys
def refuse(*_, **__): raise AssertionError("a connection was opened")
socket.socket.connect = socket.getaddrinfo = refuse
before = list(sys.path)
import torch
from encoders import load_encoder
state = torch.get_rng_state()
encoder = load_encoder("audiosep", {str(clap_weights)!r}, device="cpu")
assert encoder.encode([torch.randn(9000, generator=torch.Generator().manual_seed(0))]).isfinite().all()
assert torch.equal(state, torch.get_rng_state()), "random numbers were drawn"
assert sys.path == before
print(sorted({{"laion_clap", "transformers", "tokenizers", "torchlibrosa", "librosa"}} & set(sys.modules)))
"""
    )
    assert printed.split() == ["[]"]


LENGTHS = st.lists(st.integers(1, 30_000), min_size=1, max_size=4)


@settings(max_examples=8, deadline=None)
@given(lengths=LENGTHS, batch_size=st.integers(2, 4))
def test_batching_does_not_change_embeddings(audiosep: Encoder, lengths: list[int], batch_size: int) -> None:
    waveforms = [noise(length / RATE, seed) for seed, length in enumerate(lengths)]
    alone = torch.cat([audiosep.encode([waveform]) for waveform in waveforms])
    batched = audiosep.encode(waveforms, batch_size=batch_size)
    assert ((batched - alone).norm(dim=1) <= 1e-4 * alone.norm(dim=1)).all()


def test_encoding_is_deterministic_and_draws_no_random_numbers(audiosep: Encoder) -> None:
    waveforms = [noise(0.4), noise(11.0)]
    first = audiosep.encode(waveforms)
    for library in (torch.manual_seed, np.random.seed, random.seed):
        library(5)
    state = torch.get_rng_state()
    assert torch.equal(audiosep.encode(waveforms), first)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.allclose(first.norm(dim=1), torch.ones(2))


def test_short_clip_is_repeated_whole_times_and_padded(audiosep: Encoder) -> None:
    clip = noise(3.0)  # three times in 10 s, and 1 s of zeros
    repeated = torch.cat([clip, clip, clip, torch.zeros(RATE)])
    embedded, expected, padded = audiosep.encode([clip, repeated, torch.cat([clip, torch.zeros(7 * RATE)])])
    # Only nearly equal: at the joins, the resampling of `repeated` uses samples of the next copy.
    assert (embedded - expected).norm() < 1e-2 * (padded - expected).norm()


def test_only_first_ten_seconds_of_long_clip_are_used(audiosep: Encoder) -> None:
    clip = noise(14.0)
    whole, first, last = audiosep.encode([clip, clip[: 10 * RATE], clip[-10 * RATE :]])
    assert (whole - first).norm() < 1e-2 * (last - first).norm()
    with_other_end = torch.cat([clip[: 11 * RATE], noise(3.0, 5)])
    assert torch.equal(audiosep.encode([with_other_end])[0], whole)


def windowed(clap_weights: Path, **options: Any) -> Encoder:
    return load_encoder("audiosep", clap_weights, device="cpu", **options)


def test_average_of_windows_has_unit_length(audiosep: Encoder, clap_weights: Path) -> None:
    clip = noise(2.7)
    encoder = windowed(clap_weights, window=1.0, hop=0.5)
    starts = [0.0, 0.5, 1.0, 1.5, 1.7]
    windows = audiosep.encode([clip[round(start * RATE) :][:RATE] for start in starts])
    expected = windows.mean(0) / windows.mean(0).norm()
    torch.testing.assert_close(encoder.encode([clip])[0], expected)
    mixed = encoder.encode([clip[:9000], clip, clip[:RATE]])
    torch.testing.assert_close(mixed[1], expected)
    torch.testing.assert_close(mixed[[0, 2]], audiosep.encode([clip[:9000], clip[:RATE]]))


def test_silent_windows_are_left_out(audiosep: Encoder, clap_weights: Path) -> None:
    encoder = windowed(clap_weights, window=1.0, hop=1.0)
    clip = torch.cat([noise(1.0), torch.zeros(2 * RATE)])
    torch.testing.assert_close(encoder.encode([clip])[0], audiosep.encode([clip[:RATE]])[0])
    assert encoder.encode([torch.zeros(3 * RATE)]).isfinite().all()


INVALID_WINDOWS: list[tuple[dict[str, Any], str]] = [
    ({"hop": 5}, "hop is 5 s, but window is not set"),
    ({"window": 5, "hop": 6}, r"hop is 6 s; expected at least 0.0125 s and at most the window, 5 s"),
    ({"window": 1e-5}, r"window is 1e-05 s; expected 0.025 to 10 s"),
    ({"window": 11}, r"window is 11 s; expected 0.025 to 10 s"),
    ({"window": 5, "hop": 0}, r"hop is 0 s; expected at least"),
    ({"window": "5"}, r"has window='5'; expected a number or none"),
]


@pytest.mark.parametrize(("options", "sentence"), INVALID_WINDOWS)
def test_invalid_windows_are_refused(clap_weights: Path, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(EncoderError, match=sentence):
        lazy_encoder("audiosep", clap_weights, **options)


def test_window_options_refuse_text() -> None:
    with pytest.raises(EncoderError, match="hop is '5'; expected a number of seconds"):
        AudioSepOptions(window=5, hop="5")  # type: ignore[arg-type]


def test_windows_and_weights_are_part_of_the_spec(clap_weights: Path, clap_state: MakeState, tmp_path: Path) -> None:
    spec = lazy_encoder("clap", clap_weights).spec
    assert spec["name"] == "audiosep"
    assert spec["sample_rate"] == RATE
    assert spec["dim"] == 24
    assert spec["options"] == {"window": None, "hop": None}
    assert re.fullmatch("[0-9a-f]{64}", spec["weights"])
    assert lazy_encoder("clap", clap_weights, window=4).spec["options"] == {"window": 4, "hop": 2}
    other = save(clap_state(seed=1), tmp_path / "other.pt")
    assert lazy_encoder("clap", other).spec["weights"] != spec["weights"]


@pytest.mark.parametrize(
    ("layout", "suffix"),
    [
        ("bare", "pt"),
        ("state_dict", "pt"),
        ("module.", "pt"),
        ("lightning", "ckpt"),
        ("bin", "bin"),
        ("safetensors", "safetensors"),
    ],
)
def test_all_checkpoint_formats_give_the_same_encoder(
    layout: str, suffix: str, clap_state: MakeState, audiosep: Encoder, tmp_path: Path
) -> None:
    path = save(clap_state(), tmp_path / f"clap.{suffix}", layout)
    encoder = load_encoder("audiosep", path, device="cpu")
    assert spec_differences(encoder.spec, audiosep.spec) == []
    assert torch.equal(encoder.encode([noise(0.5)]), audiosep.encode([noise(0.5)]))


def test_computed_buffers_may_be_missing_in_checkpoint(
    clap_state: MakeState, audiosep: Encoder, tmp_path: Path
) -> None:
    state = {
        name: tensor
        for name, tensor in clap_state().items()
        if not name.endswith(("relative_position_index", "attn_mask", "num_batches_tracked"))
    }
    encoder = load_encoder("audiosep", save(state, tmp_path / "clap.pt"), device="cpu")
    assert spec_differences(encoder.spec, audiosep.spec) == []
    assert torch.equal(encoder.encode([noise(0.5)]), audiosep.encode([noise(0.5)]))


def test_half_precision_weights_are_converted_to_fp32(clap_state: MakeState, tmp_path: Path) -> None:
    state = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in clap_state().items()}
    encoder = load_encoder("audiosep", save(state, tmp_path / "clap.pt"), device="cpu")
    assert all(parameter.dtype == torch.float32 for parameter in encoder.parameters())


@pytest.mark.parametrize("sizes", [{}, {"width": 32}, {"depths": (2, 1, 3, 1)}, {"heads": (2, 4, 4, 8)}, {"dim": 40}])
def test_network_size_is_read_from_tensor_shapes(sizes: dict[str, Any], clap_state: MakeState, tmp_path: Path) -> None:
    encoder = load_encoder("audiosep", save(clap_state(**sizes), tmp_path / "clap.pt"), device="cpu")
    assert encoder.encode([noise(0.2)]).shape == (1, sizes.get("dim", 24))


def test_spectrogram_and_classifier_are_not_needed(audiosep: Encoder, clap_state: MakeState, tmp_path: Path) -> None:
    unused = re.compile(
        r"spectrogram_extractor|tscam_conv|head\.|attn_mask|relative_position_index|num_batches_tracked"
    )
    state = {name: tensor for name, tensor in clap_state().items() if not unused.search(name)}
    assert len(state) < len(clap_state())
    encoder = load_encoder("audiosep", save(state, tmp_path / "clap.pt"), device="cpu")
    assert torch.equal(encoder.encode([noise(0.5)]), audiosep.encode([noise(0.5)]))


QKV = "audio_branch.layers.0.blocks.0.attn.qkv.weight"
TABLE = "audio_branch.layers.1.blocks.0.attn.relative_position_bias_table"
# Changes to a valid state dict; None removes the entry.
CHANGES: dict[str, dict[str, Any]] = {
    "missing key": {"audio_branch.norm.weight": None},
    "missing projection": {"audio_projection.2.bias": None},
    "extra key": {"audio_branch.layers.0.blocks.0.attn.gate": torch.ones(2)},
    "wrong shape": {QKV: torch.ones(96, 32)},
    "invalid number of heads": {TABLE: torch.ones(225, 3)},
    "invalid block number": {"audio_branch.layers.0.blocks.x.attn.gate": torch.ones(2)},
    "large block number": {"audio_branch.layers.0.blocks.1000000000.attn.gate": torch.ones(2)},
    "unknown buffer": {"audio_branch.foo.attn_mask": torch.ones(2)},
    "other spectrogram": {"audio_branch.spectrogram_extractor.stft.conv_real.weight": torch.ones(1025, 1, 2048)},
    "absurd size": {"audio_projection.2.bias": torch.ones(2_000_000)},
    "no copy": {QKV: torch.ones(48, 16).to_sparse()},
    "fusion": {"audio_branch.patch_embed.mel_conv2d.weight": torch.ones(2)},
    "not a tensor": {"audio_branch.norm.weight": "text"},
}
# Contents that replace the state dict.
CONTENTS: dict[str, Any] = {
    "not clap": {"encoder.weight": torch.ones(2)},
    "list": [1, 2],
    "code": {"state_dict": {}, "hyper_parameters": SimpleNamespace(a=1)},
}


def write_broken(kind: str, state: dict[str, Any], path: Path) -> None:
    """Write a checkpoint with one fault."""
    if kind in CONTENTS:
        torch.save(CONTENTS[kind], path)
        return
    changed = {**state, **CHANGES.get(kind, {})}
    save({name: tensor for name, tensor in changed.items() if tensor is not None}, path)
    if kind == "truncated":
        path.write_bytes(path.read_bytes()[:-5000])
    if kind == "text":
        path.write_text("version https://git-lfs.github.com/spec/v1\n" * 20)
    if kind == "empty":
        path.write_bytes(b"")


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("missing key", r"audio_branch\.norm\.weight is missing"),
        ("missing projection", r"audio_projection\.2\.bias is missing"),
        ("extra key", r"attn\.gate is not part of the network"),
        ("wrong shape", r"qkv\.weight has the shape \(96, 32\); expected \(48, 16\)"),
        ("invalid number of heads", r"no HTSAT network has 16 channels, \[1, 3, 2, 2\] heads"),
        ("unknown buffer", r"foo\.attn_mask is not part of the network"),
        ("other spectrogram", r"conv_real\.weight has the shape \(1025, 1, 2048\); expected \(513, 1, 1024\)"),
        ("absurd size", r"audio_projection\.0\.weight is of shape \(24, 128\); expected \(2000000, 128\)"),
        ("no copy", r"its tensors cannot be loaded \(.+\)"),
        ("invalid block number", r"is missing|is not part of the network"),
        ("large block number", r"is missing|is not part of the network"),
        ("fusion", "feature fusion"),
        ("not a tensor", r"norm\.weight is a str"),
        ("not clap", "it has no audio_branch"),
        ("text", "this is not a CLAP checkpoint"),
        ("empty", "this is not a CLAP checkpoint"),
        ("truncated", "cut off"),
        ("list", "holds a list"),
        ("code", "SimpleNamespace, which is never loaded"),
    ],
)
def test_bad_checkpoint_is_refused_in_one_sentence(
    kind: str, sentence: str, clap_state: MakeState, tmp_path: Path
) -> None:
    path = tmp_path / "clap.pt"
    write_broken(kind, clap_state(), path)
    with pytest.raises(EncoderError, match=sentence) as caught:
        lazy_encoder("audiosep", path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"text", b"\xff" * 100])
def test_bad_safetensors_file_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "clap.safetensors"
    path.write_bytes(content)
    with pytest.raises(EncoderError, match=r"clap\.safetensors: this is not a CLAP checkpoint"):
        lazy_encoder("audiosep", path)


def test_lower_precisions_are_recorded_and_close_to_fp32(audiosep: Encoder, clap_weights: Path) -> None:
    waveforms = [noise(1.0, seed) for seed in range(4)]
    exact = audiosep.encode(waveforms)
    assert audiosep.spec["precision"] == "fp32"
    for precision in ("bf16", "fp16"):
        encoder = load_encoder("audiosep", clap_weights, device="cpu", precision=precision)
        assert encoder.spec == {**audiosep.spec, "precision": precision}
        embeddings = encoder.encode(waveforms)
        assert embeddings.dtype == torch.float32
        distance = (embeddings - exact).norm(dim=1).max()
        assert 0 < distance < 0.03, precision  # the vectors have unit length
        assert torch.equal(embeddings, encoder.encode(waveforms))


def test_unknown_precision_is_refused_before_weights_are_read() -> None:
    with pytest.raises(EncoderError, match=r"fp8.*auto, fp32, bf16, fp16"):
        lazy_encoder("audiosep", "absent.pt", precision="fp8")


def test_spectrogram_equals_that_of_laion_clap(audiosep: Encoder, clap_state: MakeState) -> None:
    network = ReferenceClap(16, depths=(1, 2, 1, 1), heads=(1, 2, 2, 2)).audio_branch
    clips = torch.stack([torchaudio.functional.resample(noise(10.0, seed), RATE, 48_000) for seed in range(2)])
    expected = network.logmel_extractor(network.spectrogram_extractor(clips))
    found = audiosep.tower.log_mel(clips)  # type: ignore[operator,union-attr]
    assert found.shape == expected.shape == (2, 1, 1001, 64)
    assert (found - expected).abs().max() < 2e-3  # dB
    assert math.isclose(float(found.mean()), float(expected.mean()), abs_tol=1e-4)
