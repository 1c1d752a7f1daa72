"""Write the network of a speaker encoder as an ONNX file, for sherpa-onnx and other programs."""

import io
import tempfile
import warnings
from collections.abc import Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from encoders.base import Encoder, EncoderError
from encoders.campplus import FRONT_ENDS
from encoders.onnx_checks import N_MELS, SAMPLE_RATE
from encoders.onnx_encoder import OnnxEncoder, OnnxOptions
from encoders.spec import windows_of
from files import VERSION, first_line, optional_imports, write_atomically
from networks import KaldiFbank

# Encoders whose networks take the spectrograms that the metadata can describe.
EXPORTABLE = ("campplus", "trained")
# Front end -> value of the key `framework`, value of `normalize_samples`, and names of the input and of the output.
FORMS = {"3dspeaker": ("3d-speaker", "1", "x", "embedding"), "wespeaker": ("wespeaker", "0", "feats", "embs")}
OPSET = 17
# Largest difference between a vector of the file and of the encoder, as a share of the vector's length.
TOLERANCE = 1e-5
# Lengths of the recordings on which both are compared, which are not those of the export (seconds).
COMPARED_SECONDS = (1.0, 1.37, 2.0, 6.01)
EXPORTED_FRAMES = 250


def check_exportable(name: str) -> None:
    """Refuse an encoder, by its name, that cannot be exported; its weights are not needed.

    Raises
    ------
    EncoderError
        It does not take log-mel spectrograms of Kaldi.
    """
    if name not in EXPORTABLE:
        raise EncoderError(
            f"The encoder {name!r} cannot be exported as an ONNX file for sherpa-onnx, which computes log-mel "
            "spectrograms of Kaldi and no other input. Choose --encoder campplus, or trained with a network that was "
            "trained with --front_end fbank."
        )


def export_onnx(encoder: Encoder, path: Path) -> float:
    """Write the network of a speaker encoder as an ONNX file with the metadata of sherpa-onnx.

    The input of the graph is ``x`` (``feats`` for the front end of WeSpeaker) of shape (batch, frames, 80), and its
    output is ``embedding`` (``embs``) of shape (batch, dim). The file is compared with the encoder before it is kept.

    Parameters
    ----------
    encoder : Encoder
        ``campplus``, or ``trained`` with the front end ``fbank``, on the CPU.
    path : Path
        The file; an existing one is replaced.

    Returns
    -------
    float
        Largest distance between a vector of the file and of the encoder, as a share of the vector's length.

    Raises
    ------
    EncoderError
        The encoder cannot be exported, or the vectors of the file differ from its vectors.
    InputError
        The package onnx or onnxruntime is not installed.
    OutputError
        The file cannot be written.
    """
    check_exportable(encoder.name)
    front_end = _check_options(encoder)
    framework, scale, source, target = FORMS[front_end]
    metadata = {
        "framework": framework,
        "language": "unknown",
        "url": "unknown",
        "comment": f"{encoder.name}, weights {str(encoder.spec['weights'])[:8]}, exported by Voxprobe {VERSION}",
        "sample_rate": str(SAMPLE_RATE),
        "output_dim": str(encoder.dim),
        "normalize_samples": scale,
        "feature_normalize_type": "global-mean",
    }
    content = _add_metadata(_graph_of(encoder, source, target), metadata)
    try:
        difference = _compare(encoder, content)
    except EncoderError as error:
        raise EncoderError(
            f"{path}: the file is not kept, because its graph does not work for recordings of every length. The "
            f"network of the encoder {encoder.name!r} cannot be exported."
        ) from error
    if not difference <= TOLERANCE:
        raise EncoderError(
            f"{path}: the file is not kept, because its vectors differ from those of the encoder {encoder.name!r} by "
            f"{difference:.1g} of their length; expected at most {TOLERANCE:g}. The network cannot be exported."
        )
    write_atomically(path, lambda file: file.write(content))
    return difference


def _check_options(encoder: Encoder) -> str:
    """Return the front end of an encoder, and refuse settings that a file cannot have."""
    has_windows = windows_of(encoder.spec) is not None or encoder.spec.get("frames") is not None
    settings_of_files = {name: name in encoder.spec for name in ("max_bandwidth", "speech_detection")}
    for name, is_given in {"window": has_windows, **settings_of_files}.items():
        if is_given:
            raise EncoderError(
                f"The encoder {encoder.name!r} has a {name}, which an ONNX file cannot have. Export an encoder without."
            )
    front_end = getattr(encoder, "front_end", None)
    if isinstance(front_end, KaldiFbank):
        for name, settings in FRONT_ENDS.items():
            if settings == (front_end.window_type, front_end.factor):
                return name
    raise EncoderError(
        f"The encoder {encoder.name!r} has the front end {encoder.spec.get('front_end')}, which sherpa-onnx does not "
        "compute. Export a network that was trained with --front_end fbank."
    )


class _FramesOnly(nn.Module):
    """A network of unpadded spectrograms (batch, frames, 80), whose number of frames follows from their shape."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, frames: Tensor) -> Tensor:
        n_frames = torch.ones_like(frames[:, 0, 0], dtype=torch.int64) * frames.shape[1]
        return self.network(frames, n_frames)  # type: ignore[no-any-return]


def _graph_of(encoder: Encoder, source: str, target: str) -> bytes:
    """Return the ONNX file of a network, without metadata."""
    network = _FramesOnly(encoder.get_submodule("network")).eval()
    buffer: Any = io.BytesIO()  # the exporter's annotation has paths only
    frames = torch.randn(1, EXPORTED_FRAMES, N_MELS, generator=torch.Generator().manual_seed(0))
    with optional_imports():
        import onnx  # noqa: F401 - torch imports it, and would report its absence as an error of its own
    try:
        # With gradients, networks write into no tensors, which makes the graph simpler. The exporter prints failures.
        with torch.enable_grad(), redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about constants of the trace; the vectors are compared
            torch.onnx.export(
                network,
                (frames,),
                buffer,
                input_names=[source],
                output_names=[target],
                dynamic_axes={source: {0: "N", 1: "T"}, target: {0: "N"}},
                opset_version=OPSET,
                dynamo=False,
            )
    except Exception as error:  # the exporter raises errors of many types
        raise EncoderError(
            f"The network of the encoder {encoder.name!r} cannot be exported as an ONNX file ({first_line(error)})."
        ) from error
    exported: bytes = buffer.getvalue()
    return exported


def _add_metadata(content: bytes, metadata: Mapping[str, str]) -> bytes:
    import onnx

    model = onnx.load_model_from_string(content)
    onnx.helper.set_model_props(model, dict(metadata))
    serialized: bytes = model.SerializeToString(deterministic=True)
    return serialized


def _compare(encoder: Encoder, content: bytes) -> float:
    """Return the largest distance between vectors of a file and of an encoder, as a share of their length."""
    generator = torch.Generator().manual_seed(0)
    waves = [0.1 * torch.randn(round(seconds * SAMPLE_RATE), generator=generator) for seconds in COMPARED_SECONDS]
    waves = [wave * torch.linspace(0.1, 1, len(wave)) for wave in waves]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "exported.onnx"
        path.write_bytes(content)
        spec = {**OnnxEncoder.describe(path, OnnxOptions()), "precision": "fp32"}
        found, expected = OnnxEncoder(spec, path).encode(waves), encoder.encode(waves)
    return float(((found - expected).norm(dim=1) / expected.norm(dim=1)).max())
