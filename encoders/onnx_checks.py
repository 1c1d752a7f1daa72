"""Checks of an ONNX model before it is built: operators, weights, input, output and metadata."""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from encoders.base import EncoderError

FILE_KIND = "an ONNX file of a speaker network, as WeSpeaker, 3D-Speaker and sherpa-onnx export them"
SAMPLE_RATE, N_MELS = 16_000, 80
# Domains whose operators are parts of onnxruntime. Operators of others are code in a library, which is never loaded.
DOMAINS = ("", "ai.onnx", "ai.onnx.ml", "com.microsoft")
RANDOM = ("Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike")
# Value of the key `framework` -> front end.
FRAMEWORKS = {"wespeaker": "wespeaker", "3d-speaker": "3dspeaker", "3dspeaker": "3dspeaker"}
# Value of the key `normalize_samples`, which is 1 if samples are in [-1, 1] -> front end.
SCALES = {"0": "wespeaker", "1": "3dspeaker"}
# Names of the input and of the output -> front end.
NAMES = {("feats", "embs"): "wespeaker", ("feature", "embedding"): "3dspeaker", ("x", "embedding"): "3dspeaker"}
# Values of the key `feature_normalize_type` that leave the mean over time to the front end.
NORMALISATIONS = ("", "global-mean")
# Names of the types of tensors, by their numbers in ONNX.
TYPES = {1: "float", 6: "int32", 7: "int64", 8: "string", 9: "bool", 10: "float16", 11: "double"}
MAX_NAME = 100


def check_operators(path: Path, model: Any) -> None:
    """Refuse operators that are not parts of onnxruntime, and those that draw random numbers."""
    own = {(function.domain, function.name) for function in model.functions}
    for node in _nodes(model):
        if node.domain not in DOMAINS and (node.domain, node.op_type) not in own:
            name = f"{node.domain}.{node.op_type}"[:MAX_NAME]
            raise EncoderError(
                f"{path}: its graph has the custom operator {name!r}, whose code is in a library, and libraries are "
                "not loaded. Export the network with standard operators."
            )
        if node.op_type in RANDOM:
            raise EncoderError(
                f"{path}: its graph has the operator {node.op_type}, which draws random numbers, so a recording would "
                "get another vector each time. Export the network in evaluation mode."
            )


def check_weights(path: Path, model: Any) -> None:
    """Refuse weights that are in other files."""
    for tensor in _tensors(model):
        if tensor.data_location == tensor.EXTERNAL or tensor.external_data:
            location = next((each.value for each in tensor.external_data if each.key == "location"), "another file")
            raise EncoderError(
                f"{path}: its weights are external data, in {location[:MAX_NAME]!r}; only files that contain their "
                "weights are read. Save it as one file: onnx.save(onnx.load(PATH), NEW_PATH)."
            )


def check_metadata(path: Path, metadata: Mapping[str, str]) -> None:
    """Refuse a sampling rate and a normalisation that the front ends do not have."""
    rate = metadata.get("sample_rate", str(SAMPLE_RATE))
    if rate != str(SAMPLE_RATE):
        raise EncoderError(
            f"{path}: its metadata have sample_rate {rate[:MAX_NAME]!r}; this encoder gives audio at {SAMPLE_RATE} Hz. "
            "Use a network that was trained at this rate."
        )
    normalisation = metadata.get("feature_normalize_type", "")
    if normalisation not in NORMALISATIONS:
        raise EncoderError(
            f"{path}: its metadata have feature_normalize_type {normalisation[:MAX_NAME]!r}; expected 'global-mean', "
            f"as 3D-Speaker's networks have, or none. Give {FILE_KIND}."
        )


def input_of(path: Path, graph: Any, metadata: Mapping[str, str]) -> Any:
    """Return the input of a graph, which takes log-mel spectrograms (batch, frames, 80).

    Raises
    ------
    EncoderError
        It has other inputs, or is an export of NeMo.
    """
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in weights]
    if metadata.get("framework", "").lower() == "nemo" or any(value.name == "audio_signal" for value in inputs):
        raise EncoderError(
            f"{path}: this is an export of NeMo, whose networks need another front end; expected {FILE_KIND}, but not "
            "of NeMo."
        )
    if len(inputs) == 1 and _is_spectrogram(inputs[0].type.tensor_type):
        return inputs[0]
    raise EncoderError(
        f"{path}: its graph takes {_describe(inputs)}; expected one input of log-mel spectrograms, (float, 1 x frames "
        f"x {N_MELS}), with any number of frames or a fixed one. This graph is of another task or front end; give "
        f"{FILE_KIND}."
    )


def _is_spectrogram(tensor: Any) -> bool:
    if TYPES.get(tensor.elem_type) != "float" or len(tensor.shape.dim) != 3:
        return False
    # A dimension without a fixed size has the value 0.
    batch, frames, mels = (dim.dim_value for dim in tensor.shape.dim)
    return batch in (0, 1) and frames >= 0 and (mels == N_MELS or mels == frames == 0)


def output_of(path: Path, graph: Any) -> str:
    """Return the name of the output with the embedding: the only one, or the one with such a name.

    Raises
    ------
    EncoderError
        The graph has several outputs, and none has such a name, or its output is not one vector of a recording.
    """
    named = {output for _, output in NAMES}
    outputs = [value for value in graph.output if len(graph.output) == 1 or value.name in named]
    if len(outputs) == 1 and _is_embedding(outputs[0].type.tensor_type):
        return str(outputs[0].name)
    raise EncoderError(
        f"{path}: its graph returns {_describe(graph.output)}; expected one embedding of a recording, (float, 1 x "
        f"dim). This graph is of another task; give {FILE_KIND}."
    )


def _is_embedding(tensor: Any) -> bool:
    is_known = tensor.HasField("shape")  # exporters need not write it
    return TYPES.get(tensor.elem_type) == "float" and (not is_known or len(tensor.shape.dim) == 2)


def front_end_of(metadata: Mapping[str, str], names: tuple[str, str]) -> str | None:
    """Return the front end of the training, ``wespeaker`` or ``3dspeaker``, or None if it is not known.

    Metadata decide; where they do not, the names of the input and of the output do.
    """
    framework, scale = (metadata.get(key, "").lower() for key in ("framework", "normalize_samples"))
    return FRAMEWORKS.get(framework) or SCALES.get(scale) or NAMES.get(names)


def graph_digest(model: Any) -> str:
    """Return the SHA-256 of a graph and of its operators' versions (64 hex digits); metadata do not change it."""
    digest = hashlib.sha256()
    for part in (*model.opset_import, *model.functions, model.graph):
        digest.update(part.SerializeToString(deterministic=True))
    return digest.hexdigest()


def _describe(values: Any) -> str:
    """Describe inputs or outputs in words, such as ``feats (float, B x T x 80)``."""
    words = []
    for value in values:
        tensor = value.type.tensor_type
        shape = " x ".join(str(dim.dim_value or dim.dim_param or "?")[:MAX_NAME] for dim in tensor.shape.dim)
        kind = TYPES.get(tensor.elem_type, "another type")
        words.append(f"{value.name[:MAX_NAME]} ({kind}{', ' if shape else ''}{shape})")
    return ", ".join(words[:4]) + (", ..." if len(words) > 4 else "") or "nothing"


def _nodes(model: Any) -> Iterator[Any]:
    """Yield the nodes of a model: of its graph, of its functions, and of the graphs within nodes."""
    waiting = [*model.graph.node, *(node for function in model.functions for node in function.node)]
    while waiting:
        node = waiting.pop()
        yield node
        waiting.extend(inner for graph in _inner_graphs(node) for inner in graph.node)


def _inner_graphs(node: Any) -> Iterator[Any]:
    for attribute in node.attribute:
        yield from attribute.graphs
        if attribute.HasField("g"):
            yield attribute.g


def _tensors(model: Any) -> Iterator[Any]:
    """Yield all tensors of a model: weights of its graphs, and attributes of its nodes."""
    nodes = [*_nodes(model)]
    for graph in (model.graph, *(graph for node in nodes for graph in _inner_graphs(node))):
        yield from graph.initializer
        for sparse in graph.sparse_initializer:
            yield from (sparse.values, sparse.indices)
    defaults = [attribute for function in model.functions for attribute in function.attribute_proto]
    for attribute in (*defaults, *(attribute for node in nodes for attribute in node.attribute)):
        yield from (attribute.t, *attribute.tensors)
        for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
            yield from (sparse.values, sparse.indices)
