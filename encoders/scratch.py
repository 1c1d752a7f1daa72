"""The BiLSTM encoders of wq2012's "speaker recognition from scratch", frozen."""

import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn
from torchaudio.functional import amplitude_to_DB, create_dct, melscale_fbanks

from encoders.base import Encoder, EncoderError
from encoders.spec import Spec
from encoders.weights import check_digest, first_line, remembered, tensors_digest

# The MFCC that these systems take from librosa, and the windows that they cut.
SAMPLE_RATE = 16_000
N_FFT = 2048
HOP = 512
N_MELS = 128
N_MFCC = 40
TOP_DB = 80.0
WINDOW_FRAMES = 100
WINDOW_STEP = 50
# Windows that the network is given at a time.
WINDOWS = 256


@dataclass(frozen=True)
class ScratchOptions:
    """It has none: the network is what the file holds."""


class ScratchEncoder(Encoder):
    """A BiLSTM on MFCC, its outputs averaged over the frames of a window, and over the windows of an utterance.

    MFCC as librosa computes them (40 of 128 slaney mels, FFT of 2048, a frame every 32 ms, decibels down to 80 under
    the loudest); windows of 100 frames, every 50; their vectors are averaged as they are. An utterance that is shorter
    than a window is one window of its own length (those systems give none). Checkpoints hold ``encoder_state_dict``
    with one ``lstm``, whose size is read from them.
    """

    Options = ScratchOptions
    batch_size: ClassVar[dict[str, int]] = {"cpu": 1, "cuda": 32, "mps": 32}
    mel: Tensor
    dct: Tensor
    window: Tensor

    def __init__(self, spec: Spec, weights: str | Path | None = None) -> None:
        super().__init__(spec)
        path = _require(weights)
        state = _load(path)
        check_digest(path, tensors_digest(state), spec["weights"])
        self.lstm = _build(path, state)
        mel = melscale_fbanks(N_FFT // 2 + 1, 0.0, SAMPLE_RATE / 2, N_MELS, SAMPLE_RATE, "slaney", "slaney")
        self.register_buffer("mel", mel)
        self.register_buffer("dct", create_dct(N_MFCC, N_MELS, norm="ortho"))
        self.register_buffer("window", torch.hann_window(N_FFT))

    @classmethod
    def find_weights(cls, weights: str | Path | None, download: bool = True) -> Path | None:
        if weights is None:
            if not download:
                return None
            raise EncoderError(
                "The encoder 'scratch' needs a checkpoint: give --encoder_weights FILE, such as one of "
                "SpeakerRecognitionFromScratch. The encoder 'spectral' needs none."
            )
        path = Path(weights)
        if not path.is_file():
            raise EncoderError(f"{path}: no such file. Give a checkpoint of a BiLSTM as --encoder_weights.")
        return path

    @classmethod
    def describe(cls, weights: str | Path | None, options: ScratchOptions) -> Spec:
        path = _require(weights)

        def facts() -> Spec:
            state = _load(path)
            lstm = _build(path, state)
            return {"weights": tensors_digest(state), "dim": lstm.hidden_size * (1 + lstm.bidirectional)}

        return {
            "name": "scratch",
            "version": 1,
            "sample_rate": SAMPLE_RATE,
            "layers": [],
            **remembered(path, "scratch lstm 1", facts),
            "options": asdict(options),
        }

    def forward(self, waveforms: Tensor, lengths: Tensor) -> Tensor:
        vectors = []
        for waveform, length in zip(waveforms, lengths.tolist(), strict=True):
            frames = self.mfcc(waveform[:length])
            n_windows = max(1 + (len(frames) - WINDOW_FRAMES) // WINDOW_STEP, 1)
            windows = [frames[WINDOW_STEP * number :][:WINDOW_FRAMES] for number in range(n_windows)]
            outputs = [self.lstm(block)[0].mean(1) for block in torch.split(torch.stack(windows), WINDOWS)]
            vectors.append(torch.cat(outputs).mean(0))
        return torch.stack(vectors)

    def mfcc(self, waveform: Tensor) -> Tensor:
        """Return the MFCC (frames, 40) of a waveform (samples,)."""
        spectrum = torch.stft(
            waveform, N_FFT, HOP, window=self.window, center=True, pad_mode="constant", return_complex=True
        )
        mels = spectrum.abs().square().T @ self.mel
        decibels: Tensor = amplitude_to_DB(mels[None], 10.0, 1e-10, 0.0, TOP_DB)[0]
        return decibels @ self.dct


def _require(weights: str | Path | None) -> Path:
    if weights is None:
        raise EncoderError("The encoder 'scratch' needs a checkpoint: give --encoder_weights FILE.")
    return Path(weights)


def _load(path: Path) -> dict[str, Tensor]:
    """Return the state of the LSTM, its names without what is before ``lstm.``; nothing in the file can run code."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        state = content.get("encoder_state_dict", content)
        named = {name: tensor for name, tensor in state.items() if "lstm." in name and isinstance(tensor, Tensor)}
        tensors = {name.partition("lstm.")[2]: tensor.float() for name, tensor in named.items()}
    except Exception as error:  # whatever the file is
        raise EncoderError(f"{path}: this is not a checkpoint of a BiLSTM ({first_line(error)}).") from error
    if "weight_ih_l0" not in tensors:
        raise EncoderError(
            f"{path}: this is not a checkpoint of a BiLSTM: there is no 'lstm.weight_ih_l0' in it. Its keys begin with "
            f"{', '.join(map(str, list(state)[:3])) or 'none'}."
        )
    prefixes = {name.partition("lstm.")[0] for name in named}
    if len(prefixes) > 1:
        listing = ", ".join(f"{prefix}lstm" for prefix in sorted(prefixes))
        raise EncoderError(f"{path}: there are several LSTMs in it ({listing}); expected one.")
    if not all(bool(torch.isfinite(tensor).all()) for tensor in tensors.values()):
        raise EncoderError(f"{path}: its weights hold NaN or infinity; get the file again.")
    return tensors


def _build(path: Path, state: dict[str, Tensor]) -> nn.LSTM:
    """Return the LSTM that a state fits, in eval mode."""
    first = state["weight_ih_l0"]
    if first.ndim != 2 or not len(first) or len(first) % 4 or first.shape[1] != N_MFCC:
        raise EncoderError(f"{path}: its first weight is {tuple(first.shape)}; expected (4 * hidden, {N_MFCC}).")
    numbers = [int(found[1]) for name in state if (found := re.fullmatch(r"weight_ih_l(\d+)", name))]
    bidirectional = any(name.endswith("_reverse") for name in state)
    lstm = nn.LSTM(N_MFCC, len(first) // 4, len(numbers), batch_first=True, bidirectional=bidirectional)
    try:
        lstm.load_state_dict(state)
    except RuntimeError as error:
        raise EncoderError(f"{path}: its weights do not make an LSTM of {len(numbers)} layers ({error}).") from error
    return lstm.eval()
