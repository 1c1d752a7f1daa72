"""Names and values that a user selects: registries, options, and the messages that refuse invalid ones."""

from collections.abc import Collection, Mapping
from difflib import get_close_matches
from importlib import import_module
from numbers import Integral, Real
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from files.errors import InputError


def unknown_choice(
    what: str,
    name: str,
    valid: Collection[str],
    *,
    owner: str = "There",
    max_listed: int = 100,
    advice: str = "",
) -> str:
    """Return the error message for an unknown name, with the valid names and, if one is similar, a suggestion.

    Parameters
    ----------
    what : str
        Kind of thing that is named, such as ``head``.
    name : str
        The unknown name.
    valid : collection of str
        All valid names.
    owner : str
        Owner of the names, such as ``The head 'lda'``; by default none.
    max_listed : int
        Maximum number of valid names in the message.
    advice : str
        Sentence that says where all valid names are; added if the message does not list all, or if there are none.

    Examples
    --------
    >>> unknown_choice("head", "ldaa", ["linear", "lda"])
    "There is no head 'ldaa'; perhaps you meant 'lda'. Choose one of: linear, lda."
    >>> unknown_choice("option", "c", ["C", "max_iter"], owner="The head 'logistic'")
    "The head 'logistic' has no option 'c'. Choose one of: C, max_iter."
    """
    near = get_close_matches(name, valid, n=1)
    hint = f"; perhaps you meant {near[0]!r}" if near else ""
    verb = "is" if owner == "There" else "has"
    is_cut = len(valid) > max_listed
    names = ", ".join([*valid][:max_listed])
    listing = f"{'Valid names include' if is_cut else 'Choose one of'}: {names}."
    if not valid:
        listing = "There are none to choose from."
    if advice and (is_cut or not valid):
        listing += f" {advice}"
    return f"{owner} {verb} no {what} {name!r}{hint}. {listing}"


def load_choice(what: str, name: str, registry: Mapping[str, str], *, error_class: type[InputError]) -> Any:
    """Import the object that a registry lists under a name.

    Parameters
    ----------
    what : str
        Kind of thing in the registry, for the error message.
    name : str
        A key of the registry.
    registry : mapping
        Name -> ``"module:attribute"``, a string so that loading one does not import the libraries of the others.
    error_class : type
        Error to raise.

    Raises
    ------
    InputError
        The registry has no such name; the message lists the valid ones.
    """
    if name not in registry:
        raise error_class(unknown_choice(what, name, registry))
    module, _, attribute = registry[name].partition(":")
    return getattr(import_module(module), attribute)


def check_options(
    owner: str, options: Mapping[str, Any], types: Mapping[str, Any], *, error_class: type[InputError]
) -> None:
    """Refuse options that do not exist or whose values are of another type.

    Parameters
    ----------
    owner : str
        Owner of the options, such as ``The head 'lda'``.
    options : mapping
        Values by name.
    types : mapping
        Valid names and their type annotations: numbers, strings, booleans, `Literal`, or unions of these.
    error_class : type
        Error to raise.

    Raises
    ------
    InputError
        An option is not valid; the message lists what is valid.
    """
    for option, value in options.items():
        if option not in types:
            raise error_class(unknown_choice("option", option, types, owner=owner))
        if not _is_instance(value, types[option]):
            raise error_class(f"{owner} has {option}={value!r}; expected {describe_type(types[option])}.")


def _is_instance(value: Any, annotation: Any) -> bool:
    if get_origin(annotation) in (Union, UnionType):
        return any(_is_instance(value, choice) for choice in get_args(annotation))
    if get_origin(annotation) is Literal:
        return value in get_args(annotation)
    if annotation in (int, float):
        return isinstance(value, Integral if annotation is int else Real) and not isinstance(value, bool)
    if annotation is None:
        return value is None
    return annotation is Any or isinstance(value, annotation)


def describe_type(annotation: Any) -> str:
    """Return a type annotation in words.

    Examples
    --------
    >>> describe_type(float | None), describe_type(Literal["mean", "max"]), describe_type(tuple[int, ...])
    ('a number or none', 'mean or max', 'a list, each a whole number')
    """
    parts = get_args(annotation)
    if get_origin(annotation) in (Union, UnionType, Literal):
        return " or ".join(map(describe_type, parts))
    if get_origin(annotation) is tuple:
        length = "a list" if Ellipsis in parts else f"a list of {len(parts)}"
        return f"{length}, each {describe_type(parts[0])}"
    if isinstance(annotation, str):
        return annotation
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "text", type(None): "none"}
    return words.get(annotation, "a path" if annotation is Path else str(annotation))
