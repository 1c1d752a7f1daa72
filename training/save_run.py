"""Save what a training run made."""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

from corpora import Corpus
from encoders import Pretrained, TrainedNetwork, lazy_encoder, trained_file_name
from files import Record
from heads import FittedHead, SpeakerClassifier, create_head, create_scaler
from training.member import Member
from training.published_form import write_published
from training.starting_point import StartingPoint
from training.training_run import TrainingRun

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class TrainedEncoder:
    """What a training run made.

    Attributes
    ----------
    paths : tuple of Path
        Saved networks, for ``load_encoder("trained", weights=path)``, in the order of the networks.
    classifier : Path or None
        Saved `SpeakerClassifier` of the training speakers, if the objective was classification.
    rows : list of dict
        Figures: one row for each epoch, part and network.
    figures : dict
        Row of the test part or, without one, of the validation part at the selected epoch; that of the ensemble if
        there are several networks.
    failures : tuple of (str, str)
        Utterances that could not be read, with the reasons.
    notes : tuple of str
        Sentences about what the validation and test parts cannot measure, and the speakers that they leave out.
    published : tuple of Path
        The networks in the form of SpeakerRecognitionFromScratch, if they were to be saved in it.
    """

    paths: tuple[Path, ...]
    classifier: Path | None
    rows: list[Record] = field(repr=False)
    figures: Record = field(default_factory=dict)
    failures: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    published: tuple[Path, ...] = ()

    @property
    def saved(self) -> tuple[Path, ...]:
        """Files that were saved, the networks first."""
        return (*self.paths, *self.published, *([] if self.classifier is None else [self.classifier]))


def save_run(
    run: TrainingRun,
    corpus: Corpus,
    folder: Path,
    *,
    epoch: int,
    notes: Sequence[str],
    start: StartingPoint | None,
    save_published: bool,
) -> TrainedEncoder:
    """Save what a finished run made: the encoders, the classifier and the figures.

    Parameters
    ----------
    run : TrainingRun
        The run, with the weights of its best epoch.
    corpus : Corpus
    folder : Path
        Output folder.
    epoch : int
        The best epoch, from 1.
    notes : sequence of str
        Sentences about what the parts cannot measure.
    start : StartingPoint or None
        The weights that the training started from.
    save_published : bool
        Whether to save the network in the form of SpeakerRecognitionFromScratch too.

    Raises
    ------
    EncoderError
        A weight is not finite.
    OutputError
        A file cannot be written.
    """
    rows = run.state.rows
    selected = [row for row in rows if row["part"] != "train" and row["epoch"] == epoch]
    figures = selected[-1] if selected else rows[-1]
    paths, published, heads = [], [], []
    if run.fabric.is_global_zero:
        for member in run.members:
            path = folder / trained_file_name(member.name)
            network = _network_of(run, member, corpus, figures=figures, start=start)
            paths.append(network.save(path))
            if run.pretrained is not None:
                _log_sizes(member, path, run.pretrained)
            if save_published:
                published.append(write_published(network, rows, folder))
            if member.classifier is not None:
                heads.append(_head_of(run, member, path))
        _write_results(run, figures, epoch=epoch)
    classifier = None
    if heads:
        trained = SpeakerClassifier(
            tuple(heads), run.data.speakers, metrics=figures, training={"corpus": corpus.name, **run.settings.content()}
        )
        classifier = trained.save(folder / f"speaker_classifier_{corpus.name}.pt")
    failures = tuple(sorted(run.data.faults.items()))
    return TrainedEncoder(
        tuple(paths),
        classifier,
        rows,
        figures=figures,
        failures=failures,
        notes=tuple(notes),
        published=tuple(published),
    )


def _write_results(run: TrainingRun, figures: Record, *, epoch: int) -> None:
    """Write the figures of a finished run, and the confusion matrix or the DET curve of the part of the last row."""
    if run.outputs and math.isfinite(figures["accuracy"]):
        run.results.write_confusion(run.outputs[-1][1], run.evaluator)
    elif run.outputs and math.isfinite(figures["eer"]):
        run.results.write_det_curve(run.outputs, run.evaluator)
    run.results.write_figures(run.state.rows, selected_epoch=epoch, is_finished=True)


def _network_of(
    run: TrainingRun, member: Member, corpus: Corpus, *, figures: Record, start: StartingPoint | None
) -> TrainedNetwork:
    layer = member.classifier
    classifier = None
    if isinstance(layer, nn.Linear):
        state = _copied(layer.state_dict())
        classifier = state["weight"], state["bias"]
    return TrainedNetwork(
        network=member.name,
        network_options=run.settings.options_of(member.name),
        front_end=run.settings.front_end,
        front_end_options=run.settings.front_end_options,
        window=run.settings.windows,
        tensors=_copied(member.network_weights()),
        pretrained=run.pretrained,
        classifier=classifier,
        speakers=run.data.speakers,
        corpora=tuple(dict.fromkeys([*_earlier_corpora(run, start), corpus.name])),
        earlier_speakers=start.all_speakers if start else (),
        figures=figures,
        settings=run.settings.content(),
    )


def _log_sizes(member: Member, path: Path, pretrained: Pretrained) -> None:
    """Log how much of a fine-tuned network is stored."""
    sizes = {name: tensor.nbytes / 1e6 for name, tensor in member.model.network.state_dict().items()}
    stored = sum(sizes[name] for name in member.network_weights())
    if len(member.network_weights()) == len(sizes):
        logger.info("%s holds the whole network (%.1f MB)", path, stored)
        return
    logger.info(
        "%s holds the %.1f MB of the network that were trained; the other %.1f MB stay in %s (digest %s)",
        path, stored, sum(sizes.values()) - stored, pretrained.source, pretrained.digest[:8],
    )  # fmt: skip


def _earlier_corpora(run: TrainingRun, start: StartingPoint | None) -> tuple[str, ...]:
    """Return the names of the corpora with speakers that trained the weights at the start."""
    if start is not None:
        return start.corpora
    return ("unknown",) if run.pretrained is not None and run.pretrained.network == "campplus" else ()


def _head_of(run: TrainingRun, member: Member, path: Path) -> FittedHead:
    """Return the layers that classified the training speakers as a head on the saved encoder."""
    layers, name = member.classifier, run.settings.head
    assert layers is not None
    encoder = lazy_encoder("trained", path)
    head = create_head(name).load_state_dict(_copied(layers.state_dict()), list(range(len(run.data.speakers))))
    return FittedHead(
        scaler=create_scaler("none").fit(torch.zeros(1, member.model.network.dim)),
        head=head,
        name=name,
        encoder=encoder.spec,
        crop=encoder.max_duration,
    )


def _copied(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().cpu().clone() for name, tensor in state.items()}
