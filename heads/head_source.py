"""`HeadSource`: how the heads of a name are created, in this process and in its workers."""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, get_type_hints

import numpy as np

from files import PluginFiles, check_options
from heads.base import Head, HeadError
from heads.scikit_learn import ScikitLearnHead, parameters_of


@dataclass(frozen=True, eq=False)
class HeadSource:
    """The class of a head, and the hyper-parameters that all heads of this source have.

    Attributes
    ----------
    name : str
        Name in saved files: that in `HEADS`, or that of an own class.
    kind : type
        Class of the head.
    fixed : dict
        Hyper-parameters that are not the defaults, if an instance was given.
    """

    name: str
    kind: type[Head]
    fixed: Mapping[str, Any] = field(default_factory=dict)

    @property
    def can_be_saved(self) -> bool:
        """Whether a classifier can hold the head: all that this project restores from tensors alone."""
        return not issubclass(self.kind, ScikitLearnHead)

    def create(self, **options: Any) -> Head:
        """Create an unfitted head.

        Raises
        ------
        HeadError
            There is no such option (the message lists the valid ones), or a classifier could not hold the head's
            hyper-parameters.
        """
        # A saved classifier can hold plain numbers, but not those of numpy.
        options = {key: value.item() if isinstance(value, np.generic) else value for key, value in options.items()}
        check_options(f"The head {self.name!r}", options, self.option_types(), error_class=HeadError)
        head = self.kind(**{**self.fixed, **options})
        if self.can_be_saved:
            self._check(head.hyper_parameters())
        return head

    def _check(self, hyper_parameters: Mapping[str, Any]) -> None:
        """Refuse hyper-parameters that a file cannot hold, or from which the head could not be created again."""
        valid = self.option_types()
        for key, value in hyper_parameters.items():
            if key not in valid:
                raise HeadError(
                    f"The head {self.name} has the attribute {key!r}, which is no argument of its constructor. Rename "
                    f"it to '{key}_' if it is learned, or override hyper_parameters."
                )
            if not _is_plain(value):
                raise HeadError(
                    f"The head {self.name} has {key}={value!r}, which a saved classifier cannot hold; expected a "
                    "number, text, true, false or none, or a list of these."
                )

    def option_types(self) -> dict[str, Any]:
        """Return the hyper-parameters with their types, including those that a head passes to its base class."""
        if issubclass(self.kind, ScikitLearnHead):
            return dict.fromkeys(parameters_of(self.fixed["classifier"]), Any)
        hints: dict[str, Any] = {}
        for kind in self.kind.__mro__:
            parameters = list(inspect.signature(kind).parameters.values()) if issubclass(kind, Head) else []
            types = get_type_hints(kind.__init__)  # type: ignore[misc]
            named = [part.name for part in parameters if part.kind is not part.VAR_KEYWORD]
            hints = {each: types.get(each, Any) for each in named} | hints
            if all(part.kind is not part.VAR_KEYWORD for part in parameters):
                break
        return hints

    def __reduce__(self) -> tuple[Any, ...]:
        # The files come first: the class is then found in a worker process too.
        return _restore, (PluginFiles.loaded(), self.name, self.kind, self.fixed)


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or type(value) in (bool, int, float, str)


def _restore(_: PluginFiles, *parts: Any) -> HeadSource:
    return HeadSource(*parts)
