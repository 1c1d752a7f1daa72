"""Save trained networks in the form of SpeakerRecognitionFromScratch, for that system and the encoder `scratch`."""

import logging
from collections.abc import Sequence
from pathlib import Path

from encoders import PublishedNetwork, TrainedNetwork
from files import Record
from training.settings import TrainingError, TrainingSettings

logger = logging.getLogger(__name__)


def check_publishable(settings: TrainingSettings) -> None:
    """Refuse settings of networks that the published form cannot describe.

    Parameters
    ----------
    settings : TrainingSettings
        Resolved settings of the run.

    Raises
    ------
    TrainingError
        The message says what the form needs.
    """
    problem = None
    networks = [name for name in settings.networks if name not in PublishedNetwork.NETWORKS]
    options = settings.front_end_options
    others = [name for name, value in options.items() if PublishedNetwork.FRONT_END_OPTIONS.get(name) != value]
    if networks:
        problem = f"the network is {networks[0]}; expected {' or '.join(PublishedNetwork.NETWORKS)}"
    elif settings.front_end != "mfcc" or others:
        given = " ".join([settings.front_end, *(f"{name}={options[name]}" for name in others)])
        problem = f"the front end is {given}; expected mfcc with its defaults"
    elif settings.windows != PublishedNetwork.WINDOW:
        problem = f"--window is {settings.window}; expected {PublishedNetwork.WINDOW[0]}"
    if problem:
        raise TrainingError(f"A network like this cannot be saved in the published form: {problem}.")


def write_published(trained: TrainedNetwork, rows: Sequence[Record], folder: Path) -> Path:
    """Write ``published_{network}.pt``: the weights, the training loss of each epoch, and the time of training.

    Parameters
    ----------
    trained : TrainedNetwork
    rows : sequence of dict
        Figures of the run.
    folder : Path

    Returns
    -------
    Path
    """
    epochs = [row for row in rows if row["part"] == "train" and row["network"] == trained.network]
    published = PublishedNetwork(
        network=trained.network,
        sizes={},
        tensors=trained.tensors,
        losses=[float(row["loss"]) for row in epochs],
        training_time=float(sum(row["seconds"] for row in epochs)),
    )
    path = published.save(folder / f"published_{trained.network}.pt")
    option = PublishedNetwork.HIDDEN_OPTIONS[trained.network]
    if option in trained.network_options:
        value = trained.network_options[option]
        flag = f"--pooling {value}" if option == "pooling" else f"--encoder_options {option}={value}"
        logger.warning("%s: the form does not contain %s; load it with %s", path, option, flag)
    return path
