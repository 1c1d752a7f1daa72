"""ONNX files of speaker networks: read and run them. Nothing in a file can run code."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from encoders.base import EncoderError
from encoders.onnx_checks import (
    FILE_KIND,
    N_MELS,
    check_metadata,
    check_operators,
    check_weights,
    front_end_of,
    graph_digest,
    input_of,
    output_of,
)
from encoders.weights import check_kind
from files import first_line, optional_imports

# Number of frames on which a graph is tried, and the lowest number that is ever accepted: networks that halve the frame
# rate have two frames then, and one frame has no deviation over time.
N_TRIED, FEWEST = 300, 3
# A place in the sources of onnxruntime, in its messages.
SOURCES = re.compile(r"/\S+(:\d+)? ")

Array = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class OnnxGraph:
    """The graph of an ONNX file, which is checked but not yet built.

    Attributes
    ----------
    path : Path
        The file.
    content : bytes
        Its content.
    digest : str
        SHA-256 of the graph and of the versions of its operators, without metadata (64 hex digits).
    input, output : str
        Name of the input (batch, frames, 80) and of the embedding (batch, dim).
    n_frames : int or None
        Number of frames, if the graph takes no other.
    front_end : str or None
        Front end of the training, ``wespeaker`` or ``3dspeaker``; None if neither metadata nor names indicate it.
    metadata : dict
        Metadata of the file.
    """

    path: Path
    content: bytes = field(repr=False)
    digest: str
    input: str
    output: str
    n_frames: int | None
    front_end: str | None
    metadata: dict[str, str]

    @classmethod
    def load(cls, path: Path) -> "OnnxGraph":
        """Read a file and check that its graph maps log-mel spectrograms to embeddings.

        Raises
        ------
        EncoderError
            The file is damaged or of another kind, or the graph is of another task, needs another front end, or has
            operators or weights that are not in the file.
        InputError
            The package onnx is not installed.
        """
        with optional_imports():
            import onnx
        content = path.read_bytes()
        try:
            model = onnx.load_model_from_string(content)
        except Exception as error:  # protobuf raises errors of several types
            _refuse_file(path, error)
        if not model.graph.node:
            _refuse_file(path, None)
        metadata = {each.key: each.value.strip() for each in model.metadata_props}
        check_operators(path, model)
        check_weights(path, model)
        given = input_of(path, model.graph, metadata)
        names = given.name, output_of(path, model.graph)
        check_metadata(path, metadata)
        return cls(
            path=path,
            content=content,
            digest=graph_digest(model),
            input=names[0],
            output=names[1],
            n_frames=given.type.tensor_type.shape.dim[1].dim_value or None,
            front_end=front_end_of(metadata, names),
            metadata=metadata,
        )

    def build(self) -> "OnnxNetwork":
        """Build the network of the graph, which computes on the CPU.

        Raises
        ------
        EncoderError
            The graph is not valid.
        InputError
            The package onnxruntime is not installed.
        """
        with optional_imports():
            import onnxruntime
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1  # each core computes another recording
        options.use_deterministic_compute = True
        options.log_severity_level = 4  # errors are reported below
        options.add_session_config_entry("session.load_model_format", "ONNX")
        try:
            session = onnxruntime.InferenceSession(self.content, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime raises errors of many types
            raise EncoderError(
                f"{self.path}: its graph cannot be built ({_reason(error)}). Export it again, or download it again."
            ) from error
        return OnnxNetwork(self, session)


class OnnxNetwork:
    """A graph that is ready to compute; several threads may use it at the same time."""

    def __init__(self, graph: OnnxGraph, session: Any) -> None:
        self.graph, self._session = graph, session

    def __call__(self, frames: Array) -> Array:
        """Embed one spectrogram (frames, 80) and return its embedding (dim,).

        Raises
        ------
        EncoderError
            The graph cannot process it, or returns anything else than one vector.
        MemoryError
            There is not enough memory.
        """
        path = self.graph.path
        try:
            [vectors] = self._session.run([self.graph.output], {self.graph.input: frames[None]})
        except Exception as error:  # onnxruntime raises errors of many types
            if "alloc" in str(error):
                raise MemoryError(str(error)) from error
            reason = _reason(error)
            raise EncoderError(f"{path}: its graph fails for {len(frames)} frames of audio ({reason}).") from error
        if vectors.ndim != 2 or len(vectors) != 1 or vectors.shape[1] < 2:
            shape = " x ".join(map(str, vectors.shape))
            raise EncoderError(
                f"{path}: its output {self.graph.output!r} has the shape {shape} for one recording; expected one "
                "embedding, 1 x dim. This graph is of another task."
            )
        vector: Array = vectors[0]
        return vector

    def measure(self) -> tuple[int, int]:
        """Return the length of an embedding, and the lowest number of frames that the graph can process.

        Raises
        ------
        EncoderError
            The graph fails, its embeddings are not finite, or their length is not the one in the metadata.
        """
        path, longest = self.graph.path, self.graph.n_frames or N_TRIED
        noise = np.random.default_rng(0).standard_normal((longest, N_MELS), np.float32)
        try:
            vector = self(noise)
        except MemoryError as error:
            raise EncoderError(
                f"{path}: the memory is too small for its graph, for {longest} frames of audio. Use a smaller network."
            ) from error
        if not np.isfinite(vector).all():
            raise EncoderError(f"{path}: its graph returns NaN or infinity. Export it again, or download it again.")
        declared = self.graph.metadata.get("output_dim", str(len(vector)))
        if declared != str(len(vector)):
            raise EncoderError(
                f"{path}: its metadata declare embeddings of {declared} numbers, and its graph returns {len(vector)}. "
                "The metadata belong to another graph; export it again."
            )
        return len(vector), self.graph.n_frames or self._min_frames(noise)

    def _min_frames(self, noise: Array) -> int:
        """Search for the lowest number of frames with a finite embedding, by bisection."""
        too_few, enough = FEWEST - 1, len(noise)
        while enough - too_few > 1:
            middle = (too_few + enough) // 2
            try:
                is_enough = bool(np.isfinite(self(noise[:middle])).all())
            except EncoderError:
                is_enough = False
            too_few, enough = (too_few, middle) if is_enough else (middle, enough)
        return enough


def _refuse_file(path: Path, error: Exception | None) -> NoReturn:
    check_kind(path, "onnx", FILE_KIND)
    raise EncoderError(
        f"{path}: this is not {FILE_KIND}, or it is cut off. Give another file, or download it again."
    ) from error


def _reason(error: Exception) -> str:
    """Return the message of onnxruntime, without its prefix and without places in its sources."""
    return SOURCES.sub("", first_line(error)).rpartition(" : ")[2].rstrip(". ")
