"""Check the heads of a comparison and their settings, which needs no embeddings."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from files import unknown_choice
from heads import HEADS, HeadError, create_head, create_scaler, head_options, register_heads, takes_layers


def check_heads(
    heads: Collection[Any],
    *,
    scaler: str = "standard",
    options: Mapping[str, Any] | None = None,
    has_layers: bool = True,
) -> list[str]:
    """Return the names of the heads that `compare_heads` compares, each once; refuse settings that it cannot use.

    A script calls this before it extracts embeddings, and `compare_heads` calls it too.

    Parameters
    ----------
    heads : collection
        As in `compare_heads`; ``all`` stands for those of `HEADS` that take the features.
    scaler : str
        Name from `SCALERS`.
    options : mapping, optional
        Hyper-parameters, each given to every head that has it.
    has_layers : bool
        Whether a set of features has several layers.

    Raises
    ------
    InputError
        A head, the scaler or an option does not exist, an option is out of range, or no head takes the features.
    """
    fitting = [name for name in HEADS if has_layers or not takes_layers(name)]
    given = heads if isinstance(heads, Collection) and not isinstance(heads, str) else [heads]
    names = register_heads([one for head in given for one in (fitting if head == "all" else [head])])
    _check_options(names, options or {})
    create_scaler(scaler)  # an unknown name is an error, not a head that is left out
    if names and not has_layers and all(map(takes_layers, names)):
        raise HeadError(
            f"The head {names[0]!r} takes several layers of an encoder, but these features have one vector per "
            "utterance. Add a head that takes one vector, such as linear, or use an encoder with layers, such as "
            "wav2vec2."
        )
    return names


def _check_options(heads: Sequence[str], options: Mapping[str, Any]) -> None:
    """Refuse options that no head has or that are out of range: they are errors, not reasons to leave a head out."""
    valid = {option for name in [*HEADS, *heads] for option in head_options(name)}
    for option in options:
        if option == "seed":
            raise HeadError("The heads use the seed of their split; give it as seed.")
        if option not in valid:
            raise HeadError(unknown_choice("head option", option, sorted(valid)))
    for name in heads:
        create_head(name, **{option: value for option, value in options.items() if option in head_options(name)})
