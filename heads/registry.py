"""Heads by name."""

import inspect
from difflib import get_close_matches
from importlib import import_module
from numbers import Integral, Real
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np

from heads.base import Head, HeadError

# Name -> "module:Class".
HEADS: dict[str, str] = {
    "linear": "heads.linear:LinearHead",
    "mlp": "heads.mlp:MLPHead",
    "bn_mlp": "heads.bn_mlp:BNMLPHead",
    "weighted": "heads.weighted:WeightedHead",
    "cosine": "heads.cosine:CosineHead",
    "logistic": "heads.logistic:LogisticHead",
    "lda": "heads.lda:LDAHead",
    "plda": "heads.plda:PLDAHead",
    "centroid": "heads.centroid:CentroidHead",
}


def create_head(name: str, **options: Any) -> Head:
    """Make an unfitted head.

    Parameters
    ----------
    name : str
        A name of `HEADS`.
    **options
        Hyper-parameters, the arguments of the head's constructor.

    Raises
    ------
    HeadError
        There is no such head or option; the answer lists the valid ones.
    """
    valid = _hints(name)
    # numpy's numbers as plain ones, which a saved classifier can hold.
    options = {option: value.item() if isinstance(value, np.generic) else value for option, value in options.items()}
    for option, value in options.items():
        if option not in valid:
            near = get_close_matches(option, valid, n=1)
            nearest = f"perhaps you meant {near[0]}; " if near else ""
            raise HeadError(
                f"The head {name!r} has no option {option!r}; {nearest}valid options: {', '.join(valid) or 'none'}."
            )
        if not _is_of(value, valid[option]):
            raise HeadError(
                f"The option {option!r} of the head {name!r} is {value!r}; expected {_in_words(valid[option])}."
            )
    return _resolve(name)(**options)


def head_options(name: str) -> tuple[str, ...]:
    """Return the names of a head's hyper-parameters, those that it hands on to its base class among them."""
    return tuple(_hints(name))


def _hints(name: str) -> dict[str, Any]:
    """Return the types of a head's hyper-parameters."""
    hints: dict[str, Any] = {}
    for kind in _resolve(name).__mro__:
        parameters = list(inspect.signature(kind).parameters.values()) if issubclass(kind, Head) else []
        types = get_type_hints(kind.__init__)  # type: ignore[misc]
        named = [part.name for part in parameters if part.kind is not part.VAR_KEYWORD]
        hints = {each: types.get(each, Any) for each in named} | hints
        if all(part.kind is not part.VAR_KEYWORD for part in parameters):
            break
    return hints


def _in_words(hint: Any) -> str:
    if isinstance(hint, type) or not get_args(hint):
        return {int: "a whole number", float: "a number", bool: "true or false"}.get(hint, str(hint))
    return " or ".join(
        "none" if part in (None, type(None)) else part if isinstance(part, str) else _in_words(part)
        for part in get_args(hint)
    )


def _is_of(value: Any, hint: Any) -> bool:
    """Tell whether a value is of a type of hyper-parameters: numbers, choices, flags, or one of several of these."""
    if get_origin(hint) in (Union, UnionType):
        return any(_is_of(value, choice) for choice in get_args(hint))
    if get_origin(hint) is Literal:
        return value in get_args(hint)
    if hint in (int, float):
        return isinstance(value, Integral if hint is int else Real) and not isinstance(value, bool)
    return hint is Any or isinstance(value, hint)


def search_space(name: str) -> dict[str, Any]:
    """Return what tuning tries of a head: for some hyper-parameters a distribution of scipy, or a list of values."""
    return dict(_resolve(name).search_space)


def takes_layers(name: str) -> bool:
    """Tell whether a head takes all layers of each row (n, L, D), not one vector (n, D)."""
    return _resolve(name).takes_layers


def _resolve(name: str) -> type[Head]:
    if name not in HEADS:
        raise HeadError(f"There is no head {name!r}; choose one of: {', '.join(HEADS)}.")
    module, _, attribute = HEADS[name].partition(":")
    kind: type[Head] = getattr(import_module(module), attribute)
    return kind
