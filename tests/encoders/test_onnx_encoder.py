"""`onnx`: front ends, fixed and dynamic lengths, parity with torch, and graphs that are refused."""

import io
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor
from torchaudio.compliance.kaldi import fbank

from audio import read_audio
from corpora import Utterance
from embedding import embed_utterances
from encoders import Encoder, EncoderError, encoder_from_spec, lazy_encoder, load_encoder, spec_differences
from files import InputError

RATE = 16_000
SaveGraph = Callable[..., Path]
# Front end -> factor of the samples, and window, as both projects train their networks.
FRONT_ENDS = {"wespeaker": (32_768.0, "hamming"), "3dspeaker": (1.0, "povey")}
# Values at frames 0, 20 and 45 and bands 0, 10, 30, 50 and 79, which kaldi-native-fbank 1.23.0 computed for `chirp`.
GOLDEN = {
    "3dspeaker": [
        [2.2534, 9.4921, -7.1614, 3.7704, -0.4851],
        [-1.3816, -1.6519, -0.5611, 0.5543, -0.4851],
        [-4.4351, -5.0216, -7.1614, -5.6543, -0.4851],
    ],
    "wespeaker": [
        [3.2358, 8.6903, -0.9671, 5.6426, 4.2206],
        [2.9127, 1.1912, 2.2774, 1.2926, 3.7367],
        [-18.6548, -19.5165, -19.7241, -19.2978, -18.6731],
    ],
}


def chirp() -> Tensor:
    """Make 48 frames of a chirp and two tones, of which a part is below the lowest energy that Kaldi keeps."""
    time = torch.arange(7_920, dtype=torch.float64) / RATE
    wave = 0.3 * torch.sin(2 * torch.pi * (200 * time + 1_500 * time**2)) + 0.02 * torch.cos(13_000 * torch.pi * time)
    wave += 0.1 * torch.sin(6_000 * torch.pi * time) * torch.exp(-8 * time)
    wave[6_400:] *= 1e-5
    return wave.float()


def noises(seconds: list[float]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    waves = [0.1 * torch.randn(round(length * RATE), generator=generator) for length in seconds]
    return [wave * torch.linspace(0.1, 1, len(wave)) for wave in waves]


def expected_vector(wave: Tensor, front_end: str) -> Tensor:
    """Compute the vector of the graph of `onnx_file` in torch."""
    factor, window = FRONT_ENDS[front_end]
    frames = fbank(factor * wave[None], num_mel_bins=80, sample_frequency=RATE, dither=0, window_type=window)
    weights = torch.randn(80, 8, generator=torch.Generator().manual_seed(0))
    vector: Tensor = ((frames - frames.mean(0)) @ weights).relu().mean(0)
    return vector


def distance(found: Tensor, expected: Tensor) -> float:
    """Return the largest distance between rows, as a share of the length of the expected row."""
    return float(((found - expected).norm(dim=-1) / expected.norm(dim=-1)).max())


@pytest.mark.parametrize("front_end", GOLDEN)
def test_spectrograms_are_those_of_kaldi(front_end: str, onnx_file: SaveGraph) -> None:
    def return_input(model: Any) -> None:
        del model.graph.node[:]
        model.graph.node.append(helper.make_node("Flatten", ["feats"], ["embs"]))
        model.graph.output[0].CopyFrom(helper.make_tensor_value_info("embs", TensorProto.FLOAT, (1, 48 * 80)))

    path = onnx_file(shape=(1, 48, 80), change=return_input)
    [vector] = load_encoder("onnx", path, device="cpu", front_end=front_end).encode([chirp()])
    found = vector.view(48, 80)[[0, 20, 45]][:, [0, 10, 30, 50, 79]]
    # Two implementations in fp32; the largest differences are at the lowest energies without a scale of 16 bits.
    assert torch.allclose(found, torch.tensor(GOLDEN[front_end]), atol=4e-3 if front_end == "3dspeaker" else 5e-4)


@pytest.mark.parametrize(
    ("metadata", "names", "expected"),
    [
        ({}, ("feats", "embs"), "wespeaker"),
        ({}, ("feature", "embedding"), "3dspeaker"),
        ({}, ("x", "embedding"), "3dspeaker"),
        # Metadata decide, whatever the names are, where they are those of a known front end.
        ({"framework": "pytorch"}, ("feats", "embs"), "wespeaker"),
        ({"framework": "pytorch", "normalize_samples": "1"}, ("feats", "embs"), "3dspeaker"),
        ({"framework": ""}, ("x", "embedding"), "3dspeaker"),
        ({"framework": "wespeaker"}, ("x", "embedding"), "wespeaker"),
        ({"framework": "wespeaker", "normalize_samples": "1"}, ("feats", "embs"), "wespeaker"),
        ({"framework": "3d-speaker"}, ("feats", "embs"), "3dspeaker"),
        ({"normalize_samples": "0"}, ("input", "output"), "wespeaker"),
        ({"normalize_samples": "1"}, ("feats", "embs"), "3dspeaker"),
    ],
)
def test_front_end_follows_from_metadata_then_from_names(
    metadata: dict[str, str], names: tuple[str, str], expected: str, onnx_file: SaveGraph
) -> None:
    sherpa = {"sample_rate": "16000", "output_dim": "8", "language": "Chinese", "feature_normalize_type": "global-mean"}
    encoder = load_encoder("onnx", onnx_file({**sherpa, **metadata} if metadata else {}, names), device="cpu")
    assert encoder.spec["options"]["front_end"] == expected
    # With a silent part, in which the scale of the samples matters.
    wave = torch.cat([torch.zeros(RATE), *noises([1.0])])
    assert distance(encoder.encode([wave])[0], expected_vector(wave, expected)) < 1e-5
    other = "wespeaker" if expected == "3dspeaker" else "3dspeaker"
    assert distance(encoder.encode([wave])[0], expected_vector(wave, other)) > 1e-2
    assert encoder_from_spec(encoder.spec, onnx_file({}, names), "cpu").spec == encoder.spec


@pytest.mark.parametrize("metadata", [{}, {"framework": "speechbrain"}, {"normalize_samples": "yes"}])
def test_unknown_front_end_is_asked_for(metadata: dict[str, str], onnx_file: SaveGraph) -> None:
    path = onnx_file(metadata, ("input", "output"))
    with pytest.raises(EncoderError, match=r"'input' and 'output', show.* --encoder_options front_end=wespeaker or "):
        lazy_encoder("onnx", path, "cpu")
    [wave], encoder = noises([1.0]), load_encoder("onnx", path, device="cpu", front_end="wespeaker")
    assert distance(encoder.encode([wave])[0], expected_vector(wave, "wespeaker")) < 1e-5


def test_batches_threads_and_repetitions_do_not_change_vectors(onnx_file: SaveGraph) -> None:
    encoder, waves = load_encoder("onnx", onnx_file(), device="cpu"), noises([1.0, 3.2, 1.0, 2.1, 1.5])
    expected, n_threads = torch.cat([encoder.encode([wave]) for wave in waves]), torch.get_num_threads()
    try:
        for number in (1, 3):
            torch.set_num_threads(number)
            for batch_size in (None, 1, 2, 5):
                assert torch.equal(encoder.encode(waves, batch_size), expected)
    finally:
        torch.set_num_threads(n_threads)


def test_long_recordings_and_windows_are_averages(onnx_file: SaveGraph) -> None:
    encoder, [long] = load_encoder("onnx", onnx_file(), device="cpu"), noises([94.0])
    pieces = [long[start * RATE : (start + 10) * RATE] for start in (*range(0, 90, 10), 84)]
    assert torch.equal(encoder.encode([long])[0], encoder.encode(pieces).mean(0))
    windowed = load_encoder("onnx", onnx_file(), device="cpu", window=2.0, hop=1.0)
    windows = encoder.encode([long[start * RATE : (start + 2) * RATE] for start in range(3)])
    assert torch.allclose(windowed.encode([long[: 4 * RATE]])[0], windows.mean(0), atol=1e-6)


FIXED = 400 + 99 * 160  # samples of 100 frames


def test_fixed_number_of_frames_means_pieces_of_that_length(
    onnx_file: SaveGraph, write_audio: Callable[..., Path], tmp_path: Path
) -> None:
    path = onnx_file(shape=(1, 100, 80))
    encoder, [wave] = load_encoder("onnx", path, device="cpu"), noises([2.5])
    starts = [0, FIXED, len(wave) - FIXED]
    pieces = torch.stack([expected_vector(wave[start : start + FIXED], "wespeaker") for start in starts])
    assert distance(encoder.encode([wave])[0], pieces.mean(0)) < 1e-5
    assert distance(encoder.encode([wave[:FIXED]])[0], pieces[0]) < 1e-5
    # A shorter recording is repeated.
    short = wave[: FIXED // 2 - 1]
    repeated = torch.cat([short, short, short[:2]])
    assert distance(encoder.encode([short])[0], expected_vector(repeated, "wespeaker")) < 1e-5
    # Files are cut in the same way, when they are read.
    recording = write_audio(tmp_path / "a.wav", 2.5, subtype="FLOAT")
    [row] = embed_utterances([Utterance(recording, "a", "")], encoder)
    assert row.vector is not None
    assert torch.equal(row.vector, encoder.encode([read_audio(recording, RATE)])[0])


def test_window_of_a_fixed_graph_is_the_length_of_the_graph(onnx_file: SaveGraph) -> None:
    path = onnx_file(shape=(1, 100, 80))
    with pytest.raises(EncoderError, match=r"window is 2 s; its graph takes 100 frames, which is 1\.015 s"):
        lazy_encoder("onnx", path, "cpu", window=2.0)
    encoder, [wave] = load_encoder("onnx", path, device="cpu", window=1.015, hop=0.5), noises([1.6])
    starts = [0, RATE // 2, len(wave) - FIXED]
    pieces = torch.stack([expected_vector(wave[start : start + FIXED], "wespeaker") for start in starts])
    assert distance(encoder.encode([wave])[0], pieces.mean(0)) < 1e-5


def add_convolution(model: Any) -> None:
    """Put a convolution of 61 frames before the mean over time."""
    model.graph.initializer.append(numpy_helper.from_array(torch.ones(8, 8, 61).numpy() / 61, "kernel"))
    del model.graph.node[2:]
    model.graph.node.extend(
        [
            helper.make_node("Transpose", ["active"], ["channels"], perm=[0, 2, 1]),
            helper.make_node("Conv", ["channels", "kernel"], ["wide"]),
            helper.make_node("ReduceMean", ["wide"], ["embs"], axes=[2], keepdims=0),
        ]
    )


def test_minimum_length_is_that_of_the_graph(onnx_file: SaveGraph, tmp_path: Path) -> None:
    encoder = load_encoder("onnx", onnx_file(change=add_convolution), device="cpu")
    least = 400 + 60 * 160
    assert encoder.spec["min_seconds"] * RATE == least
    [wave] = noises([1.0])
    assert encoder.encode([wave[:least]]).isfinite().all()
    with pytest.raises(EncoderError, match=f"needs at least {least}"):
        encoder.encode([wave[: least - 1]])
    with pytest.raises(EncoderError, match=r"window is 0\.6 s; its graph needs at least 0\.625 s"):
        load_encoder("onnx", onnx_file(change=add_convolution), device="cpu", window=0.6)
    # Without convolutions it is three frames.
    assert load_encoder("onnx", onnx_file(), device="cpu").spec["min_seconds"] * RATE == 720
    with pytest.raises(EncoderError, match="digital silence"):
        encoder.encode([torch.zeros(RATE)])


def test_3d_speakers_own_export_has_the_vectors_of_campplus(
    campplus_weights: Path, campplus: Encoder, tmp_path: Path
) -> None:
    from speakerlab.models.campplus.DTDNN import CAMPPlus

    network = CAMPPlus(embedding_size=192).eval()
    network.load_state_dict(torch.load(campplus_weights, weights_only=True))
    buffer: Any = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network, (torch.randn(1, 345, 80),), buffer, input_names=["feature"], output_names=["embedding"],
            dynamic_axes={"feature": {0: "batch_size", 1: "frame_num"}, "embedding": {0: "batch_size"}},
            opset_version=17, dynamo=False,
        )  # fmt: skip
    (tmp_path / "campplus.onnx").write_bytes(buffer.getvalue())
    encoder, waves = load_encoder("onnx", tmp_path / "campplus.onnx", device="cpu"), noises([1.0, 7.8, 0.5, 2.03])
    assert encoder.dim == 192
    assert distance(encoder.encode(waves), campplus.encode(waves)) < 1e-5


@pytest.fixture(scope="module")
def campplus(campplus_weights: Path) -> Encoder:
    return load_encoder("campplus", campplus_weights, device="cpu")


def test_digest_is_that_of_the_graph(onnx_file: SaveGraph) -> None:
    plain = lazy_encoder("onnx", onnx_file(), "cpu").spec
    described = onnx_file({"framework": "wespeaker", "url": "https://example.org"})
    assert spec_differences(plain, lazy_encoder("onnx", described, "cpu").spec) == []
    other = lazy_encoder("onnx", onnx_file(change=add_convolution), "cpu").spec
    assert spec_differences(plain, other)[-1].startswith("weights is ")
    [difference] = spec_differences(plain, lazy_encoder("onnx", onnx_file(), "cpu", front_end="3dspeaker").spec)
    assert difference.startswith("front_end is 'wespeaker' there")


def test_replaced_file_is_noticed(onnx_file: SaveGraph) -> None:
    path = onnx_file()
    lazy = lazy_encoder("onnx", path, "cpu")
    path.write_bytes(onnx_file(change=add_convolution).read_bytes())
    with pytest.raises(EncoderError, match="have changed since they were last read"):
        lazy.encode(noises([1.0]))


def take(*shape: str | int, kind: int = TensorProto.FLOAT, name: str = "feats") -> Callable[[Any], None]:
    """Return a function that changes the input of a model."""

    def change(model: Any) -> None:
        model.graph.input[0].CopyFrom(helper.make_tensor_value_info(name, kind, shape))
        model.graph.node[0].input[0] = name

    return change


def take_text(model: Any) -> None:
    del model.graph.input[:]
    for name in ("input_ids", "attention_mask", "token_type_ids"):
        model.graph.input.append(helper.make_tensor_value_info(name, TensorProto.INT64, ("B", "T")))


def add_input(model: Any) -> None:
    model.graph.input.append(helper.make_tensor_value_info("weights_of_frames", TensorProto.FLOAT, ("B", "T")))


def return_frames(model: Any) -> None:
    del model.graph.node[2:]
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("active", TensorProto.FLOAT, ("B", "T", 8)))


def return_frames_silently(model: Any) -> None:
    return_frames(model)
    model.graph.output[0].type.tensor_type.ClearField("shape")


def return_two(model: Any) -> None:
    model.graph.output[0].name = "active"
    model.graph.output.append(helper.make_tensor_value_info("hidden", TensorProto.FLOAT, ("B", "T", 8)))


def use_operator(name: str, domain: str = "") -> Callable[[Any], None]:
    def change(model: Any) -> None:
        model.graph.node[1].op_type, model.graph.node[1].domain = name, domain

    return change


def drop_at_random(model: Any) -> None:
    """Put in a dropout that is in training mode because of a computed value, which no check of operators sees."""
    *others, last = model.graph.node
    model.graph.initializer.append(numpy_helper.from_array(np.array(0.5, np.float32), "ratio"))
    first = [
        helper.make_node("Shape", ["feats"], ["shape"]),
        helper.make_node("ReduceMin", ["shape"], ["least"], keepdims=0),
        helper.make_node("Cast", ["least"], ["trains"], to=TensorProto.BOOL),
        helper.make_node("Dropout", [last.input[0], "ratio", "trains"], ["dropped"]),
    ]
    last.input[0] = "dropped"
    del model.graph.node[:]
    model.graph.node.extend([*others, *first, last])


def divide_time(model: Any, size: int = 8) -> None:
    """Put in a reshaping that only numbers of frames pass that are multiples of a size."""
    first, *others = model.graph.node
    model.graph.initializer.append(numpy_helper.from_array(np.array([1, -1, size * 80]), "parts"))
    model.graph.initializer.append(numpy_helper.from_array(np.array([1, -1, 80]), "whole"))
    added = [
        helper.make_node("Reshape", [first.input[0], "parts"], ["divided"]),
        helper.make_node("Reshape", ["divided", "whole"], ["joined"]),
    ]
    first.input[0] = "joined"
    del model.graph.node[:]
    model.graph.node.extend([*added, first, *others])


def halve_time(model: Any) -> None:
    divide_time(model, 2)


def move_weights(model: Any) -> None:
    [tensor] = model.graph.initializer
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../etc/passwd")


def hide_external_weights(model: Any) -> None:
    """Put external weights into a constant of a graph within a node."""
    constant = TensorProto(name="hidden", data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    constant.external_data.add(key="location", value="other.bin")
    inner = helper.make_graph(
        [helper.make_node("Constant", [], ["inner"], value=constant)], "inner", [],
        [helper.make_tensor_value_info("inner", TensorProto.FLOAT, (1,))],
    )  # fmt: skip
    model.graph.node.append(helper.make_node("If", ["feats"], ["other"], then_branch=inner, else_branch=inner))


def spoil_weights(model: Any) -> None:
    [tensor] = model.graph.initializer
    tensor.CopyFrom(numpy_helper.from_array(torch.full((80, 8), torch.nan).numpy(), "weights"))


def fill_memory(model: Any) -> None:
    """Make a tensor of 2^50 numbers in each call, whose size depends on the input."""
    model.graph.initializer.append(numpy_helper.from_array(torch.full((1,), 2**50).numpy(), "many"))
    nodes = [
        helper.make_node("Shape", ["feats"], ["shape"]),
        helper.make_node("ReduceMin", ["shape"], ["one"], keepdims=1),
        helper.make_node("Mul", ["one", "many"], ["size"]),
        helper.make_node("ConstantOfShape", ["size"], ["zeros"]),
        helper.make_node("ReduceSum", ["zeros"], ["zero"], keepdims=0),
        helper.make_node("Add", ["mean", "zero"], ["embs"]),
    ]
    model.graph.node[2].output[0] = "mean"
    model.graph.node.extend(nodes)


def shrink_weights(model: Any) -> None:
    [tensor] = model.graph.initializer
    tensor.CopyFrom(numpy_helper.from_array(torch.zeros(64, 8).numpy(), "weights"))


TASK = "This graph is of another task"
REFUSED: dict[str, tuple[Callable[[Any], None], str]] = {
    "text model": (take_text, rf"takes input_ids \(int64, B x T\), attention_mask .*{TASK}"),
    "waveforms": (take("B", "samples"), rf"takes feats \(float, B x samples\); expected one .*{TASK}"),
    "bands before frames": (take("B", 80, "T"), r"takes feats \(float, B x 80 x T\); expected .* 1 x frames x 80"),
    "40 bands": (take("B", "T", 40), r"takes feats \(float, B x T x 40\); expected .* 1 x frames x 80"),
    "batch of 8": (take(8, "T", 80), r"takes feats \(float, 8 x T x 80\); expected"),
    "fp16": (take("B", "T", 80, kind=TensorProto.FLOAT16), r"takes feats \(float16, "),
    "two inputs": (add_input, r"takes feats .*, weights_of_frames \(float, B x T\); expected one input"),
    "frames": (return_frames, rf"returns active \(float, B x T x 8\); expected one embedding.*{TASK}"),
    "frames without a shape": (return_frames_silently, rf"'active' has the shape 1 x 300 x 8 .*{TASK}"),
    "two outputs": (return_two, r"returns active .*, hidden .*; expected one embedding"),
    "NeMo": (take("B", 80, "T", name="audio_signal"), "this is an export of NeMo"),
    "custom operator": (use_operator("Secret", "my.company"), "has the custom operator 'my.company.Secret'"),
    "unknown operator": (use_operator("Secret"), "its graph cannot be built .*Secret"),
    "random": (use_operator("RandomNormalLike"), "the operator RandomNormalLike, which draws random numbers"),
    "random numbers by another operator": (drop_at_random, "its graph returns another embedding each time"),
    "parts of eight frames": (divide_time, r"fails for 300 frames of audio \(The input tensor cannot be reshaped"),
    "odd numbers of frames": (halve_time, r"fails for 331 frames of audio \(The input tensor cannot be reshaped"),
    "10,000 frames": (take(1, 10_000, 80), "takes 10000 frames, and no other number; expected at most 9000"),
    "external data": (move_weights, r"are external data, in '\.\./\.\./etc/passwd'; only files that contain"),
    "hidden external data": (hide_external_weights, r"are external data, in 'other\.bin'"),
    "memory": (fill_memory, "the memory is too small for its graph, for 300 frames"),
    "NaN": (spoil_weights, "its graph returns NaN or infinity"),
    "other dimensions": (shrink_weights, "its graph (cannot be built|fails for 300 frames)"),
}


@pytest.mark.parametrize(("change", "message"), REFUSED.values(), ids=REFUSED)
def test_other_graphs_are_refused(change: Callable[[Any], None], message: str, onnx_file: SaveGraph) -> None:
    path = onnx_file(change=change)
    with pytest.raises(EncoderError, match=rf"^{path}: .*{message}") as refused:
        lazy_encoder("onnx", path, "cpu")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"framework": "nemo"}, "this is an export of NeMo, whose networks need another front end"),
        ({"sample_rate": "8000"}, "sample_rate '8000'; this encoder gives audio at 16000 Hz"),
        ({"sample_rate": "fast"}, "sample_rate 'fast'"),
        ({"feature_normalize_type": "per_feature"}, "feature_normalize_type 'per_feature'; expected 'global-mean'"),
        ({"output_dim": "192"}, "declare embeddings of 192 numbers, and its graph returns 8"),
    ],
)
def test_metadata_of_other_networks_are_refused(metadata: dict[str, str], message: str, onnx_file: SaveGraph) -> None:
    path = onnx_file({"framework": "wespeaker", **metadata})
    with pytest.raises(EncoderError, match=rf"^{path}: .*{message}"):
        lazy_encoder("onnx", path, "cpu")


def test_truncated_graphs_are_refused(onnx_file: SaveGraph, tmp_path: Path) -> None:
    content, path = onnx_file({"framework": "wespeaker"}).read_bytes(), tmp_path / "cut.onnx"
    for n_bytes in (0, 1, 2, 10, len(content) // 2, len(content) - 50, len(content) - 1):
        path.write_bytes(content[:n_bytes])
        with pytest.raises(EncoderError, match=rf"^{path}: (this is not an ONNX file.* cut off|its graph cannot be )"):
            lazy_encoder("onnx", path, "cpu")
    path.write_bytes(bytes(range(256)) * 8)
    with pytest.raises(EncoderError, match="this is not an ONNX file of a speaker network"):
        lazy_encoder("onnx", path, "cpu")


def test_missing_file_and_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match=r"absent\.onnx: no such file\. Give an ONNX file"):
        lazy_encoder("onnx", tmp_path / "absent.onnx", "cpu")
    with pytest.raises(EncoderError, match="this is a folder"):
        lazy_encoder("onnx", tmp_path, "cpu")
    with pytest.raises(EncoderError, match="needs a file: give --encoder_weights FILE"):
        lazy_encoder("onnx", None, "cpu")


@pytest.mark.parametrize("package", ["onnx", "onnxruntime"])
def test_absent_package_is_named(package: str, onnx_file: SaveGraph, monkeypatch: pytest.MonkeyPatch) -> None:
    path = onnx_file()
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InputError, match=rf"The package {package} is not installed; .* pip install {package}=="):
        lazy_encoder("onnx", path, "cpu")


def test_operators_of_the_file_itself_are_used(onnx_file: SaveGraph) -> None:
    """Functions are parts of the file, and no code of a library."""

    def use_function(model: Any) -> None:
        relu = helper.make_node("Relu", ["a"], ["b"])
        model.functions.append(
            helper.make_function("own", "MyRelu", ["a"], ["b"], [relu], [helper.make_opsetid("", 17)])
        )
        model.opset_import.append(helper.make_opsetid("own", 1))
        use_operator("MyRelu", "own")(model)

    [wave], encoder = noises([1.0]), load_encoder("onnx", onnx_file(change=use_function), device="cpu")
    assert distance(encoder.encode([wave])[0], expected_vector(wave, "wespeaker")) < 1e-5
    assert onnx.load(onnx_file(change=use_function)).functions
