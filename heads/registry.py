"""Registry of the heads: create a head by name, list its hyper-parameters, and add own heads."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from files import is_reference, load_choice, load_plugin, unknown_choice
from heads.base import Head, HeadError
from heads.head_source import HeadSource
from heads.scikit_learn import ScikitLearnHead, is_scikit_learn

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

# Heads that `register_head` added.
OWN_HEADS: dict[str, HeadSource] = {}


def register_head(head: Any) -> str:
    """Add an own head, so that it can be created by name and found for saved classifiers.

    Parameters
    ----------
    head : str, subclass or instance of Head, or classifier of scikit-learn
        The head, or ``FILE.py:CLASS`` or ``MODULE:CLASS``, which is imported. An instance gives hyper-parameters; it is
        not used itself. The name of a known head is returned as it is.

    Returns
    -------
    str
        The name for `create_head`: that of the class, which saved classifiers hold too.

    Raises
    ------
    HeadError
        There is no such head, file or class, it is not a head, or its name is that of a head of this project.

    Examples
    --------
    >>> from sklearn.svm import SVC
    >>> register_head(SVC(C=10))
    'SVC'
    """
    return register_heads([head])[0]


def register_heads(heads: Sequence[Any]) -> list[str]:
    """Add heads as `register_head` does, and return their names, such as ``SVC`` and ``SVC_2`` for two instances.

    Raises
    ------
    HeadError
        A head cannot be added, or two classes that can be saved have the same name.
    """
    found: dict[str, HeadSource] = {}
    for head in heads:
        if isinstance(head, str) and not is_reference(head):
            found[head] = head_source(head)
            continue
        source, number = _source_of(head), 1
        # An instance of a class of this project does not replace the head of that name.
        name = own = source.kind.__name__ if source.name in HEADS and source.fixed else source.name
        while name in found and not _is_same(found[name], source):
            if source.can_be_saved and found[name].kind is not source.kind:
                raise HeadError(f"Two heads are called {own}; rename one of the classes.")
            number += 1
            name = f"{own}_{number}"
        found[name] = source
    OWN_HEADS.update({name: source for name, source in found.items() if name not in HEADS})
    return list(found)


def head_source(name: str) -> HeadSource:
    """Return how the heads of a known name are created.

    A reference is not a name, so a name in a saved file imports nothing.

    Raises
    ------
    HeadError
        There is no such head; the message lists the valid names.
    """
    if name in OWN_HEADS:
        return OWN_HEADS[name]
    if name not in HEADS:
        raise HeadError(unknown_choice("head", name, [*HEADS, *OWN_HEADS]))
    return HeadSource(name, load_choice("head", name, HEADS, error_class=HeadError))


def create_head(name: str, **options: Any) -> Head:
    """Create an unfitted head.

    Parameters
    ----------
    name : str
        A name of `HEADS`, or one that `register_head` returned.
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
    return head_source(name).create(**options)


def head_options(name: str) -> tuple[str, ...]:
    """Return the names of a head's hyper-parameters, including those that it passes to its base class."""
    return tuple(head_source(name).option_types())


def search_space(name: str) -> dict[str, Any]:
    """Return the hyper-parameters of a head to tune, each with a distribution of scipy or a list of values."""
    return dict(head_source(name).kind.search_space)


def takes_layers(name: str) -> bool:
    """Return whether a head takes rows with all layers (n, L, D), not with one vector (n, D)."""
    return head_source(name).kind.takes_layers


def can_be_saved(name: str) -> bool:
    """Return whether a classifier with this head can be saved."""
    return head_source(name).can_be_saved


def _source_of(head: Any) -> HeadSource:
    """Return the source of a class, an instance or a reference."""
    given = head
    if isinstance(head, str):
        head = load_plugin(head, error_class=HeadError)
    kind = head if isinstance(head, type) else type(head)
    if issubclass(kind, Head):
        lacking = sorted(getattr(kind, "__abstractmethods__", ()))
        if lacking:
            raise HeadError(f"The head {kind.__name__} does not define {' and '.join(lacking)}; see docs/extending.md.")
        listed = {reference: name for name, reference in HEADS.items()}
        name = listed.get(f"{kind.__module__}:{kind.__name__}", kind.__name__)
        if name in HEADS and name == kind.__name__:
            raise HeadError(f"The class {name} has the name of one of this project's heads; rename it.")
        return HeadSource(name, kind, {} if head is kind else head.hyper_parameters())
    classifier = _instance(kind) if head is kind else head
    if not is_scikit_learn(classifier):
        raise HeadError(
            f"{given if isinstance(given, str) else kind.__name__} is neither a subclass of Head (from heads import "
            "Head) nor a classifier of scikit-learn."
        )
    return HeadSource(kind.__name__, ScikitLearnHead, {"classifier": classifier})


def _instance(kind: type[Any]) -> Any:
    """Create an instance of a class of scikit-learn with its default parameters."""
    if not hasattr(kind, "get_params"):
        return None
    required = [
        part.name
        for part in inspect.signature(kind).parameters.values()
        if part.default is part.empty and part.kind not in (part.VAR_POSITIONAL, part.VAR_KEYWORD)
    ]
    if required:
        raise HeadError(
            f"{kind.__name__} cannot be created without {' and '.join(required)}; in Python, give an instance of it."
        )
    return kind()


def _is_same(one: HeadSource, other: HeadSource) -> bool:
    return one.kind is other.kind and _is_equal(one.fixed, other.fixed)


def _is_equal(one: Any, other: Any) -> bool:
    """Compare hyper-parameters by value; arrays are compared element by element, estimators by their parameters."""
    if one is other:
        return True
    if type(one) is not type(other):
        return False
    if isinstance(one, Mapping):
        return one.keys() == other.keys() and all(_is_equal(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(_is_equal, one, other))
    if hasattr(one, "get_params") and not isinstance(one, type):
        return _is_equal(one.get_params(deep=False), other.get_params(deep=False))
    return bool(np.array_equal(one, other))
