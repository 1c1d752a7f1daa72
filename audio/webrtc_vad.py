"""Speech detection of WebRTC, used as Resemblyzer uses it: long silences are removed from a waveform."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from files import optional_imports

SAMPLE_RATE = 16_000
# Length of the windows that are classified as speech or not: 30 ms (samples).
WINDOW = 480
# The mode that classifies the fewest windows as speech.
MODE = 3
# Number of windows before and after a window whose classes are averaged with its own.
BEFORE, AFTER = 3, 4
# Number of windows without speech that are kept before and after speech.
KEPT = 3


def check_webrtc_vad() -> None:
    """Refuse if the package of `remove_long_silences` is absent; the error message says how to install it."""
    with optional_imports():
        import webrtcvad  # noqa: F401


def remove_long_silences(waveform: Tensor) -> Tensor:
    """Keep the parts of a waveform with speech, and up to 90 ms before and after each.

    Windows of 30 ms are classified; a window counts as speech if most of the 8 windows around it are speech.

    Parameters
    ----------
    waveform : Tensor (samples,)
        float32, on the CPU, at 16 kHz; full scale is 1.

    Returns
    -------
    Tensor (kept samples,)
        Whole windows; empty if there is no speech.
    """
    import webrtcvad

    windows = waveform[: len(waveform) // WINDOW * WINDOW].reshape(-1, WINDOW)
    samples = (32_767 * windows).round().clamp(-32_768, 32_767).to(torch.int16).numpy()
    detector = webrtcvad.Vad(MODE)
    is_speech = np.array([detector.is_speech(window.tobytes(), SAMPLE_RATE) for window in samples], dtype=np.int64)
    is_kept = _count(is_speech, BEFORE, AFTER) > (BEFORE + 1 + AFTER) // 2
    is_kept = _count(is_kept.astype(np.int64), KEPT, KEPT) > 0
    return windows[torch.from_numpy(is_kept)].reshape(-1)


def _count(flags: NDArray[np.int64], before: int, after: int) -> NDArray[np.int64]:
    """Return how many flags are 1 among each window, those `before` it and those `after` it."""
    total = np.cumsum(np.pad(flags, (before + 1, after)))
    return total[before + 1 + after :] - total[: len(flags)]
