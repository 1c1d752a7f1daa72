"""Compare heads on cached features: split, fit, choose by validation, test once."""

import logging
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from audio import InputError
from corpora import split
from evaluation.comparison import Comparison, Record, choose_best, summarise
from features import FeatureSet
from features.provenance import content_keys
from heads import Head, HeadError, Scaler, SpeakerClassifier, create_head, create_scaler
from heads.minibatch import MinibatchHead
from heads.registry import head_options, takes_layers
from metrics import log_loss, macro_f1, top_k_accuracy

logger = logging.getLogger(__name__)

Rows = NDArray[np.int64]

# The share of train that chooses where the split has no validation part.
SELECTION_SHARE = 1 / 8
# The cheap head by which a layer is chosen; closed forms such as LDA fail where rows are fewer than dimensions.
LAYER_HEAD = "linear"


def compare_heads(
    features: FeatureSet,
    heads: Sequence[str] = ("linear", "mlp", "lda"),
    scaler: str = "standard",
    split_by: Literal["utterance", "session"] = "utterance",
    fractions: Sequence[float] = (0.8, 0.1, 0.1),
    seed: int = 0,
    options: Mapping[str, Any] | None = None,
) -> Comparison:
    """Train heads on the same split of the same features, and choose one by its validation accuracy.

    The scaler and the heads are fitted on training rows alone. Where the split has no validation part, one eighth of
    train chooses, and every head is then fitted again on all of train (for as many epochs as were best), so that its
    test figures are those of the whole training part.

    Parameters
    ----------
    features : FeatureSet
        (N, D) features, or (N, L, D): then the head `LAYER_HEAD` is trained on each layer, the best by validation is
        the one that heads of one vector are given, and heads over layers are given all.
    heads : sequence of str
        Names from `HEADS`.
    scaler : str
        Name from `SCALERS`.
    split_by, fractions, seed
        As `corpora.split` takes them; the seed is the heads' too.
    options : mapping, optional
        Hyper-parameters (``epochs``, ``lr``, ``device``, ...), each given to every head that has it.

    Returns
    -------
    Comparison

    Raises
    ------
    HeadError
        Fewer than two speakers, too few utterances to choose by, or no head that could be fitted.
    """
    _check_features(features)
    _warn_of_copies(features)
    parts = _split(features, split_by, fractions, seed)
    settings = {**(options or {}), "seed": seed}
    create_scaler(scaler)  # an unknown name is an error, not a head to leave out
    options_of = {name: head_options(name) for name in (*heads, LAYER_HEAD)}
    about = {"scaler": scaler, "split_by": split_by, "seed": seed}

    def evaluate(name: str, given: FeatureSet) -> tuple[_Fitted, Record]:
        own = {key: settings[key] for key in options_of[name] if key in settings}
        result = _fit(name, scaler, own, given, parts)
        numbers = given.encoder.get("layers", ())
        record = {
            "features": given.corpus,
            "encoder": given.encoder.get("name"),
            "layer": numbers[0] if len(numbers) == 1 else None,
            "head": name,
            **about,
            **result.validation,
            **_test(result, given, parts.test),
            "n_parameters": result.head.n_parameters_,
            "seconds": result.seconds,
        }
        return result, record

    layers: list[Record] = []
    vectors = features
    if features.layers:
        shown = tqdm(features.layers, "Layers", unit="layer", disable=None)
        layers = [evaluate(LAYER_HEAD, features.layer(number))[1] for number in shown]
        vectors = features.layer(choose_best(layers, split_by)["layer"])
    rows: list[Record] = []
    fitted: dict[str, _Fitted] = {}
    for name in dict.fromkeys(heads):
        try:
            fitted[name], row = evaluate(name, features if takes_layers(name) else vectors)
        except InputError as error:
            logger.warning("The head %s is left out: %s", name, error)
            continue
        rows.append(row)
    if not rows:
        raise HeadError("No head could be fitted; the warnings above say why.")
    summary = summarise(rows)
    best = choose_best(summary, split_by)
    present, tested = set(features.labels.tolist()), set(features.labels[torch.from_numpy(parts.test)].tolist())
    untested = tuple(features.speakers[label] for label in sorted(present - tested))
    training = {
        "corpus": features.corpus,
        "n_utterances": len(parts.train),
        "split_by": split_by,
        "fractions": [float(share) for share in fractions],
        "seed": seed,
        "untested": list(untested),
        "torch": str(torch.__version__),
    }
    winner = fitted[best["head"]]
    classifier = SpeakerClassifier(
        scaler=winner.scaler,
        head=winner.head,
        head_name=best["head"],
        speakers=features.speakers,
        encoder=(features if takes_layers(best["head"]) else vectors).encoder,
        crop=features.audio.crop if features.audio else None,
        metrics=best,
        training=training,
    )
    return Comparison(rows, summary, best, classifier, untested, layers)


def _check_features(features: FeatureSet) -> None:
    spoiled = (~torch.isfinite(features.features).flatten(1).all(dim=1)).nonzero().flatten().tolist()
    if spoiled:
        first = features.ids[spoiled[0]]
        raise HeadError(f"{len(spoiled)} rows hold NaN or infinity, the first is that of {first}; remove them.")


def _warn_of_copies(features: FeatureSet) -> None:
    """Tell of recordings that are there twice: one copy in train gives the other away in test."""
    if features.audio is None:
        return
    keys = content_keys(features)
    contents = Counter(keys)
    copies = [utterance for utterance, key in zip(features.ids, keys, strict=True) if contents[key] > 1]
    if copies:
        logger.warning(
            "%d files are copies of one another, which flatters the test figures: %s%s",
            len(copies), ", ".join(copies[:4]), ", ..." if len(copies) > 4 else "",
        )  # fmt: skip


@dataclass(frozen=True, eq=False)
class _Parts:
    """Row numbers: `fit` and `validation` choose, and `train` is what the tested head is fitted on."""

    fit: Rows
    validation: Rows
    train: Rows
    test: Rows


@dataclass(frozen=True, eq=False)
class _Fitted:
    head: Head
    scaler: Scaler
    validation: dict[str, float]
    seconds: float


def _split(features: FeatureSet, split_by: Any, fractions: Sequence[float], seed: int) -> _Parts:
    labels = features.labels.numpy()
    if len(np.unique(labels)) < 2:
        raise HeadError(
            f"All {len(features)} utterances are of one speaker ({features.speakers[labels[0]]}); two are the least to "
            "tell apart. Add another speaker's recordings."
        )
    sessions = features.sessions.numpy()
    train, validation, test = split(labels, sessions, fractions, split_by, seed, features.speakers)
    if len(validation):
        return _Parts(train, validation, train, test)
    logger.info(
        "The split leaves no validation part: one eighth of train chooses, then each head is fitted on all of train."
    )
    shares = (1 - SELECTION_SHARE, SELECTION_SHARE, 0)
    inner, held_out, _ = split(labels[train], sessions[train], shares, split_by, seed)
    if not len(held_out) and split_by == "session":
        logger.warning(
            "No speaker has a session to spare for choosing: utterances of the training sessions choose the head, so "
            "the validation accuracy is that of known sessions."
        )
        inner, held_out, _ = split(labels[train], None, shares, "utterance", seed)
    if not len(held_out):
        raise HeadError(
            "No speaker has an utterance to spare for choosing a head: each is left with one to train on. Add "
            "recordings, three of some speakers at least."
        )
    return _Parts(train[inner], train[held_out], train, test)


def _fit(name: str, scaler_name: str, options: Mapping[str, Any], features: FeatureSet, parts: _Parts) -> _Fitted:
    started = time.perf_counter()
    head, scaler = create_head(name, **options), create_scaler(scaler_name)
    X, y = _rows(features, parts.fit)
    X_val, y_val = _rows(features, parts.validation)
    X, X_val = scaler.fit(X).transform(X), scaler.transform(X_val)
    head.fit(X, y, X_val, y_val)
    scores = head.decision_function(X_val)
    validation = {
        "val_accuracy": top_k_accuracy(y_val, scores, 1, head.classes_),
        "val_log_loss": log_loss(y_val, scores, head.classes_),
    }
    if len(parts.train) > len(parts.fit):
        if isinstance(head, MinibatchHead):
            options = {**options, "epochs": head.best_epoch_}
        head, scaler = create_head(name, **options), create_scaler(scaler_name)
        X, y = _rows(features, parts.train)
        head.fit(scaler.fit(X).transform(X), y)
    return _Fitted(head, scaler, validation, time.perf_counter() - started)


def _test(fitted: _Fitted, features: FeatureSet, rows: Rows) -> dict[str, float]:
    X, y = _rows(features, rows)
    scores = fitted.head.decision_function(fitted.scaler.transform(X))
    classes = fitted.head.classes_
    return {
        "test_accuracy": top_k_accuracy(y, scores, 1, classes),
        "test_macro_f1": macro_f1(y, classes[scores.argmax(axis=1)]),
        "test_top3": top_k_accuracy(y, scores, 3, classes),
        "test_top5": top_k_accuracy(y, scores, 5, classes),
    }


def _rows(features: FeatureSet, rows: Rows) -> tuple[Tensor, Rows]:
    index = torch.from_numpy(rows)
    return features.features[index], features.labels[index].numpy()
