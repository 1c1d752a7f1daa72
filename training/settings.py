"""Settings of a training run, as plain values."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from encoders import Pretrained, is_pretrained
from files import InputError, unknown_choice
from networks import default_settings, network_options

OBJECTIVES = ("classification", "triplet")
MINERS = ("random", "semihard", "hard")
OPTIMIZERS = ("adam", "adamw")
SCHEDULES = ("constant", "cosine", "step")
HEADS = ("linear", "bn_mlp")
STEP_EPOCHS, STEP_FACTOR = 10, 0.1
PRECISIONS: dict[str, Any] = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


class TrainingError(InputError):
    """A network cannot be trained with these settings, on this corpus, or any further."""


class UnusableCorpusError(TrainingError):
    """The corpus has too few speakers or utterances to train a network.

    Attributes
    ----------
    faults : dict
        Utterances that could not be read: id -> reason.
    """

    def __init__(self, message: str, faults: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.faults = dict(faults or {})


@contextmanager
def with_faults(faults: Mapping[str, str]) -> Iterator[None]:
    """Add the utterances that could not be read to an `UnusableCorpusError`."""
    try:
        yield
    except UnusableCorpusError as error:
        error.faults.update(faults)
        raise


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """Everything that changes the weights of a trained network, except the corpus.

    Attributes
    ----------
    networks : tuple of str
        Names in `NETWORKS`. Several networks are trained on the same batches, and their logits are averaged.
    network_options : dict
        Options of the networks. Those whose images have a fixed width also get `n_frames`; see `options_of`.
    front_end : str
        Name in `FRONT_ENDS`; ``auto`` is that of the first network.
    front_end_options : dict
        Options of the front end, instead of its defaults or those of the network.
    objective : {"classification", "triplet"}
        ``classification`` trains a linear layer that tells the training speakers apart, with cross entropy. ``triplet``
        compares cosines of an anchor with the same and with another speaker.
    class_weight : bool
        Whether every speaker has the same total weight in the cross entropy.
    margin : float
        Margin of the triplet loss.
    miner : {"random", "semihard", "hard"}
        Triplets of a batch that are used: those that were drawn, or all that are semi-hard or hard.
    n_frames : int, "auto" or None
        Length of a crop (frames); ``auto`` is that of the first network, None uses whole utterances.
    window : int, "auto" or None
        Length of the windows (frames), half a window apart, whose embeddings are averaged after training; ``auto`` is
        that of the first network, None embeds whole utterances.
    mask_probability : float
        Probability of each of the two masks of SpecAugment; 0 switches it off.
    mask_features, mask_frames : int
        Largest width of the mask over features, and over frames.
    epochs : int
        Number of epochs.
    steps_per_epoch : int or None
        Number of steps; None takes one crop of each training utterance.
    batch_size : int
        Utterances of a step, or triplets, over all processes.
    optimizer : {"adam", "adamw"}
    lr : float
        Learning rate, after the warm-up.
    weight_decay : float
    schedule : {"constant", "cosine", "step"}
        Course of the learning rate; ``cosine`` falls to zero over all epochs, ``step`` multiplies it by
        `step_factor` after every `step_epochs` epochs.
    step_epochs : int
    step_factor : float
    warmup_steps : int
        Number of steps in which the learning rate rises from zero.
    max_norm : float or None
        Largest norm of the gradients of a network; None does not limit it.
    patience : int or None
        Number of epochs without a better validation figure after which training stops.
    precision : {"auto", "fp32", "bf16", "fp16"}
        ``auto`` is fp16 on a CUDA GPU, otherwise fp32.
    seed : int
        Random seed of the weights, the split and the batches.
    start_from : str or None
        Digest of the weights that training starts from; None starts from random ones.
    head : {"linear", "bn_mlp"}
        Layers that classify the training speakers: a linear one, or those of the head of this name.
    init_weights : str or None
        Digest of the pretrained weights of ``wav2vec2`` or ``campplus``.
    freeze_feature_extractor : bool
        Whether the first convolutions of a pretrained network are frozen.
    freeze_layers : int
        Number of transformer layers of a pretrained network that are frozen, with everything before them.
    gradient_checkpointing : bool
        Whether the activations of a layer are computed again in the backward pass, which takes less memory.
    accumulate : int
        Number of parts of a step that are computed one after another, which takes less memory.
    """

    networks: tuple[str, ...]
    network_options: dict[str, Any] = field(default_factory=dict)
    front_end: str = "auto"
    front_end_options: dict[str, Any] = field(default_factory=dict)
    objective: str = "classification"
    class_weight: bool = False
    margin: float = 0.1
    miner: str = "random"
    n_frames: int | Literal["auto"] | None = "auto"
    window: int | Literal["auto"] | None = "auto"
    mask_probability: float = 0.0
    mask_features: int = 8
    mask_frames: int = 20
    epochs: int = 20
    steps_per_epoch: int | None = None
    batch_size: int = 32
    optimizer: str = "adam"
    lr: float = 1e-3
    weight_decay: float = 0.0
    schedule: str = "constant"
    warmup_steps: int = 0
    max_norm: float | None = None
    patience: int | None = None
    precision: str = "fp32"
    seed: int = 0
    start_from: str | None = None
    step_epochs: int = STEP_EPOCHS
    step_factor: float = STEP_FACTOR
    head: str = "linear"
    init_weights: str | None = None
    freeze_feature_extractor: bool = False
    freeze_layers: int = 0
    gradient_checkpointing: bool = False
    accumulate: int = 1

    def __post_init__(self) -> None:
        for name, value, valid in (
            ("objective", self.objective, OBJECTIVES),
            ("miner", self.miner, MINERS),
            ("optimizer", self.optimizer, OPTIMIZERS),
            ("schedule", self.schedule, SCHEDULES),
            ("head", self.head, HEADS),
            ("precision", self.precision, ("auto", *PRECISIONS)),
        ):
            if value not in valid:
                raise TrainingError(unknown_choice(name, value, valid))
        if not self.networks or len(set(self.networks)) != len(self.networks):
            raise TrainingError(f"The networks are {', '.join(self.networks) or 'none'}; give each one once.")
        if len(self.networks) > 1 and self.objective != "classification":
            raise TrainingError("Several networks are trained together only as an ensemble of classifiers.")
        if self.objective != "classification" and (self.head != "linear" or self.accumulate > 1):
            raise TrainingError("--head and --accumulate are for the objective classification.")
        if self.schedule != "step" and (self.step_epochs, self.step_factor) != (STEP_EPOCHS, STEP_FACTOR):
            raise TrainingError("--step_epochs and --step_factor are for --schedule step.")
        if self.batch_size < self.min_batch:
            raise TrainingError(f"--head bn_mlp needs a --batch_size of {self.min_batch} or more.")
        if self.accumulate * self.min_batch > self.batch_size:
            raise TrainingError(
                f"A step of {self.batch_size} utterances cannot be computed in {self.accumulate} parts of at least "
                f"{self.min_batch}; give a larger --batch_size or a smaller --accumulate."
            )
        self._check_fine_tuning()

    def _check_fine_tuning(self) -> None:
        """Refuse settings of pretrained networks for others, and of others for pretrained networks."""
        if not any(map(is_pretrained, self.networks)):
            given = {
                "freeze_feature_extractor": self.freeze_feature_extractor,
                "freeze_layers": self.freeze_layers > 0,
                "gradient_checkpointing": self.gradient_checkpointing,
            }
            for name in (name for name, is_given in given.items() if is_given):
                raise TrainingError(f"--{name} is for a pretrained network: --network wav2vec2 or campplus.")
            return
        name = self.networks[0]
        if len(self.networks) > 1:
            raise TrainingError(f"A pretrained network is trained alone; give one --network, such as {name}.")
        if self.front_end not in ("auto", default_settings(name)["front_end"]):
            raise TrainingError(f"The network {name!r} has its own front end; leave out --front_end {self.front_end}.")
        if self.mask_probability > 0 and name == "wav2vec2":
            raise TrainingError("--mask_probability masks spectrograms; the network 'wav2vec2' takes waveforms.")

    @property
    def min_batch(self) -> int:
        """Minimum number of utterances that are computed together: batch normalisation needs two."""
        return 2 if self.head == "bn_mlp" else 1

    @property
    def windows(self) -> tuple[int, int] | None:
        """Length and step of the windows (frames)."""
        return (self.window, max(self.window // 2, 1)) if isinstance(self.window, int) else None

    def options_of(self, network: str) -> dict[str, Any]:
        """Return the options of a network; the width of an image is the length of a crop."""
        has_width = isinstance(self.n_frames, int) and "n_frames" in network_options(network)
        return {"n_frames": self.n_frames, **self.network_options} if has_width else self.network_options

    def resolve(self, device: str = "cpu", pretrained: Pretrained | None = None) -> "TrainingSettings":
        """Return the settings with the defaults of the first network in the place of ``auto``.

        Parameters
        ----------
        device : str
            Type of the device, such as ``cuda``.
        pretrained : Pretrained, optional
            Weights that the network is fine-tuned from, whose options are taken over.

        Raises
        ------
        TrainingError
            The precision needs another device.
        """
        if self.precision == "fp16" and device != "cuda":
            raise TrainingError(f"The precision fp16 needs a CUDA GPU; on {device}, give --precision bf16 or fp32.")
        defaults = default_settings(self.networks[0])
        network_options = self.network_options
        if pretrained is not None:
            defaults["front_end_options"] = pretrained.front_end_options
            network_options = {**pretrained.network_options, **network_options}
        options = self.front_end_options
        if self.front_end in ("auto", defaults["front_end"]):
            options = {**defaults["front_end_options"], **options}
        return replace(
            self,
            network_options=network_options,
            init_weights=None if pretrained is None else pretrained.digest[:16],
            front_end=defaults["front_end"] if self.front_end == "auto" else self.front_end,
            front_end_options=options,
            n_frames=defaults["n_frames"] if self.n_frames == "auto" else self.n_frames,
            window=defaults["window"] if self.window == "auto" else self.window,
            precision=("fp16" if device == "cuda" else "fp32") if self.precision == "auto" else self.precision,
        )

    def content(self) -> dict[str, Any]:
        """Return the settings as plain values, which a file can hold."""
        content = asdict(self)
        content["networks"] = list(self.networks)
        return content
