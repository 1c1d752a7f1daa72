"""Compare heads on cached features: split, fit, select by validation, test once."""

import logging
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from corpora import SplitBy
from evaluation.alignment import align, by_encoder
from evaluation.check_heads import check_heads
from evaluation.fitting import (
    FitJob,
    SelectedHead,
    fit_heads,
    refit_head,
    rows_of,
    settings_to_try,
    validate,
)
from evaluation.head_comparison import HeadComparison, add_intervals, origin_of
from evaluation.leaks import find_leaks
from evaluation.notes import describe_few_rows, describe_seen_speakers, describe_unsaved, describe_votes
from evaluation.outcome import Outcome
from evaluation.protocol import (
    SplitRows,
    protocols,
    split_rows,
    untested_speakers,
)
from evaluation.rejection import calibrate_rejection
from evaluation.summary import key_of, rank_by_validation, summarise
from features import FeatureSet, find_narrow_speakers
from files import Progress, Record, announce, track
from heads import (
    FittedHead,
    HeadError,
    SpeakerClassifier,
    can_be_saved,
    mean_logits,
    search_space,
    takes_layers,
)

logger = logging.getLogger(__name__)

# The head that selects a layer: it is cheap, and unlike LDA it can be fitted with fewer rows than dimensions.
LAYER_HEAD = "linear"
ENSEMBLE = "ensemble"


def compare_heads(
    features: FeatureSet | Sequence[FeatureSet],
    heads: Collection[Any] = ("linear", "mlp", "lda"),
    *,
    scaler: str = "standard",
    split_by: SplitBy = "utterance",
    fractions: Sequence[float] = (0.8, 0.1, 0.1),
    seed: int = 0,
    options: Mapping[str, Any] | None = None,
    seeds: int = 1,
    tune: int = 1,
    ensemble: bool = False,
    refit: bool = True,
) -> HeadComparison:
    """Train heads on the same splits of the same utterances, and select one by validation.

    The scaler and the heads are fitted on training rows only. By utterance, the validation accuracy selects; if the
    split has no validation part, that of one eighth of the training part, and each head is then fitted again on all of
    the training part (for the number of epochs that was best). By session, a cross-validation over the sessions of the
    training part selects, by log loss averaged over sessions. If speakers have several sessions, everything is done
    with both splits, and `split_by` selects. With the splits that the corpus gives, heads are trained, validated and
    tested on these alone.

    Parameters
    ----------
    features : FeatureSet, or a sequence of them
        (N, D) features, or (N, L, D): then the head `LAYER_HEAD` is trained on each layer, heads that take one vector
        use the best layer by validation, and heads that take layers use all. Several sets, from several encoders, are
        compared on the utterances that all of them have.
    heads : collection
        Names from `HEADS`, or ``all`` for those that take these features; subclasses and instances of `Head`;
        classifiers of scikit-learn, which are compared, but not saved and not in ensembles; or ``FILE.py:CLASS`` and
        ``MODULE:CLASS``, which are imported.
    scaler : str
        Name from `SCALERS`.
    split_by, fractions
        As in `corpora.split`.
    seed : int
        Seed of the first split, and of its heads.
    options : mapping, optional
        Hyper-parameters (``epochs``, ``lr``, ``device``, ...), each given to every head that has it.
    seeds : int
        Number of splits, with the seeds ``seed``, ``seed + 1``, ...
    tune : int
        Number of settings that are tried for each head on each split, including the given one; validation selects.
        1 uses the given one only.
    ensemble : bool
        Whether to average the logits of all heads of an encoder, of all encoders with the same head, and of all.
    refit : bool
        Whether the classifier is fitted again on all rows, after all figures are made. Figures, temperature and
        threshold remain those of the split.

    Returns
    -------
    HeadComparison

    Raises
    ------
    CorpusError
        The fractions are not valid, or the given splits are missing or share no speaker.
    HeadError
        There are fewer than two speakers, too few utterances for validation, no head that could be fitted, an option
        that no head has, or sets of features without a common utterance.

    Examples
    --------
    >>> labels = torch.arange(200) % 5
    >>> centres = torch.randn(5, 8, generator=torch.Generator().manual_seed(0))
    >>> rows = centres[labels] + torch.linspace(0, 1, 200)[:, None]
    >>> comparison = compare_heads(FeatureSet.from_arrays(rows, labels), ["centroid"])
    >>> comparison.best["head"], comparison.best["test_accuracy"]
    ('centroid', 1.0)
    """
    if seeds < 1 or tune < 1:
        raise HeadError(f"seeds and tune are {seeds} and {tune}; give 1 or more.")
    sets = by_encoder(align([features] if isinstance(features, FeatureSet) else list(features)))
    first = next((given for given in sets.values() if given.audio is not None), next(iter(sets.values())))
    has_layers = any(given.layers for given in sets.values())
    names = check_heads(heads, scaler=scaler, options=options, has_layers=has_layers)
    splits = _make_splits(first, split_by, fractions, seeds=range(seed, seed + seeds))
    state = _ComparisonState(sets, names, scaler, options=options or {}, tune=tune, ensemble=ensemble)
    work = [(kind, number, rows) for kind, own in splits.items() for number, rows in own.items()]
    with Progress("Comparing heads", len(work), unit="split", steady=True) as progress:
        for kind, number, rows in work:
            state.compare(kind, number, rows)
            progress.advance()
    if not state.rows:
        raise HeadError("No head could be fitted; the warnings above say why.")
    summary = summarise(state.rows)
    add_intervals(summary, state.outcomes, len(first.speakers))
    unsaved = [name for name in names if not can_be_saved(name)]
    saved = [record for record in summary if record["split_by"] == split_by and record["head"] not in unsaved]
    ranked = rank_by_validation(saved or summary, split_by)
    if not ranked:
        raise HeadError(f"No head could be fitted with the split by {split_by}; the warnings above say why.")
    best = ranked[0]
    untested = {str(kind): untested_speakers(first, own[seed]) for kind, own in splits.items()}
    rows = splits[split_by][best["seeds"][0]]
    training = {
        "corpus": first.corpus,
        "n_utterances": len(first) if refit else len(rows.train),
        "refit": refit,
        "split_by": split_by,
        "fractions": None if split_by == "given" else [float(share) for share in fractions],
        "seed": best["seeds"][0],
        "untested": list(untested[split_by]),
        "torch": str(torch.__version__),
    }
    classifier = _make_classifier(state, best, splits, training=training, seed=seed) if saved else None
    n_free = len(rows.train) - len(state.members[key_of(best)][0].head.classes_)
    leaks = find_leaks(first, {kind: list(own.values()) for kind, own in splits.items()})
    for label, given in sets.items():
        prefix = f"{label}: " if len(sets) > 1 else ""
        leaks += [prefix + sentence for sentence in [*find_narrow_speakers(given), *describe_seen_speakers(given)]]
    if not (options or {}).get("shrinkage"):
        leaks += describe_few_rows(summary, n_free, max(map(_dim, sets.values())))
    leaks += describe_unsaved(summary, best, unsaved=unsaved)
    leaks += describe_votes({record["head"]: state.members[key_of(record)][0].head for record in summary})
    return HeadComparison(
        rows=state.rows,
        summary=summary,
        best=best,
        saved=classifier,
        unsaved=unsaved,
        speakers=first.speakers,
        outcomes=dict(state.outcomes),
        sizes={kind: own[seed].sizes for kind, own in splits.items()},
        leaks=list(dict.fromkeys(leaks)),
        untested=untested,
        layers=state.layers,
        tuned=tune,
        open_set={} if classifier is None else classifier.metrics["open_set"],
        ids=first.ids,
        curves=state.curves,
        origins=[origin_of(label, given) for label, given in sets.items()],
    )


def _make_classifier(
    state: "_ComparisonState",
    best: Record,
    splits: Mapping[SplitBy, Mapping[int, SplitRows]],
    *,
    training: Record,
    seed: int,
) -> SpeakerClassifier:
    """Make the classifier of the best record, with a threshold for unknown speakers."""
    members, given = state.members[key_of(best)], state.fitted_on[key_of(best)]
    number, rejection, open_set = best["seeds"][0], None, {}
    train = splits[best["split_by"]][number].train
    # For new sessions, if enough speakers have several.
    kinds: list[SplitBy] = ["session", "utterance", "given"]
    with announce("Setting the threshold for unknown speakers"):
        for kind in filter(splits.__contains__, kinds):
            rejection = calibrate_rejection(
                members, given, state.scaler, rows=splits[kind][number], train=train, seed=seed
            )
            if rejection is not None:
                open_set = {**rejection.figures, "split_by": kind, "seed": number}
                break
    if training["refit"]:
        members = tuple(_refit(member, own) for member, own in zip(members, given, strict=True))
        if rejection is not None and rejection.detector is not None:
            rejection = replace(rejection, detector=_refit(rejection.detector, given[0]))
    return SpeakerClassifier(
        members,
        given[0].speakers,
        threshold=rejection.threshold if rejection else None,
        detector=rejection.detector if rejection else None,
        metrics=best | {"open_set": open_set},
        training=training,
    )


def _refit(member: FittedHead, features: FeatureSet) -> FittedHead:
    """Fit a member again on all rows."""
    return refit_head([member], features, member.head.hyper_parameters(), name=member.name)


def _dim(features: FeatureSet) -> int:
    return int(features.features.shape[-1])


def _make_splits(
    features: FeatureSet, split_by: SplitBy, fractions: Sequence[float], *, seeds: Sequence[int]
) -> dict[SplitBy, dict[int, SplitRows]]:
    """Split in the given way and, if that is possible with all seeds, in the other way."""
    splits: dict[SplitBy, dict[int, SplitRows]] = {}
    for kind in protocols(features, split_by):
        try:
            splits[kind] = {number: split_rows(features, kind, fractions, seed=number) for number in seeds}
        except HeadError as error:
            if kind == split_by:
                raise
            logger.warning("The split by %s is left out: %s", kind, error)
    return splits


@dataclass(eq=False)
class _ComparisonState:
    """Inputs that are the same for all splits, and the results so far."""

    sets: Mapping[str, FeatureSet]
    heads: Sequence[str]
    scaler: str
    options: Mapping[str, Any] = field(kw_only=True)
    tune: int = field(kw_only=True)
    ensemble: bool = field(kw_only=True)
    rows: list[Record] = field(default_factory=list, init=False)
    layers: list[Record] = field(default_factory=list, init=False)
    outcomes: dict[tuple[str, ...], list[Outcome]] = field(default_factory=lambda: defaultdict(list), init=False)
    # Those of the first seed.
    members: dict[tuple[str, ...], tuple[FittedHead, ...]] = field(default_factory=dict, init=False)
    # For each of these members, the set that it was fitted on.
    fitted_on: dict[tuple[str, ...], tuple[FeatureSet, ...]] = field(default_factory=dict, init=False)
    # Those of the first split.
    curves: dict[str, Sequence[Mapping[str, float]]] = field(default_factory=dict, init=False)
    warned: set[str] = field(default_factory=set, init=False)

    def compare(self, split_by: SplitBy, seed: int, rows: SplitRows) -> None:
        """Fit all heads to all sets on one split."""
        about = {"scaler": self.scaler, "split_by": split_by, "seed": seed}
        selected: dict[tuple[str, str], SelectedHead] = {}
        for label, features in self.sets.items():
            selected |= self._fit(label, features, rows, about=about)
        averaged = self._ensembles(selected) if self.ensemble else []
        single = [(label, name, [each]) for (label, name), each in selected.items()]
        for label, name, members in [*single, *averaged]:
            record, outcome, temperature = self._evaluate(label, name, members, rows=rows, about=about)
            self.rows.append(record)
            self.outcomes[key_of(record)].append(outcome)
            fitted = tuple(replace(member.fitted, temperature=temperature) for member in members)
            self.members.setdefault(key_of(record), fitted)
            self.fitted_on.setdefault(key_of(record), tuple(member.features for member in members))

    def _fit(
        self, label: str, features: FeatureSet, rows: SplitRows, *, about: Record
    ) -> dict[tuple[str, str], SelectedHead]:
        """Fit all heads to one set on one split."""
        options = {**self.options, "seed": about["seed"]}
        vectors = self._select_layer(label, features, rows, options=options, about=about)
        jobs = [
            FitJob(
                name,
                features if takes_layers(name) else vectors,
                settings_to_try(name, options, self.tune, seed=about["seed"]),
            )
            for name in self.heads
        ]
        of_set = f" for {label}" if len(self.sets) > 1 else ""
        selected = {}
        for job, result in fit_heads(jobs, self.scaler, rows):
            if isinstance(result, str):
                self._warn(f"The head {job.name} is left out{of_set}: {result}")
                continue
            selected[label, job.name] = result
            if result.history:
                self.curves.setdefault(f"{job.name} on {label}" if of_set else job.name, result.history)
        return selected

    def _ensembles(
        self, selected: Mapping[tuple[str, str], SelectedHead]
    ) -> Iterator[tuple[str, str, list[SelectedHead]]]:
        """Yield encoder, head and members of each ensemble: over heads, over encoders, and over both."""
        labels, every = list(self.sets), " + ".join(self.sets)
        heads = [head for head in self.heads if can_be_saved(head)]
        groups = [(label, ENSEMBLE, [label], heads) for label in labels]
        groups += [(every, head, labels, [head]) for head in heads] + [(every, ENSEMBLE, labels, heads)]
        seen: set[tuple[tuple[str, str], ...]] = set()
        for label, name, of_labels, of_heads in groups:
            keys = tuple(
                (one, head) for one in of_labels for head in of_heads if self.sets[one].layers or not takes_layers(head)
            )
            if len(keys) < 2 or keys in seen:
                continue
            seen.add(keys)
            missing = [head for one, head in keys if (one, head) not in selected]
            if missing:  # figures of ensembles with different members could not be averaged over splits
                self._warn(f"There is no ensemble of {label} ({name}), since {missing[0]} could not be fitted.")
                continue
            yield label, name, [selected[key] for key in keys]

    def _select_layer(
        self, label: str, features: FeatureSet, rows: SplitRows, *, options: Mapping[str, Any], about: Record
    ) -> FeatureSet:
        """Return the best layer by validation of `LAYER_HEAD`, or the set itself if it has one vector per row."""
        if not features.layers:
            return features
        jobs = [
            FitJob(LAYER_HEAD, features.layer(number), settings_to_try(LAYER_HEAD, options, 1, seed=about["seed"]))
            for number in features.layers
        ]
        records = []
        for _, result in track(fit_heads(jobs, self.scaler, rows), "Comparing layers", len(jobs), unit="layer"):
            if isinstance(result, str):
                raise HeadError(f"No layer of {label} can be selected by the head {LAYER_HEAD}: {result}")
            records.append(self._evaluate(label, LAYER_HEAD, [result], rows=rows, about=about)[0])
        self.layers += records
        return features.layer(rank_by_validation(records, about["split_by"])[0]["layer"])

    def _evaluate(
        self, label: str, name: str, members: Sequence[SelectedHead], *, rows: SplitRows, about: Record
    ) -> tuple[Record, Outcome, float]:
        """Return the row of one head or of an ensemble, its predictions for the test rows, and its temperature."""
        first = next(iter(self.sets.values()))
        classes = members[0].fitted.head.classes_
        val_logits = mean_logits([member.val_logits for member in members])
        test_logits = mean_logits([member.test_logits for member in members])
        y_val = rows_of(first, rows.validation)[1]
        found = validate(y_val, val_logits, classes, rows=rows)
        outcome = Outcome.of(
            rows.test, rows_of(first, rows.test)[1], test_logits / np.float32(found.temperature), classes=classes
        )
        layers: Sequence[int] = members[0].fitted.encoder.get("layers", ()) if len(members) == 1 else ()
        record = {
            "features": first.corpus,
            "encoder": label,
            "layer": layers[0] if len(layers) == 1 else None,
            "head": name,
            **about,
            "settings": _describe_settings(members) if self.tune > 1 else "",
            "val_accuracy": found.accuracy,
            "val_log_loss": found.log_loss,
            **outcome.figures(),
            "n_parameters": sum(member.fitted.head.n_parameters_ for member in members),
            "seconds": sum(member.seconds for member in members),
        }
        return record, outcome, found.temperature

    def _warn(self, sentence: str) -> None:
        """Log a warning once, not for every seed."""
        if sentence not in self.warned:
            self.warned.add(sentence)
            logger.warning(sentence)


def _describe_settings(members: Sequence[SelectedHead]) -> str:
    """Write the settings that tuning selected."""
    texts = []
    for member in members:
        name = member.fitted.name
        own = {key: member.settings[key] for key in search_space(name) if key in member.settings}
        values = [f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}" for key, value in own.items()]
        texts.append((f"{name}: " if len(members) > 1 else "") + (", ".join(values) or "as given"))
    return "; ".join(texts)
