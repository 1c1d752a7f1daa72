"""Checks of a run that fine-tunes a pretrained network."""

from collections.abc import Sequence

from encoders import Pretrained, is_pretrained
from files import PathLike
from networks import FrontEnd, default_settings
from training.settings import TrainingError, TrainingSettings


def find_pretrained(
    networks: Sequence[str], init_weights: PathLike | None, start_from: PathLike | None
) -> Pretrained | None:
    """Find the pretrained weights of a run; networks that are trained from scratch have none.

    Parameters
    ----------
    networks : sequence of str
        Names of the networks.
    init_weights : path-like or None
        The weights, as `Pretrained.find` takes them.
    start_from : path-like or None
        File of a trained network that the run would start from.

    Raises
    ------
    TrainingError
        A pretrained network has no weights, or another network has some.
    EncoderError
        The weights are not found, or they are those of another network.
    """
    name = networks[0]
    if not is_pretrained(name):
        if init_weights is not None:
            raise TrainingError(
                f"--init_weights is for a pretrained network, wav2vec2 or campplus; the network is {name!r}. Its "
                "weights at the start are given with --start_from."
            )
        return None
    if start_from is not None:
        raise TrainingError(f"The network {name!r} starts from --init_weights; leave out --start_from.")
    if init_weights is None:
        what = "a folder or an id of the Hugging Face hub" if name == "wav2vec2" else "a file"
        raise TrainingError(
            f"The network {name!r} is fine-tuned from pretrained weights. Give them with --init_weights, as {what}, or "
            "--init_weights published."
        )
    return Pretrained.find(name, str(init_weights))


def check_crops(settings: TrainingSettings, front_end: FrontEnd) -> int:
    """Return the minimum number of frames of an utterance, and refuse crops and windows that are too short.

    Parameters
    ----------
    settings : TrainingSettings
        Resolved settings of the run.
    front_end : FrontEnd
        Front end of the run.

    Raises
    ------
    TrainingError
        They have fewer frames than the network needs.
    """
    defaults = [default_settings(name) for name in settings.networks]
    least = max(int(each["min_crop"]) for each in defaults)
    for flag, value in (("n_frames", settings.n_frames), ("window", settings.window)):
        if isinstance(value, int) and value < least:
            rate, hop = front_end.sample_rate, front_end.hop
            unit = "samples" if hop == 1 else f"{hop} samples apart"
            raise TrainingError(
                f"--{flag} is {value}; the network {settings.networks[0]!r} needs {least} frames. Its frames are "
                f"{unit} at {rate // 1000} kHz: 3 s are {3 * rate // hop} frames."
            )
    return max(int(each["min_frames"]) for each in defaults)
