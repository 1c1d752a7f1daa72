"""ECAPA-TDNN, the speaker network of SpeechBrain: a TDNN with channel attention and attentive statistics pooling.

The names in the state dict are those of SpeechBrain.
"""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from networks.check_state import check_state
from networks.masking import root, valid_frames
from networks.packed_linear import PackedLinear

N_MELS = 80
# Kernel sizes of the first layer and of the blocks, and dilations of the blocks.
FIRST_KERNEL, BLOCK_KERNEL, DILATIONS = 5, 3, (2, 3, 4)
# Minimum number of frames: a convolution reflects up to four frames at each end, without the frame at the end itself.
MIN_FRAMES = 5
MIN_VARIANCE = 1e-12


class ECAPATDNN(nn.Module):
    """ECAPA-TDNN (Desplanques et al., 2020; https://arxiv.org/abs/2005.07143), with exact results for padded batches.

    Parameters
    ----------
    channels : int
        Channels of the first layer and of the three blocks.
    pooled_channels : int
        Channels of the last layer before the pooling.
    dim : int
        Length of the embedding; it is also an attribute.
    attention_channels : int
        Channels of the hidden layer of the attentive pooling.
    gate_channels : int
        Channels of the hidden layer of the gates (squeeze and excitation).
    scale : int
        Number of groups of channels in a block, each of which adds the output of the one before it.
    """

    def __init__(
        self,
        channels: int = 1024,
        pooled_channels: int = 3072,
        dim: int = 192,
        *,
        attention_channels: int = 128,
        gate_channels: int = 128,
        scale: int = 8,
    ) -> None:
        super().__init__()
        if channels % scale:
            raise ValueError(f"channels is {channels}; expected a multiple of scale, {scale}")
        self.dim = dim
        blocks: list[nn.Module] = [_TDNN(N_MELS, channels, kernel=FIRST_KERNEL)]
        blocks += [_Block(channels, gate_channels, scale, dilation=dilation) for dilation in DILATIONS]
        self.blocks = nn.ModuleList(blocks)
        self.mfa = _TDNN(channels * len(DILATIONS), pooled_channels)
        self.asp = _AttentivePooling(pooled_channels, attention_channels)
        self.asp_bn = _Norm(2 * pooled_channels)
        self.fc = _Conv(2 * pooled_channels, dim)

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor]) -> "ECAPATDNN":
        """Build a network for inference from the tensors of a checkpoint; it is in eval mode and without gradients.

        The sizes are those of the tensors. Convolutions become matrix products with packed weights, which makes
        inference faster on CPUs.

        Raises
        ------
        ValueError
            The tensors are not those of one ECAPA-TDNN; the message says in one phrase what is wrong.
        """
        found = {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}
        with torch.device("meta"):  # the tensors are assigned, so none is allocated or initialised
            network = cls(**_sizes(found))
            expected = {name: tensor for name, tensor in network.state_dict().items() if tensor.is_floating_point()}
        check_state(found, expected)
        network.load_state_dict({name: tensor.float() for name, tensor in found.items()}, strict=False, assign=True)
        for module in list(network.modules()):
            if isinstance(module, _Norm):
                module.norm.num_batches_tracked = None  # of training only, and still without a value
            elif isinstance(module, _Conv | _AttentivePooling):
                module.pack_weights()
        return network.eval().requires_grad_(False)

    def forward(self, frames: Tensor, n_frames: Tensor) -> Tensor:
        """Embed log-mel spectrograms.

        Parameters
        ----------
        frames : Tensor (batch, frames, 80)
            Spectrograms minus their mean over time.
        n_frames : Tensor (batch,)
            int64, number of valid frames of each, at least 5.

        Returns
        -------
        Tensor (batch, dim)
        """
        time = _Time(n_frames, frames.shape[1])
        x = self.blocks[0](frames, time)
        outputs = []
        for block in list(self.blocks)[1:]:
            x = block(x, time)
            outputs.append(x)
        pooled = self.asp(self.mfa(torch.cat(outputs, dim=2), time), time)
        return self.fc(self.asp_bn(pooled))  # type: ignore[no-any-return]


class _Time:
    """The valid frames of a batch of utterances, and the frames that each convolution reads."""

    def __init__(self, n_frames: Tensor, n_total: int) -> None:
        self.n_frames, self.n_total = n_frames, n_total
        is_padded = bool((n_frames < n_total).any())
        self.valid = valid_frames(n_frames, n_total)[..., None] if is_padded else None
        self._rows: dict[tuple[int, int], Tensor] = {}

    def taps(self, x: Tensor, kernel: int, dilation: int) -> Tensor:
        """Return the frames under each position of a kernel: (batch, frames, c) to (batch, frames, kernel * c).

        Each utterance is continued beyond its own ends by reflection, as if it were alone.
        """
        if (kernel, dilation) not in self._rows:
            self._rows[kernel, dilation] = self._reflected_rows(kernel, dilation)
        rows = x.flatten(0, 1).index_select(0, self._rows[kernel, dilation])
        return rows.view(*x.shape[:2], kernel * x.shape[2])

    def _reflected_rows(self, kernel: int, dilation: int) -> Tensor:
        device = self.n_frames.device
        steps = dilation * (torch.arange(kernel, device=device) - kernel // 2)
        position = (torch.arange(self.n_total, device=device)[:, None] + steps).abs()
        last = (self.n_frames - 1)[:, None, None]
        reflected = torch.minimum(position, 2 * last - position).clamp_min(0)  # padded frames may read any frame
        first = self.n_total * torch.arange(len(self.n_frames), device=device)
        return (reflected + first[:, None, None]).flatten()

    def mean(self, x: Tensor) -> Tensor:
        """Average the valid frames: (batch, frames, c) to (batch, 1, c)."""
        if self.valid is None:
            return x.mean(1, keepdim=True)
        return (x * self.valid).sum(1, keepdim=True) / self.n_frames[:, None, None]


class _Conv(nn.Module):
    """Convolution over time that keeps the number of frames: (batch, frames, c_in) to (batch, frames, c_out)."""

    conv: Any

    def __init__(self, c_in: int, c_out: int, *, kernel: int = 1, dilation: int = 1) -> None:
        super().__init__()
        self.kernel, self.dilation = kernel, dilation
        self.conv = nn.Conv1d(c_in, c_out, kernel, dilation=dilation)

    def matrix(self) -> Tensor:
        """Return the weights as one matrix (c_out, kernel * c_in)."""
        weight: Tensor = self.conv.weight
        return weight.transpose(1, 2).flatten(1)

    def pack_weights(self) -> None:
        self.conv = PackedLinear(self.matrix(), self.conv.bias, torch.float32)

    def forward(self, x: Tensor, time: _Time | None = None) -> Tensor:
        if self.kernel > 1:
            assert time is not None
            x = time.taps(x, self.kernel, self.dilation)
        if isinstance(self.conv, PackedLinear):
            return self.conv(x)  # type: ignore[no-any-return]
        return functional.linear(x, self.matrix(), self.conv.bias)


class _Norm(nn.Module):
    """Batch norm of (..., c)."""

    norm: Any

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(channels)

    def forward(self, x: Tensor) -> Tensor:
        normalized: Tensor = self.norm(x.flatten(0, -2))
        return normalized.view_as(x)


class _TDNN(nn.Module):
    """Convolution, ReLU, batch norm."""

    def __init__(self, c_in: int, c_out: int, *, kernel: int = 1, dilation: int = 1) -> None:
        super().__init__()
        self.conv = _Conv(c_in, c_out, kernel=kernel, dilation=dilation)
        self.norm = _Norm(c_out)

    def forward(self, x: Tensor, time: _Time) -> Tensor:
        return self.norm(_relu(self.conv(x, time)))  # type: ignore[no-any-return]


class _Block(nn.Module):
    """Residual block: a layer, Res2Net, a layer, and a gate for each channel."""

    def __init__(self, channels: int, gate_channels: int, scale: int, *, dilation: int) -> None:
        super().__init__()
        self.tdnn1 = _TDNN(channels, channels)
        self.res2net_block = _Res2Net(channels, scale, dilation)
        self.tdnn2 = _TDNN(channels, channels)
        self.se_block = _Gate(channels, gate_channels)

    def forward(self, x: Tensor, time: _Time) -> Tensor:
        y = self.tdnn2(self.res2net_block(self.tdnn1(x, time), time), time)
        return torch.addcmul(x, y, self.se_block(y, time))


class _Res2Net(nn.Module):
    """Layers for all groups of channels but the first, each of which adds the output of the group before it."""

    def __init__(self, channels: int, scale: int, dilation: int) -> None:
        super().__init__()
        width = channels // scale
        self.blocks = nn.ModuleList(
            _TDNN(width, width, kernel=BLOCK_KERNEL, dilation=dilation) for _ in range(scale - 1)
        )

    def forward(self, x: Tensor, time: _Time) -> Tensor:
        first, *others = x.chunk(len(self.blocks) + 1, dim=2)
        outputs = [first]
        for number, (block, group) in enumerate(zip(self.blocks, others, strict=True)):
            outputs.append(block(group + outputs[-1] if number else group, time))
        return torch.cat(outputs, dim=2)


class _Gate(nn.Module):
    """Squeeze and excitation: a factor for each channel, from the mean over the utterance (batch, 1, c)."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.conv1 = _Conv(channels, hidden)
        self.conv2 = _Conv(hidden, channels)

    def forward(self, x: Tensor, time: _Time) -> Tensor:
        return self.conv2(_relu(self.conv1(time.mean(x)))).sigmoid()  # type: ignore[no-any-return]


class _AttentivePooling(nn.Module):
    """Weighted mean and deviation over the utterance; each channel has its own weights: to (batch, 2 c)."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.channels = channels
        self.tdnn = _TDNN(3 * channels, hidden)
        self.conv = _Conv(hidden, channels)
        self.of_frame: PackedLinear | None = None

    def pack_weights(self) -> None:
        """Pack the weights for the frames, for inference."""
        self.of_frame = PackedLinear(self.tdnn.conv.matrix()[:, : self.channels], None, torch.float32)

    def forward(self, x: Tensor, time: _Time) -> Tensor:
        mean = time.mean(x)
        context = torch.cat([mean, _deviation(time.mean((x - mean).square_()))], dim=2)
        scores = self.conv(self.tdnn.norm(_relu(self._hidden(x, context))).tanh())
        if time.valid is not None:
            scores = scores.masked_fill(~time.valid, -torch.inf)
        weights = scores.softmax(1)
        mean = (weights * x).sum(1, keepdim=True)
        variance = (x - mean).square_().mul_(weights).sum(1)
        return torch.cat([mean[:, 0], _deviation(variance)], dim=1)

    def _hidden(self, x: Tensor, context: Tensor) -> Tensor:
        """Return the hidden layer of a frame joined with the context, whose part is computed once an utterance."""
        convolution = self.tdnn.conv
        weight: Tensor = convolution.conv.weight.flatten(1)
        shift = functional.linear(context, weight[:, self.channels :], convolution.conv.bias)
        if self.of_frame is not None:
            return self.of_frame(x) + shift  # type: ignore[no-any-return]
        return functional.linear(x, weight[:, : self.channels]) + shift


def _relu(x: Tensor) -> Tensor:
    """Apply ReLU in place: allocating large tensors takes a noticeable part of the time on CPUs."""
    return functional.relu(x, inplace=True)


def _deviation(variance: Tensor) -> Tensor:
    return root(variance.clamp_min(MIN_VARIANCE))


def _sizes(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return the sizes of the network that has these tensors."""
    groups = [re.match(r"blocks\.1\.res2net_block\.blocks\.(\d+)\.conv\.conv\.weight", name) for name in state]
    return {
        "channels": _outputs(state, "blocks.0.conv.conv.weight"),
        "pooled_channels": _outputs(state, "mfa.conv.conv.weight"),
        "dim": _outputs(state, "fc.conv.weight"),
        "attention_channels": _outputs(state, "asp.tdnn.conv.conv.weight"),
        "gate_channels": _outputs(state, "blocks.1.se_block.conv1.conv.weight"),
        "scale": 1 + sum(group is not None for group in groups),
    }


def _outputs(state: Mapping[str, Tensor], name: str) -> int:
    if name not in state:
        raise ValueError(f"it has no {name}")
    if state[name].ndim != 3 or not len(state[name]):
        raise ValueError(f"the shape of {name} is {tuple(state[name].shape)}; expected (outputs, inputs, kernel)")
    return len(state[name])
