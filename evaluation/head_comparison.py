"""`HeadComparison`: the result of a comparison of heads, on the terminal and in files."""

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from evaluation.notes import (
    describe_layer_weights,
    describe_perfect_test,
    describe_runner_up,
    describe_session_gap,
    describe_small_test,
    describe_tuning,
    describe_untested,
    session_gap,
)
from evaluation.outcome import Counts, Outcome, by_speaker, confusion, per_speaker
from evaluation.paired_differences import describe_encoders, encoder_differences, head_differences
from evaluation.result_tables import layers_table, results_tables
from evaluation.summary import describe_selection, key_of, mean_by_layer, rank_by_validation
from features import FeatureSet
from files import (
    TABLE_FILES,
    PathLike,
    Record,
    Table,
    TableFormat,
    count_of,
    format_percent,
    short_repr,
    timestamp,
    versions,
    write_csv,
    write_json,
    write_tensors,
)
from heads import HeadError, SpeakerClassifier, describe_open_set
from metrics import ratio_interval

# Pictures of the report; there is a layer curve for each encoder.
PICTURES = re.compile(
    r"(head_accuracies|confusion|speakers|calibration|learning_curves|embedding_map|layer_curve(_\d+)?)\.(png|pdf|svg)"
)
# Tables of the results folder.
TABLES = ("metrics.json", "per_speaker.csv", "confusion.csv", "answers.csv", "embedding_map.csv", *TABLE_FILES.values())

Outcomes = Mapping[tuple[str, ...], Sequence[Outcome]]


@dataclass(frozen=True, eq=False, kw_only=True)
class HeadComparison:
    """Result of `compare_heads`.

    Attributes
    ----------
    rows : list of dict
        One for each encoder, head, split and seed; accuracies are fractions.
    summary : list of dict
        Means and standard deviations over the seeds, and the 95 % interval of the test accuracy from a bootstrap over
        speakers.
    best : dict
        The record of the summary that `rank_by_validation` puts first, among those of the given split whose head can be
        saved; among all if none can.
    saved : SpeakerClassifier or None
        The best head, with the temperature and the threshold of the split of the first seed; it is fitted on all
        utterances, or on the training part of that split if ``refit`` is off. None if no head can be saved.
    speakers : tuple of str
    outcomes : dict
        Predictions for the test rows, one `Outcome` for each seed, by the `key_of` of each record of the summary.
    sizes : dict
        For each split, the numbers of utterances for ``train``, ``validation`` and ``test``, with the first seed.
    leaks : list of str
        Sentences about what makes the figures optimistic, such as sessions and audio that the test set shares with the
        training set, or a bandwidth that differs by speaker.
    untested : dict
        For each split, the speakers without a test utterance, with the first seed.
    layers : list of dict
        Rows of the head that selected a layer, one for each layer; empty if the features have one layer.
    tuned : int
        Number of settings that were tried for each head.
    open_set : dict
        How well the classifier rejects unknown speakers (`evaluation.rejection.Rejection`); empty if no speaker could
        be held out.
    ids : sequence of str
        Ids of the utterances, by the rows of the outcomes.
    curves : dict
        For each head that is trained in epochs, the figures of each epoch, on the first split.
    origins : list of dict
        For each encoder its spec, the number of utterances, and a digest of all their audio.
    unsaved : sequence of str
        Heads that are compared only: classifiers of scikit-learn.
    """

    rows: list[Record]
    summary: list[Record]
    best: Record
    saved: SpeakerClassifier | None
    speakers: tuple[str, ...]
    outcomes: Outcomes
    sizes: Mapping[str, Mapping[str, int]]
    leaks: Sequence[str] = ()
    untested: Mapping[str, Sequence[str]] = field(default_factory=dict)
    layers: list[Record] = field(default_factory=list)
    tuned: int = 1
    open_set: Record = field(default_factory=dict)
    ids: Sequence[str] = ()
    curves: Mapping[str, Sequence[Mapping[str, float]]] = field(default_factory=dict)
    origins: Sequence[Record] = ()
    unsaved: Sequence[str] = ()

    @property
    def classifier(self) -> SpeakerClassifier:
        """The classifier that is saved.

        Raises
        ------
        HeadError
            No head of the comparison can be saved.
        """
        if self.saved is None:
            names = ", ".join(self.unsaved)
            raise HeadError(
                f"There is no classifier, because {names} cannot be saved; compare a head of this project too."
            )
        return self.saved

    def layer_records(self, encoder: str) -> list[Record]:
        """Return the means over seeds for each layer of an encoder, on the given split, in the order of layers."""
        return mean_by_layer(self.layers, encoder, self.best["split_by"])

    def selected_layer(self, encoder: str) -> int:
        """Return the layer that is best by validation over all seeds."""
        return int(rank_by_validation(self.layer_records(encoder), self.best["split_by"])[0]["layer"])

    @cached_property
    def session_gap(self) -> Record:
        """The best head's accuracy in known and in new sessions, as `evaluation.notes.session_gap` returns it."""
        if math.isnan(self.best["test_accuracy"]):
            return {}
        return session_gap(self.summary, self.best, self._counts)

    @cached_property
    def differences(self) -> dict[str, list[Record]]:
        """Paired differences of test accuracy: the best head against each other (``heads``), and of ``encoders``."""
        return {
            "heads": head_differences(self.summary, self.best, self._counts),
            "encoders": encoder_differences(self.summary, self.best, self._counts),
        }

    @cached_property
    def notes(self) -> list[str]:
        """Sentences to read with the table."""
        selected = describe_selection(self.sizes[self.best["split_by"]])
        notes = [f"* {selected}; percent, 95 % intervals over speakers"]
        for encoder in dict.fromkeys(record["encoder"] for record in self.layers):
            notes += self._describe_layers(encoder)
        notes += describe_layer_weights(() if self.saved is None else self.saved.members)
        notes += describe_tuning([row["head"] for row in self.rows], self.tuned)
        if self.tuned > 1:
            settings = next(row["settings"] for row in self.rows if key_of(row) == key_of(self.best))
            notes.append(f"{self.best['head']} on the first split: {settings}")
        if not math.isnan(self.best["test_accuracy"]):
            ranked = [record for record in self.summary if self.saved is None or record["head"] not in self.unsaved]
            of_encoders = describe_encoders(self.differences["encoders"])
            notes += of_encoders or describe_runner_up(ranked, self.best, self._counts)
            notes += describe_session_gap(self.session_gap, self.best, self.sizes)
            notes += describe_small_test(self.best, self.sizes)
            notes += describe_perfect_test(self.outcomes[key_of(self.best)])
        notes += describe_open_set(self.open_set)
        if self.saved is not None and self.saved.training["refit"]:
            n_all = count_of(self.saved.training["n_utterances"], "utterance")
            notes.append(f"the saved classifier is fitted on all {n_all}, after the figures were made")
        notes += self.leaks
        notes += describe_untested(self.untested)
        return notes

    def __repr__(self) -> str:
        best = self.best
        heads = count_of(len({(record["encoder"], record["head"]) for record in self.summary}), "head")
        accuracy = f"test accuracy {format_percent(best['test_accuracy'], 2)}"
        if math.isnan(best["test_accuracy"]):
            accuracy = f"validation accuracy {format_percent(best['val_accuracy'], 2)}"
        selected = f"{best['head']} on {best['encoder']}, split by {best['split_by']}"
        return short_repr(self, f"{best['features']}: {heads}; best by validation: {selected}, {accuracy} %")

    def _repr_html_(self) -> str:
        return self._tables()[-1].html()

    def table(self, form: TableFormat = "plain") -> str:
        """Return the summary as a table in percent, the selected head marked with a star, and the notes."""
        return self._tables()[-1].text(form)

    def layer_table(self, encoder: str, form: TableFormat = "plain") -> str:
        """Return the accuracies of an encoder's layers in percent, the selected one marked with a star."""
        split_by = self.best["split_by"]
        return layers_table(self.layers, encoder, split_by=split_by, sizes=self.sizes[split_by]).text(form)

    def tables(self, form: TableFormat = "plain") -> list[str]:
        """Return the tables of all encoders with several layers, and the table of the heads."""
        return [table.text(form) for table in self._tables()]

    def _tables(self) -> list[Table]:
        names = ("summary", "best", "sizes", "notes", "unsaved", "layers")
        return results_tables({name: getattr(self, name) for name in names})

    def save(self, folder: PathLike, corpus: str, command: str) -> list[Path]:
        """Write ``metrics.json``, the CSV files, and the classifier, if there is one, and its scaler; return the paths.

        Raises
        ------
        OutputError
            The folder cannot be written.
        """
        folder = Path(folder)
        content = {
            "rows": self.rows,
            "summary": self.summary,
            "best": self.best,
            **({"layers": self.layers} if self.layers else {}),
            **({"unsaved": self.unsaved} if self.unsaved else {}),
            "sizes": self.sizes,
            "untested": self.untested,
            "session_gap": self.session_gap,
            "differences": self.differences,
            "open_set": self.open_set,
            "speakers": self.speakers,
            "curves": self.curves,
            "origins": self.origins,
            "notes": self.notes,
            "command": command,
            "created": timestamp(),
            "versions": versions(),
        }
        outcomes = self.outcomes[key_of(self.best)]
        # Remove the files of an earlier run. metrics.json, which marks a finished run, is written last.
        for name in (f"{corpus}_scaler.pt", "report.html", *TABLES):
            (folder / name).unlink(missing_ok=True)
        for path in [path for path in folder.glob("*.*") if PICTURES.fullmatch(path.name)]:
            path.unlink(missing_ok=True)
        written = [] if self.saved is None else [self.saved.save(folder / f"speaker_classifier_{corpus}.pt")]
        written.append(write_csv(folder / "metrics.csv", self.rows))
        if self.saved is not None and len(self.saved.members) == 1:
            scaler = self.saved.members[0].scaler
            written.append(write_tensors(folder / f"{corpus}_scaler.pt", scaler.state_dict()))
        if self.sizes[self.best["split_by"]]["test"]:
            written += [
                write_csv(folder / "per_speaker.csv", per_speaker(outcomes, self.speakers)),
                write_csv(folder / "confusion.csv", confusion(outcomes, self.speakers)),
                write_csv(folder / "answers.csv", self._answers(outcomes)),
            ]
        return [*written, write_json(folder / "metrics.json", content)]

    def _answers(self, outcomes: Sequence[Outcome]) -> list[Record]:
        """Return the predictions of the best head for the test recordings of all seeds."""
        return [
            {
                "seed": seed,
                "id": self.ids[row],
                "speaker": self.speakers[label],
                "named": self.speakers[predicted],
                "right": int(rank == 0),
                "probability": confidence,
            }
            for seed, outcome in zip(self.best["seeds"], outcomes, strict=True)
            for row, label, predicted, rank, confidence in zip(
                outcome.rows.tolist(), outcome.labels.tolist(), outcome.predictions.tolist(),
                outcome.ranks.tolist(), outcome.confidences.tolist(), strict=True,
            )
        ]  # fmt: skip

    def _describe_layers(self, encoder: str) -> list[str]:
        """Name the layers of an encoder that were selected on the splits, if a head uses them."""
        used = sorted({row["layer"] for row in self.rows if row["encoder"] == encoder and row["layer"] is not None})
        if not used:
            return []
        layers = f"layer {used[0]}" if len(used) == 1 else f"layers {', '.join(map(str, used))}"
        return [f"heads that take one vector use {layers} of {encoder}, the best by validation"]

    def _counts(self, record: Record) -> Counts:
        return by_speaker(self.outcomes[key_of(record)], len(self.speakers))


def add_intervals(summary: list[Record], outcomes: Outcomes, n_speakers: int) -> None:
    """Add ``test_accuracy_low`` and ``test_accuracy_high`` to the records of a summary."""
    for record in summary:
        low, high = ratio_interval(*by_speaker(outcomes[key_of(record)], n_speakers))
        record |= {"test_accuracy_low": low, "test_accuracy_high": high}


def origin_of(name: str, features: FeatureSet) -> Record:
    """Return where vectors come from: the encoder's spec, and a digest of all the audio."""
    audio = features.audio
    digest = None if audio is None else hashlib.sha256(audio.digest.contiguous().numpy().tobytes()).hexdigest()
    return {"name": name, "spec": features.encoder, "n_utterances": len(features), "audio_sha256": digest}
