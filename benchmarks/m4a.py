"""Copy recordings as m4a files (AAC), for benchmarks."""

from pathlib import Path

import av
import numpy as np
import torch

from audio import read_audio, read_header
from corpora import Corpus

# That of VoxCeleb2 is about 64 kbit/s.
BIT_RATE = 64_000


def copy_as_m4a(corpus: Corpus, folder: Path) -> None:
    """Encode the recordings of a corpus into files whose names are the numbers of its utterances."""
    for number, utterance in enumerate(corpus):
        rate = read_header(utterance.path).sample_rate
        write_m4a(folder / f"{number}.m4a", read_audio(utterance.path, None), rate)


def write_m4a(path: Path, waveform: torch.Tensor, rate: int) -> None:
    """Encode a waveform (samples,) with PyAV."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate, layout="mono")
        stream.bit_rate = BIT_RATE
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(waveform.numpy()[np.newaxis]), "fltp", "mono")
        frame.sample_rate, frame.pts = rate, 0
        container.mux([*stream.encode(frame), *stream.encode(None)])
