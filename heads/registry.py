"""Heads by name."""

import inspect
from difflib import get_close_matches
from importlib import import_module
from typing import Any

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
    kind = _resolve(name)
    valid = head_options(name)
    for option in options:
        if option not in valid:
            near = get_close_matches(option, valid, n=1)
            hint = f"perhaps you meant {near[0]}; " if near else ""
            raise HeadError(
                f"The head {name!r} has no option {option!r}; {hint}valid options: {', '.join(valid) or 'none'}."
            )
    return kind(**options)


def head_options(name: str) -> tuple[str, ...]:
    """Return the names of a head's hyper-parameters, those that it hands on to its base class among them."""
    names: list[str] = []
    for kind in _resolve(name).__mro__:
        parameters = list(inspect.signature(kind).parameters.values()) if issubclass(kind, Head) else []
        names += [part.name for part in parameters if part.kind is not part.VAR_KEYWORD]
        if all(part.kind is not part.VAR_KEYWORD for part in parameters):
            break
    return tuple(dict.fromkeys(names))


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
