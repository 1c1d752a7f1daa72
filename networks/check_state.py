"""Compare the tensors of a checkpoint with those of a network."""

from collections.abc import Mapping

from torch import Tensor


def check_state(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Refuse tensors with other names or shapes than those of a network.

    Raises
    ------
    ValueError
        The message says in one phrase what is wrong.
    """
    for problem, names in (("lacks", expected.keys() - found.keys()), ("also has", found.keys() - expected.keys())):
        if names:
            others = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
            raise ValueError(f"it {problem} {min(names)}{others}")
    for name, tensor in expected.items():
        if found[name].shape != tensor.shape:
            shape = tuple(tensor.shape)
            raise ValueError(f"the shape of {name} is {tuple(found[name].shape)}; expected {shape}")
