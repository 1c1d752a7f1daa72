"""The `scratch` encoder: frozen BiLSTMs of wq2012's "speaker recognition from scratch"."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn
from torchaudio.functional import amplitude_to_DB, create_dct, melscale_fbanks

from encoders.base import CPU, Encoder, EncoderError
from encoders.spec import Spec
from encoders.weights import check_digest, check_kind, first_line, remembered, tensors_digest
from networks import build_lstm

FILE_KIND = "a checkpoint of a BiLSTM"
# Settings of these systems: MFCC, computed with librosa, and windows.
SAMPLE_RATE = 16_000
N_FFT = 2048
HOP = 512
N_MELS = 128
N_MFCC = 40
TOP_DB = 80.0
WINDOW_FRAMES = 100
WINDOW_STEP = 50
# Number of windows per call of the LSTM.
BLOCK_WINDOWS = 256


@dataclass(frozen=True)
class ScratchOptions:
    """Options of `scratch`: none, because the checkpoint determines the network."""


class ScratchEncoder(Encoder):
    """A BiLSTM on MFCC, averaged over the frames of each window, then over the windows of the utterance.

    MFCC are computed as librosa does: 40 coefficients of 128 slaney mel bands, an FFT of 2048, a frame every 32 ms, and
    decibels down to 80 dB below the maximum. A window has 100 frames and starts every 50 frames; vectors of windows are
    not normalised before they are averaged. An utterance shorter than a window is one shorter window (the original
    systems skip it). A checkpoint holds ``encoder_state_dict`` with one ``lstm``, whose size is read from its tensors.
    """

    Options = ScratchOptions
    batch_size: ClassVar[dict[str, int]] = {"cpu": 1, "cuda": 32, "mps": 32}
    mel: Tensor
    dct: Tensor
    window: Tensor

    def __init__(self, spec: Spec, weights: str | Path | None = None, device: torch.device = CPU) -> None:
        super().__init__(spec, weights, device)
        path = _require(weights)
        state = _load(path)
        check_digest(path, tensors_digest(state), spec["weights"])
        self.lstm = _build(path, state)
        mel = melscale_fbanks(N_FFT // 2 + 1, 0.0, SAMPLE_RATE / 2, N_MELS, SAMPLE_RATE, "slaney", "slaney")
        self.register_buffer("mel", mel, persistent=False)
        self.register_buffer("dct", create_dct(N_MFCC, N_MELS, norm="ortho"), persistent=False)
        self.register_buffer("window", torch.hann_window(N_FFT), persistent=False)

    @classmethod
    def find_weights(cls, weights: str | Path | None, download: bool = True) -> Path | None:
        if weights is None:
            if not download:
                return None
            raise EncoderError(
                "The encoder 'scratch' needs a checkpoint: give --encoder_weights FILE, such as one of "
                "SpeakerRecognitionFromScratch. The encoder 'spectral' needs no weights."
            )
        path = Path(weights)
        if not path.is_file():
            raise EncoderError(f"{path}: no such file. Give a checkpoint of a BiLSTM as --encoder_weights.")
        return path

    @classmethod
    def describe(cls, weights: str | Path | None, options: ScratchOptions) -> Spec:
        path = _require(weights)

        def read_checkpoint() -> Spec:
            state = _load(path)
            lstm = _build(path, state)
            dim = 2 * lstm.hidden_size if lstm.bidirectional else lstm.hidden_size
            return {"weights": tensors_digest(state), "dim": dim}

        return {
            "name": "scratch",
            "version": 1,
            "sample_rate": SAMPLE_RATE,
            "layers": [],
            **remembered(path, "scratch lstm 1", read_checkpoint),
            "options": asdict(options),
        }

    def forward(self, waveforms: Tensor, lengths: Tensor) -> Tensor:
        vectors = []
        for waveform, length in zip(waveforms, lengths.tolist(), strict=True):
            frames = self.mfcc(waveform[:length])
            n_windows = max(1 + (len(frames) - WINDOW_FRAMES) // WINDOW_STEP, 1)
            windows = [frames[WINDOW_STEP * number :][:WINDOW_FRAMES] for number in range(n_windows)]
            outputs = [self.lstm(block)[0].mean(1) for block in torch.split(torch.stack(windows), BLOCK_WINDOWS)]
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
    """Load the LSTM's tensors, with ``lstm.`` and what precedes it cut from the names; no code in the file is run."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        state = content.get("encoder_state_dict", content)
        named = {name: tensor for name, tensor in state.items() if "lstm." in name and isinstance(tensor, Tensor)}
        tensors = {name.partition("lstm.")[2]: tensor.float() for name, tensor in named.items()}
    except Exception as error:  # files of other kinds raise errors of any type
        check_kind(path, "scratch", FILE_KIND)
        raise EncoderError(f"{path}: this is not {FILE_KIND} ({first_line(error)}).") from error
    if "weight_ih_l0" not in tensors:
        check_kind(path, "scratch", FILE_KIND)
        raise EncoderError(
            f"{path}: this is not {FILE_KIND}: it has no 'lstm.weight_ih_l0'. Its first keys are: "
            f"{', '.join(map(str, list(state)[:3])) or 'none'}."
        )
    prefixes = {name.partition("lstm.")[0] for name in named}
    if len(prefixes) > 1:
        listing = ", ".join(f"{prefix}lstm" for prefix in sorted(prefixes))
        raise EncoderError(f"{path}: it holds several LSTMs ({listing}); expected one.")
    if not all(bool(torch.isfinite(tensor).all()) for tensor in tensors.values()):
        raise EncoderError(f"{path}: its weights contain NaN or infinity; download it again.")
    return tensors


def _build(path: Path, state: dict[str, Tensor]) -> nn.LSTM:
    """Build the LSTM of a checkpoint."""
    try:
        return build_lstm(state, N_MFCC)
    except ValueError as error:
        raise EncoderError(f"{path}: {error}.") from error
