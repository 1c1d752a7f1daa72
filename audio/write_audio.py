"""Write a waveform to a file."""

from pathlib import Path

import numpy as np
import soundfile
from torch import Tensor

from files import PathLike, write_atomically

# One step of 16-bit samples, whose full scale is 1.
STEP = 2**-15


def write_audio(path: PathLike, waveform: Tensor, sample_rate: int) -> Path:
    """Write a mono waveform to a 16-bit file, atomically, and return its path.

    Samples are rounded to the nearest step, so that those of a 16-bit file are written unchanged. Samples beyond full
    scale, which resampling can make, are clipped.

    Parameters
    ----------
    path : path-like
        The file; its suffix is the format: ``.wav`` or ``.flac``.
    waveform : Tensor (samples,)
        float32; full scale is 1.
    sample_rate : int
        Sampling rate (Hz).

    Raises
    ------
    OutputError
        The file cannot be written.
    """
    path = Path(path)
    # libsndfile would scale floating-point samples by 32,767, and divide by 32,768 when it reads them.
    samples = np.clip(np.rint(waveform.numpy() / STEP), -(2**15), 2**15 - 1).astype(np.int16)
    form = path.suffix[1:].upper()
    return write_atomically(
        path, lambda file: soundfile.write(file, samples, sample_rate, format=form, subtype="PCM_16")
    )
