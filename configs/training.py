"""Settings of the script that trains a network."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from configs.base import (
    ClassWeight,
    CorpusConfig,
    Count,
    InputPath,
    InputText,
    Precision,
    Range,
    Seed,
    assignment_problem,
    fractions_problem,
)
from configs.paths import TRAINING_FILES, WritesInto

# Choices. A test compares them with the registries.
NetworkName = Literal[
    "conv1d", "conv2d", "transformer", "mamba", "mamba2", "bilstm", "query_transformer", "resnet18", "densenet121",
    "wav2vec2", "campplus",
]  # fmt: skip
FrontEndName = Literal["log_mel", "mfcc", "waveform", "fbank"]
TrainingHead = Literal["linear", "bn_mlp"]
Objective = Literal["classification", "triplet"]
Miner = Literal["random", "semihard", "hard"]
TrainingSplit = Literal["utterance", "session", "speaker", "mixed", "given"]

Share = Annotated[float, Range(0, 1)]


@dataclass(frozen=True, kw_only=True)
class TrainingConfig(CorpusConfig):
    """Train a network on a corpus, and save it as a frozen encoder."""

    is_joint: ClassVar[bool] = True

    download: bool = False
    """First download LibriSpeech dev-clean (338 MB) from OpenSLR into the folder of the corpus (by default data)."""
    download_url: str = "https://www.openslr.org/resources/12/dev-clean.tar.gz"
    """URL for --download; OpenSLR lists mirrors in other parts of the world."""
    subsets: tuple[str, ...] = ()
    """Folders of the corpus to use, such as train-clean-100 dev-clean; by default all."""
    network: tuple[NetworkName, ...] = ("conv1d",)
    """Network to train; several are an ensemble of classifiers, trained on the same batches; wav2vec2 and campplus are
    fine-tuned from --init_weights."""
    network_options: tuple[str, ...] = ()
    """Options of the network, such as bidirectional=false pooling=last for bilstm."""
    start_from: InputPath | None = None
    """File with the weights at the start: a trained encoder (encoder_NETWORK.pt), whose classifier is used too if it
    has the same speakers, or a checkpoint of SpeakerRecognitionFromScratch."""
    init_weights: InputText | None = None
    """Pretrained weights of wav2vec2 (a folder, or an id of the Hugging Face hub) or campplus (a file); published takes
    those that the encoder of this name takes."""
    freeze_feature_extractor: bool = False
    """Freeze the first convolutions of wav2vec2 or campplus."""
    freeze_layers: Annotated[int, Range(0, 1000)] = 0
    """Number of transformer layers of wav2vec2 to freeze, with everything before them."""
    pooling: str | None = None
    """Pooling of the frames of wav2vec2: mean (the default) or mean+std; for other networks as in --network_options."""
    gradient_checkpointing: bool = False
    """Compute the activations of the layers of wav2vec2 again in the backward pass, which takes less memory."""
    accumulate: Count = 1
    """Number of parts of a step that are computed one after another, which takes less memory."""
    save_published: bool = False
    """Also save bilstm or query_transformer in the form of SpeakerRecognitionFromScratch, as published_NETWORK.pt."""
    front_end: FrontEndName | Literal["auto"] = "auto"
    """Frames of the network; auto is mfcc for bilstm and query_transformer, waveform for wav2vec2 (each sample is a
    frame), fbank (of Kaldi) for campplus, otherwise log_mel."""
    front_end_options: tuple[str, ...] = ()
    """Options of the front end, such as n_mels=64."""
    objective: Objective = "classification"
    """What the network learns: to classify the training speakers, or to compare triplets."""
    head: TrainingHead = "linear"
    """Layers that classify the training speakers: one linear layer, or those of the head bn_mlp."""
    miner: Miner = "random"
    """Triplets that are used: the drawn ones, or all semi-hard or hard ones of a step."""
    margin: Annotated[float, Range(0, 2)] = 0.1
    """Margin of the triplet loss."""
    n_frames: Count | Literal["auto"] | None = "auto"
    """Length of a crop (frames), and for resnet18 and densenet121 the width of the image; None uses whole utterances;
    auto is 100 for bilstm and query_transformer, 256 for resnet18 and densenet121, 48000 (3 s) for wav2vec2, 300 for
    campplus, otherwise 200."""
    window: Count | Literal["auto"] | None = "auto"
    """Length of the windows (frames) whose embeddings are averaged after training, half a window apart; None embeds
    whole utterances; auto is 100 for bilstm and query_transformer, otherwise None."""
    mask_probability: Share = 0.0
    """Probability of each of the two masks of SpecAugment."""
    mask_features: Count = 8
    """Largest width of SpecAugment's mask over features."""
    mask_frames: Count = 20
    """Largest width of SpecAugment's mask over frames."""
    split_by: TrainingSplit | Literal["auto"] = "auto"
    """What is assigned to the training, validation and test parts; auto is speaker for triplets, and utterance
    otherwise; mixed draws parts of the sizes of the corpus's own from all of them; given takes the corpus's own."""
    fractions: tuple[float, float, float] = (0.8, 0.1, 0.1)
    """Shares of the training, validation and test parts."""
    per_session: bool = False
    """Train a network for each session with at least two speakers, such as each meeting, in a folder of its name; the
    parts are split within it, by utterance or as given."""
    start_session: str | None = None
    """Session to start with; those before it, in the order of their names, are not trained; with --per_session."""
    class_weight: ClassWeight | None = None
    """Weights in the loss; balanced gives every speaker the same total weight, however many utterances there are."""
    epochs: Count = 20
    """Maximum number of epochs."""
    steps_per_epoch: Count | None = None
    """Number of steps of an epoch; by default one crop of every training utterance, or each once as anchor."""
    batch_size: Count | None = None
    """Number of utterances, or triplets, of a step over all processes; by default 32, or 8 triplets."""
    optimizer: Literal["adam", "adamw"] = "adam"
    """Optimizer."""
    lr: Annotated[float, Range(1e-12, 1e3)] = 1e-3
    """Learning rate after the warm-up."""
    weight_decay: Annotated[float, Range(0, 1e3)] = 0.0
    """Weight decay of the optimizer."""
    schedule: Literal["constant", "cosine", "step"] = "constant"
    """Course of the learning rate; cosine falls to zero over all epochs; with step, it is multiplied by --step_factor
    after every --step_epochs epochs."""
    step_epochs: Count = 10
    """Number of epochs between two steps of the learning rate, with --schedule step."""
    step_factor: Annotated[float, Range(1e-6, 1)] = 0.1
    """Factor of each step of the learning rate, with --schedule step."""
    warmup_steps: Annotated[int, Range(0, 10**9)] = 0
    """Number of steps in which the learning rate rises from zero."""
    max_norm: Annotated[float, Range(1e-6, 1e6)] | None = None
    """Largest norm of a network's gradients; by default no limit."""
    patience: Count | None = None
    """Number of epochs without a better validation figure after which training stops; by default it does not."""
    precision: Precision = "fp32"
    """Precision of the network in training; auto is fp16 on a CUDA GPU, otherwise fp32. The saved encoder computes in
    fp32."""
    seed: Seed = 0
    """Random seed of the weights, the split and the batches."""
    test_every_epoch: bool = False
    """Also evaluate the test part after each epoch; it never selects."""
    num_workers: Annotated[int, Range(0, 1000)] | Literal["auto"] = "auto"
    """Number of processes that read crops; auto is one less than the cores, at least 1 and at most 8."""
    output_dir: Annotated[Path, WritesInto(TRAINING_FILES)] = Path("outputs")
    """Folder for the encoder, the figures and the checkpoint."""
    device: str = "auto"
    """Device: auto (CUDA if available), cpu, cuda, cuda:N or mps."""

    @property
    def all_network_options(self) -> tuple[str, ...]:
        """Options of the network, with --pooling."""
        return (*self.network_options, *([] if self.pooling is None else [f"pooling={self.pooling}"]))

    def training_settings(self) -> dict[str, Any]:
        """Return the settings of `train_encoder` that have their own flag."""
        triplets = self.objective == "triplet"
        same = (
            "start_from init_weights freeze_feature_extractor freeze_layers gradient_checkpointing accumulate head "
            "step_epochs step_factor save_published front_end objective miner margin n_frames window mask_probability "
            "mask_features mask_frames fractions epochs steps_per_epoch optimizer lr weight_decay schedule "
            "warmup_steps max_norm patience precision seed test_every_epoch num_workers output_dir device"
        )
        return {name: getattr(self, name) for name in same.split()} | {
            "class_weight": self.class_weight is not None,
            "batch_size": self.batch_size or (8 if triplets else 32),
            "split_by": ("speaker" if triplets else "utterance") if self.split_by == "auto" else self.split_by,
        }

    def problem(self) -> str | None:
        if self.data_dir is None and not self.download:
            return "No corpus is given. Give the folder of the corpus, as an argument or with --data_dir."
        if self.per_session and (self.objective == "triplet" or self.split_by not in ("auto", "utterance", "given")):
            return (
                "--per_session is for the objective classification, and for --split_by utterance or given, within each "
                "session."
            )
        if self.start_session is not None and not self.per_session:
            return "--start_session is for --per_session."
        if self.pooling is not None and any(text.startswith("pooling=") for text in self.network_options):
            return "The pooling is given with --pooling and with --network_options; give it in one of the two ways."
        problems = [
            fractions_problem(self.fractions),
            assignment_problem(self, "network_options", also=("pooling",)),
            assignment_problem(self, "front_end_options"),
        ]
        return next(filter(None, problems), None) or super().problem()
