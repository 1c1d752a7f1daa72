"""Registry of the heads: create a head by name, and list its hyper-parameters."""

import inspect
from typing import Any, get_type_hints

import numpy as np

from files import check_options, load_choice
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
    """Create an unfitted head.

    Parameters
    ----------
    name : str
        A name of `HEADS`.
    **options
        Hyper-parameters, the arguments of the head's constructor.

    Raises
    ------
    HeadError
        There is no such head or option; the message lists the valid ones.

    Examples
    --------
    >>> head = create_head("lda").fit([[0.0], [0.2], [3.0], [3.2]], ["ann", "ann", "bob", "bob"])
    >>> head.predict([[0.4], [2.9]]).tolist()
    ['ann', 'bob']
    """
    # A saved classifier can hold plain numbers, but not those of numpy.
    options = {option: value.item() if isinstance(value, np.generic) else value for option, value in options.items()}
    check_options(f"The head {name!r}", options, _hints(name), error_class=HeadError)
    return _resolve(name)(**options)


def head_options(name: str) -> tuple[str, ...]:
    """Return the names of a head's hyper-parameters, including those that it passes to its base class."""
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


def search_space(name: str) -> dict[str, Any]:
    """Return the hyper-parameters of a head to tune, each with a distribution of scipy or a list of values."""
    return dict(_resolve(name).search_space)


def takes_layers(name: str) -> bool:
    """Return whether a head takes rows with all layers (n, L, D), not with one vector (n, D)."""
    return _resolve(name).takes_layers


def _resolve(name: str) -> type[Head]:
    kind: type[Head] = load_choice("head", name, HEADS, error_class=HeadError)
    return kind
