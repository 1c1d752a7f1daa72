"""LSTMs whose size is read from the shapes of their weights."""

import re
from collections.abc import Mapping

from torch import Tensor, nn

from files import count_of


def build_lstm(state: Mapping[str, Tensor], n_features: int) -> nn.LSTM:
    """Build an LSTM from its state dict, in eval mode.

    Parameters
    ----------
    state : mapping
        Tensors with the names of `torch.nn.LSTM`: ``weight_ih_l0``, ``weight_hh_l0``, ``bias_ih_l0``, ...; names of
        the backward direction end with ``_reverse``.
    n_features : int
        Number of features of an input frame.

    Returns
    -------
    nn.LSTM
        Its input has the shape (batch, frames, n_features).

    Raises
    ------
    ValueError
        The tensors are not those of one LSTM with this number of input features.
    """
    first = state["weight_ih_l0"]
    if first.ndim != 2 or not len(first) or len(first) % 4 or first.shape[1] != n_features:
        raise ValueError(f"the shape of weight_ih_l0 is {tuple(first.shape)}; expected (4 * hidden, {n_features})")
    n_layers = sum(1 for name in state if re.fullmatch(r"weight_ih_l\d+", name))
    bidirectional = any(name.endswith("_reverse") for name in state)
    lstm = nn.LSTM(n_features, len(first) // 4, n_layers, batch_first=True, bidirectional=bidirectional)
    try:
        lstm.load_state_dict(dict(state))
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"the weights are not those of an LSTM with {count_of(n_layers, 'layer')} ({reason})"
        ) from error
    return lstm.eval()
