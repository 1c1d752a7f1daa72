"""Compare heads on cached features: split, fit, choose by validation, test once."""

import logging
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from evaluation.alignment import align, by_encoder
from evaluation.comparison import Comparison, add_intervals, origin_of
from evaluation.fitting import Chosen, Job, fit_heads, fit_temperature, rows_of, settings_to_try, validation_score
from evaluation.notes import about_few_rows
from evaluation.open_set import calibrate_rejection
from evaluation.outcome import Outcome
from evaluation.protocol import Parts, SplitBy, leaks, make_parts, protocols, under_two_names, untested_speakers
from evaluation.records import Record, key_of, rank_by_validation, summarise
from features import FeatureSet
from heads import HEADS, FittedHead, HeadError, SpeakerClassifier, create_head, create_scaler
from heads.classifier import mean_logits
from heads.registry import head_options, search_space, takes_layers

logger = logging.getLogger(__name__)

# The cheap head by which a layer is chosen; closed forms such as LDA fail where rows are fewer than dimensions.
LAYER_HEAD = "linear"
ENSEMBLE = "ensemble"


def compare_heads(
    features: FeatureSet | Sequence[FeatureSet],
    heads: Sequence[str] = ("linear", "mlp", "lda"),
    scaler: str = "standard",
    split_by: SplitBy = "utterance",
    fractions: Sequence[float] = (0.8, 0.1, 0.1),
    seed: int = 0,
    options: Mapping[str, Any] | None = None,
    seeds: int = 1,
    tune: int = 1,
    ensemble: bool = False,
) -> Comparison:
    """Train heads on the same splits of the same utterances, and choose one by its validation accuracy.

    The scaler and the heads are fitted on training rows alone. Where the split has no validation part, one eighth of
    train chooses, and every head is then fitted again on all of train (for as many epochs as were best), so that its
    test figures are those of the whole training part. Where speakers have several sessions everything is done by both
    splits, and the one asked for chooses.

    Parameters
    ----------
    features : FeatureSet, or a sequence of them
        (N, D) features, or (N, L, D): then the head `LAYER_HEAD` is trained on each layer, the best by validation is
        the one that heads of one vector are given, and heads over layers are given all. Of several sets, which are of
        several encoders, the utterances that all have are compared.
    heads : sequence of str
        Names from `HEADS`, or ``all``: those that take these features.
    scaler : str
        Name from `SCALERS`.
    split_by, fractions
        As `corpora.split` takes them.
    seed : int
        Of the first split, and of its heads.
    options : mapping, optional
        Hyper-parameters (``epochs``, ``lr``, ``device``, ...), each given to every head that has it.
    seeds : int
        Splits, by the seeds ``seed``, ``seed + 1``, ...
    tune : int
        Settings that are tried of each head on each split, the given ones among them; validation chooses. 1 is the
        given ones alone.
    ensemble : bool
        Also average the logits of all heads of an encoder, of all encoders with the same head, and of all.

    Returns
    -------
    Comparison

    Raises
    ------
    HeadError
        Fewer than two speakers, too few utterances to choose by, no head that could be fitted, an option that no head
        has, or sets of features without a common utterance.
    """
    if seeds < 1 or tune < 1:
        raise HeadError(f"seeds and tune are {seeds} and {tune}; give 1 or more.")
    sets = by_encoder(align([features] if isinstance(features, FeatureSet) else list(features)))
    first = next((given for given in sets.values() if given.audio is not None), next(iter(sets.values())))
    names = _names([heads] if isinstance(heads, str) else heads, any(given.layers for given in sets.values()))
    _check_options(names, options or {})
    create_scaler(scaler)  # an unknown name is an error, not a head to leave out
    splits = _make_splits(first, split_by, fractions, range(seed, seed + seeds))
    run = _Run(sets, names, scaler, options or {}, tune, ensemble)
    work = [(kind, number, parts) for kind, own in splits.items() for number, parts in own.items()]
    for kind, number, parts in tqdm(work, "Splits", unit="split", disable=None if len(work) > 1 else True):
        run.compare(kind, number, parts)
    if not run.rows:
        raise HeadError("No head could be fitted; the warnings above say why.")
    summary = summarise(run.rows)
    add_intervals(summary, run.outcomes, len(first.speakers))
    best = rank_by_validation(summary, split_by)[0]
    parts = splits[split_by][best["seeds"][0]]
    untested = {str(kind): untested_speakers(first, own[seed]) for kind, own in splits.items()}
    training = {
        "corpus": first.corpus,
        "n_utterances": len(parts.train),
        "split_by": split_by,
        "fractions": [float(share) for share in fractions],
        "seed": best["seeds"][0],
        "untested": list(untested[split_by]),
        "torch": str(torch.__version__),
    }
    members = run.members[key_of(best)]
    given = [member.view(min(sets.values(), key=member.distance)) for member in members]
    rejection = calibrate_rejection(members, given, scaler, parts, seed)
    open_set = {**rejection.figures, "split_by": split_by, "seed": best["seeds"][0]} if rejection else {}
    n_free = len(parts.train) - len(members[0].head.classes_)
    warnings = [sentence for kind, own in splits.items() for sentence in leaks(first, list(own.values()), kind)]
    warnings += [*under_two_names(first), *about_few_rows(summary, n_free, max(map(_dim, sets.values())))]
    return Comparison(
        rows=run.rows,
        summary=summary,
        best=best,
        classifier=SpeakerClassifier(
            members,
            first.speakers,
            threshold=rejection.threshold if rejection else None,
            detector=rejection.detector if rejection else None,
            metrics=best | {"open_set": open_set},
            training=training,
        ),
        speakers=first.speakers,
        outcomes=dict(run.outcomes),
        sizes={kind: own[seed].sizes for kind, own in splits.items()},
        leaks=list(dict.fromkeys(warnings)),
        untested=untested,
        layers=run.layers,
        tuned=tune,
        open_set=open_set,
        ids=first.ids,
        curves=run.curves,
        origins=[origin_of(label, given) for label, given in sets.items()],
    )


def _dim(features: FeatureSet) -> int:
    return int(features.features.shape[-1])


def _names(heads: Sequence[str], has_layers: bool) -> list[str]:
    """Return the heads' names, each once; ``all`` stands for those that take the features."""
    fitting = [name for name in HEADS if has_layers or not takes_layers(name)]
    return list(dict.fromkeys(one for name in heads for one in (fitting if name == "all" else [name])))


def _make_splits(
    features: FeatureSet, split_by: SplitBy, fractions: Sequence[float], seeds: Sequence[int]
) -> dict[SplitBy, dict[int, Parts]]:
    """Split in the way asked for and, where that can be done with all seeds, in the other."""
    splits: dict[SplitBy, dict[int, Parts]] = {}
    for kind in protocols(features, split_by):
        try:
            splits[kind] = {number: make_parts(features, kind, fractions, number) for number in seeds}
        except HeadError as error:
            if kind == split_by:
                raise
            logger.warning("There is no split by %s beside the one by %s: %s", kind, split_by, error)
    return splits


class _Run:
    """What all splits have in common, and what they gave so far."""

    def __init__(
        self,
        sets: Mapping[str, FeatureSet],
        heads: Sequence[str],
        scaler: str,
        options: Mapping[str, Any],
        tune: int,
        ensemble: bool,
    ) -> None:
        self.sets, self.heads, self.scaler = sets, heads, scaler
        self.options, self.tune, self.ensemble = options, tune, ensemble
        self.rows: list[Record] = []
        self.layers: list[Record] = []
        self.outcomes: dict[tuple[str, ...], list[Outcome]] = defaultdict(list)
        self.members: dict[tuple[str, ...], tuple[FittedHead, ...]] = {}  # the first seed's
        self.curves: dict[str, Sequence[Mapping[str, float]]] = {}  # the first split's
        self.told: set[str] = set()

    def compare(self, split_by: SplitBy, seed: int, parts: Parts) -> None:
        """Fit all heads to all sets by one split."""
        about = {"scaler": self.scaler, "split_by": split_by, "seed": seed}
        options = {**self.options, "seed": seed}
        chosen: dict[tuple[str, str], Chosen] = {}
        for label, features in self.sets.items():
            vectors = self._choose_layer(label, features, parts, options, about)
            jobs = [
                Job(
                    name,
                    features if takes_layers(name) else vectors,
                    settings_to_try(name, options, self.tune, seed),
                )
                for name in self.heads
            ]
            for job, result in fit_heads(jobs, self.scaler, parts):
                if isinstance(result, Chosen):
                    chosen[label, job.name] = result
                    if result.history:
                        name = f"{job.name} of {label}" if len(self.sets) > 1 else job.name
                        self.curves.setdefault(name, result.history)
                else:
                    self._tell(f"The head {job.name} is left out{f' for {label}' * (len(self.sets) > 1)}: {result}")
        averaged = self._ensembles(chosen) if self.ensemble else []
        single = [(label, name, [each]) for (label, name), each in chosen.items()]
        for label, name, members in [*single, *averaged]:
            record, outcome, temperature = self._judge(label, name, members, parts, about)
            self.rows.append(record)
            self.outcomes[key_of(record)].append(outcome)
            fitted = tuple(replace(member.fitted, temperature=temperature) for member in members)
            self.members.setdefault(key_of(record), fitted)

    def _ensembles(self, chosen: Mapping[tuple[str, str], Chosen]) -> Iterator[tuple[str, str, list[Chosen]]]:
        """Yield encoder, head and members of each ensemble: over heads, over encoders, and over both."""
        labels, every = list(self.sets), " + ".join(self.sets)
        groups = [(label, ENSEMBLE, [label], self.heads) for label in labels]
        groups += [(every, head, labels, [head]) for head in self.heads] + [(every, ENSEMBLE, labels, self.heads)]
        seen: set[tuple[tuple[str, str], ...]] = set()
        for label, name, of_labels, of_heads in groups:
            keys = tuple(
                (one, head) for one in of_labels for head in of_heads if self.sets[one].layers or not takes_layers(head)
            )
            if len(keys) < 2 or keys in seen:
                continue
            seen.add(keys)
            missing = [head for one, head in keys if (one, head) not in chosen]
            if missing:  # of other members in other splits its figures would not be of one thing
                self._tell(f"There is no ensemble of {label} ({name}), since {missing[0]} could not be fitted.")
                continue
            yield label, name, [chosen[key] for key in keys]

    def _choose_layer(
        self, label: str, features: FeatureSet, parts: Parts, options: Mapping[str, Any], about: Record
    ) -> FeatureSet:
        """Return the layer that the cheap head does best on, by validation; the set itself if it has but one vector."""
        if not features.layers:
            return features
        jobs = [
            Job(LAYER_HEAD, features.layer(number), settings_to_try(LAYER_HEAD, options, 1, about["seed"]))
            for number in features.layers
        ]
        records = []
        shown = tqdm(fit_heads(jobs, self.scaler, parts), "Layers", len(jobs), unit="layer", disable=None, leave=False)
        for _, result in shown:
            if isinstance(result, str):
                raise HeadError(f"No layer of {label} can be chosen by the head {LAYER_HEAD}: {result}")
            records.append(self._judge(label, LAYER_HEAD, [result], parts, about)[0])
        self.layers += records
        return features.layer(rank_by_validation(records, about["split_by"])[0]["layer"])

    def _judge(
        self, label: str, name: str, members: Sequence[Chosen], parts: Parts, about: Record
    ) -> tuple[Record, Outcome, float]:
        """Return the row of one head, or of the mean of several, its answers to the test rows, and its temperature."""
        first = next(iter(self.sets.values()))
        classes = members[0].fitted.head.classes_
        val_logits, test_logits = (
            mean_logits([getattr(member, part) for member in members]) for part in ("val_logits", "test_logits")
        )
        y_val = rows_of(first, parts.validation)[1]
        temperature = fit_temperature(val_logits, y_val, classes)
        val_logits, test_logits = (logits / np.float32(temperature) for logits in (val_logits, test_logits))
        accuracy, loss = validation_score(y_val, val_logits, classes)
        outcome = Outcome.of(parts.test, rows_of(first, parts.test)[1], test_logits, classes)
        layers: Sequence[int] = members[0].fitted.encoder.get("layers", ()) if len(members) == 1 else ()
        record = {
            "features": first.corpus,
            "encoder": label,
            "layer": layers[0] if len(layers) == 1 else None,
            "head": name,
            **about,
            "settings": _settings(members) if self.tune > 1 else "",
            "val_accuracy": accuracy,
            "val_log_loss": loss,
            **outcome.figures(),
            "n_parameters": sum(member.fitted.head.n_parameters_ for member in members),
            "seconds": sum(member.seconds for member in members),
        }
        return record, outcome, temperature

    def _tell(self, sentence: str) -> None:
        """Warn once, not at every seed."""
        if sentence not in self.told:
            self.told.add(sentence)
            logger.warning(sentence)


def _settings(members: Sequence[Chosen]) -> str:
    """Write the settings that tuning chose."""
    texts = []
    for member in members:
        name = member.fitted.name
        own = {key: member.settings[key] for key in search_space(name) if key in member.settings}
        values = [f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}" for key, value in own.items()]
        texts.append((f"{name}: " if len(members) > 1 else "") + (", ".join(values) or "as given"))
    return "; ".join(texts)


def _check_options(heads: Sequence[str], options: Mapping[str, Any]) -> None:
    """Refuse what cannot be an option of a head: that is an error, not a head to leave out."""
    valid = {option for name in HEADS for option in head_options(name)}
    for option in options:
        if option == "seed":
            raise HeadError("The seed of the heads is that of their split; give it as seed.")
        if option not in valid:
            near = get_close_matches(option, valid, n=1)
            hint = f"perhaps you meant {near[0]}; " if near else ""
            raise HeadError(f"No head has the option {option!r}; {hint}there are: {', '.join(sorted(valid))}.")
    for name in heads:
        create_head(name, **{option: value for option, value in options.items() if option in head_options(name)})
