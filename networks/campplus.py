"""CAM++, the speaker network of 3D-Speaker: a densely connected TDNN with context-aware masking.

The names in the state dict are those of 3D-Speaker, whose checkpoints WeSpeaker's CAM++ shares.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from networks.check_state import check_state
from networks.masking import root

N_MELS = 80
# Channels of the convolutions over time and frequency, which reduce the number of mel bands by 8.
HEAD_CHANNELS = 32
# Number of layers and dilation of each dense block.
BLOCKS = ((12, 1), (24, 2), (16, 2))
FIRST_CHANNELS, GROWTH, BOTTLENECK, GATE = 128, 32, 128, 64
# Number of frames of a segment, whose mean is part of the input of a gate.
SEGMENT = 100
# Minimum number of input frames: the deviation of the embedding needs two frames at half the frame rate.
MIN_FRAMES = 3


class CAMPlusPlus(nn.Module):
    """CAM++ (Wang et al., 2023; https://arxiv.org/abs/2303.00332), with exact results for padded batches.

    Parameters
    ----------
    dim : int
        Length of the embedding; it is also an attribute.
    """

    def __init__(self, dim: int = 192) -> None:
        super().__init__()
        self.dim = dim
        self.head = _Head()
        channels = FIRST_CHANNELS
        layers: dict[str, nn.Module] = {"tdnn": _TDNN(HEAD_CHANNELS * N_MELS // 8, channels)}
        for number, (n_layers, dilation) in enumerate(BLOCKS, start=1):
            layers[f"block{number}"] = _DenseBlock(n_layers, channels, dilation)
            channels = (channels + n_layers * GROWTH) // 2
            layers[f"transit{number}"] = _Transition(2 * channels, channels)
        layers["out_nonlinear"] = _norm(channels)
        layers["dense"] = _Projection(2 * channels, dim)
        self.xvector = nn.ModuleDict(layers)

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor], is_trained: bool = False) -> "CAMPlusPlus":
        """Build a network from the tensors of a checkpoint.

        For inference it is in eval mode and without gradients, and each batch norm that follows a convolution becomes
        part of the convolution, which makes it faster.

        Parameters
        ----------
        state : mapping
            Tensors of the checkpoint.
        is_trained : bool
            Whether the network is trained further; then it has gradients and keeps its batch norms.

        Raises
        ------
        ValueError
            The tensors are not those of one CAM++ network.
        """
        last = state.get("xvector.dense.linear.weight")
        if last is None or last.ndim != 3 or not 1 <= len(last) <= 65_536:
            raise ValueError("it has no xvector.dense.linear.weight of shape (dim, 1024, 1)")
        network = cls(len(last)).eval()
        check_state(state, network.state_dict())
        network.load_state_dict(dict(state))
        return network if is_trained else network._fuse().requires_grad_(False)

    def _fuse(self) -> "CAMPlusPlus":
        for module in self.modules():
            if isinstance(module, _FusesNorms):
                module.fuse_norms()
        self.head.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return self

    def forward(self, frames: Tensor, n_frames: Tensor) -> Tensor:
        """Embed log-mel spectrograms.

        Parameters
        ----------
        frames : Tensor (batch, frames, 80)
            Spectrograms minus their mean over time.
        n_frames : Tensor (batch,)
            Number of valid frames of each, at least 3.

        Returns
        -------
        Tensor (batch, dim)
        """
        is_padded = bool((n_frames < frames.shape[1]).any())
        x = self.head(frames, _valid(frames, n_frames) if is_padded else None)
        x = self.xvector["tdnn"](x)
        n_frames = (n_frames + 1) // 2
        valid = _valid(x, n_frames) if is_padded else None
        context = _Context.of(x, n_frames, valid)
        for number in range(1, len(BLOCKS) + 1):
            x = self.xvector[f"block{number}"](x, context)
            x = self.xvector[f"transit{number}"](x)
        norm: Any = self.xvector["out_nonlinear"]
        x = _normalise(norm, x)
        return self.xvector["dense"](_statistics(x, n_frames, valid))  # type: ignore[no-any-return]


class _FusesNorms:
    """Base class of modules that can make batch norms part of the convolutions before them."""

    def fuse_norms(self) -> None:
        raise NotImplementedError


class _Head(nn.Module, _FusesNorms):
    """Convolutions over time and frequency: (batch, frames, 80) to (batch, frames, 320)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, HEAD_CHANNELS, 3, padding=1, bias=False)
        self.bn1: Any = nn.BatchNorm2d(HEAD_CHANNELS)
        self.layer1 = nn.Sequential(_Residual(2), _Residual(1))
        self.layer2 = nn.Sequential(_Residual(2), _Residual(1))
        self.conv2 = nn.Conv2d(HEAD_CHANNELS, HEAD_CHANNELS, 3, stride=(2, 1), padding=1, bias=False)
        self.bn2: Any = nn.BatchNorm2d(HEAD_CHANNELS)

    def fuse_norms(self) -> None:
        self.conv1, self.bn1 = fuse_conv_bn_eval(self.conv1, self.bn1), nn.Identity()
        self.conv2, self.bn2 = fuse_conv_bn_eval(self.conv2, self.bn2), nn.Identity()

    def forward(self, frames: Tensor, valid: Tensor | None) -> Tensor:
        # Padded frames are not zero after a norm, so they are set to zero before each convolution that reads them.
        columns = None if valid is None else valid[:, None, None, :, 0]
        x = _mask(_relu(self.bn1(self.conv1(frames.transpose(1, 2)[:, None]))), columns)
        for block in (*self.layer1, *self.layer2):
            x = block(x, columns)
        x = _mask(_relu(self.bn2(self.conv2(x))), columns)
        return x.permute(0, 3, 1, 2).flatten(2)


class _Residual(nn.Module, _FusesNorms):
    """Residual block of two convolutions."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        channels = HEAD_CHANNELS
        self.conv1 = nn.Conv2d(channels, channels, 3, stride=(stride, 1), padding=1, bias=False)
        self.bn1: Any = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2: Any = nn.BatchNorm2d(channels)
        self.shortcut = nn.Sequential()
        if stride > 1:
            convolution = nn.Conv2d(channels, channels, 1, stride=(stride, 1), bias=False)
            self.shortcut = nn.Sequential(convolution, nn.BatchNorm2d(channels))

    def fuse_norms(self) -> None:
        self.conv1, self.bn1 = fuse_conv_bn_eval(self.conv1, self.bn1), nn.Identity()
        self.conv2, self.bn2 = fuse_conv_bn_eval(self.conv2, self.bn2), nn.Identity()
        if len(self.shortcut):
            self.shortcut = nn.Sequential(fuse_conv_bn_eval(*self.shortcut))

    def forward(self, x: Tensor, columns: Tensor | None) -> Tensor:
        y = _mask(_relu(self.bn1(self.conv1(x))), columns)
        y = self.bn2(self.conv2(y))
        y += self.shortcut(x)
        return _mask(_relu(y), columns)


class _TDNN(nn.Module, _FusesNorms):
    """Convolution over time that halves the frame rate: (batch, frames, c_in) to (batch, frames / 2, c_out)."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.linear = nn.Conv1d(c_in, c_out, 5, stride=2, padding=2, bias=False)
        self.nonlinear = _norm(c_out)

    def fuse_norms(self) -> None:
        self.linear, self.nonlinear = _fused(self.linear, self.nonlinear), _identity()

    def forward(self, x: Tensor) -> Tensor:
        return _normalise(self.nonlinear, self.linear(x.transpose(1, 2)).transpose(1, 2).contiguous())


class _Affine(nn.Module):
    """Batch norm for inference, as one multiplication and addition per number."""

    scale: Tensor
    shift: Tensor

    def __init__(self, norm: Any) -> None:
        super().__init__()
        scale = norm.weight / (norm.running_var + norm.eps).sqrt()
        self.register_buffer("scale", scale.detach())
        self.register_buffer("shift", (norm.bias - norm.running_mean * scale).detach())

    def forward(self, x: Tensor) -> Tensor:
        return torch.addcmul(self.shift, x, self.scale)


class _DenseBlock(nn.ModuleDict):
    """Layers that each read the outputs of all layers before them: (batch, frames, c) to (batch, frames, c + 32 n)."""

    def __init__(self, n_layers: int, channels: int, dilation: int) -> None:
        layers = [_DenseLayer(channels + number * GROWTH, dilation) for number in range(n_layers)]
        super().__init__({f"tdnnd{number}": layer for number, layer in enumerate(layers, start=1)})

    def forward(self, x: Tensor, context: "_Context") -> Tensor:
        if torch.is_grad_enabled():
            for layer in self.values():
                x = torch.cat([x, layer(x, context)], dim=2)
            return x
        # Without gradients, each layer writes into one tensor, which copies less.
        channels = x.shape[2]
        joined = x.new_empty(*x.shape[:2], channels + GROWTH * len(self))
        joined[..., :channels] = x
        for layer in self.values():
            joined[..., channels : channels + GROWTH] = layer(joined[..., :channels], context)
            channels += GROWTH
        return joined


class _DenseLayer(nn.Module, _FusesNorms):
    """Bottleneck, then a gated convolution: (batch, frames, c) to (batch, frames, 32)."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.nonlinear1 = _norm(channels)
        self.linear1 = nn.Conv1d(channels, BOTTLENECK, 1, bias=False)
        self.nonlinear2 = _norm(BOTTLENECK)
        self.cam_layer = _ContextAwareMasking(dilation)

    def fuse_norms(self) -> None:
        self.nonlinear1 = nn.ModuleDict({"batchnorm": _Affine(self.nonlinear1["batchnorm"])})
        self.linear1, self.nonlinear2 = _fused(self.linear1, self.nonlinear2), _identity()
        self.cam_layer.join_taps()

    def forward(self, x: Tensor, context: "_Context") -> Tensor:
        hidden = _normalise(self.nonlinear2, _linear(self.linear1, _normalise(self.nonlinear1, x)))
        return self.cam_layer(_mask(hidden, context.valid), context)  # type: ignore[no-any-return]


class _ContextAwareMasking(nn.Module):
    """Convolution over time, multiplied by a gate that depends on the mean of its segment and of the utterance."""

    taps: Tensor | None

    def __init__(self, dilation: int) -> None:
        super().__init__()
        self.dilation = dilation
        self.linear_local = nn.Conv1d(BOTTLENECK, GROWTH, 3, padding=dilation, dilation=dilation, bias=False)
        self.linear1 = nn.Conv1d(BOTTLENECK, GATE, 1)
        self.linear2 = nn.Conv1d(GATE, GROWTH, 1)
        self.register_buffer("taps", None, persistent=False)

    def join_taps(self) -> None:
        """Keep the weights of the three taps as one matrix, for inference."""
        self.taps = self._joined().detach().clone()

    def _joined(self) -> Tensor:
        return self.linear_local.weight.permute(2, 0, 1).flatten(0, 1)

    def forward(self, x: Tensor, context: "_Context") -> Tensor:
        gate = _linear(self.linear2, _relu(_linear(self.linear1, context.means @ x))).sigmoid()
        return self._convolve(x) * gate[:, context.segments]

    def _convolve(self, x: Tensor) -> Tensor:
        """Return the convolution over time, with one matrix product for its taps, which is faster on CPUs."""
        step, length = self.dilation, x.shape[1]
        weight = self._joined() if self.taps is None else self.taps
        product = functional.linear(functional.pad(x, (0, 0, step, step)), weight)
        before, here, after = product.chunk(3, dim=2)
        return before[:, :length] + here[:, step : step + length] + after[:, 2 * step :]


class _Transition(nn.Module):
    """Halve the number of channels."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.nonlinear = _norm(c_in)
        self.linear = nn.Conv1d(c_in, c_out, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return _linear(self.linear, _normalise(self.nonlinear, x))


class _Projection(nn.Module):
    """Map the statistics to the embedding, which a batch norm without weights standardises."""

    def __init__(self, c_in: int, dim: int) -> None:
        super().__init__()
        self.linear = nn.Conv1d(c_in, dim, 1, bias=False)
        self.nonlinear = nn.ModuleDict({"batchnorm": nn.BatchNorm1d(dim, affine=False)})

    def forward(self, x: Tensor) -> Tensor:
        return self.nonlinear["batchnorm"](_linear(self.linear, x))  # type: ignore[no-any-return]


class _Context(NamedTuple):
    """What the layers of the dense blocks know about a batch of utterances.

    Attributes
    ----------
    means : Tensor (batch, segments, frames)
        Matrix whose product with frames is the mean of each segment plus the mean of the utterance.
    segments : Tensor (frames,)
        int64, segment of each frame.
    valid : Tensor (batch, frames, 1) or None
        1 for valid and 0 for padded frames; None if no frame is padded.
    """

    means: Tensor
    segments: Tensor
    valid: Tensor | None

    @classmethod
    def of(cls, x: Tensor, n_frames: Tensor, valid: Tensor | None) -> "_Context":
        """Describe a batch (batch, frames, channels) with these numbers of valid frames (batch,)."""
        segments = torch.arange(x.shape[1], device=x.device) // SEGMENT
        numbers = torch.arange((x.shape[1] + SEGMENT - 1) // SEGMENT, device=x.device)
        of_segment = (segments == numbers[:, None]).to(x.dtype)
        sizes = (n_frames[:, None] - SEGMENT * numbers).clamp(1, SEGMENT)
        means = of_segment / sizes[..., None] + 1 / n_frames[:, None, None]
        return cls(means if valid is None else means * valid.transpose(1, 2), segments, valid)


def _norm(channels: int) -> nn.ModuleDict:
    return nn.ModuleDict({"batchnorm": nn.BatchNorm1d(channels)})


def _identity() -> nn.ModuleDict:
    return nn.ModuleDict({"batchnorm": nn.Identity()})


def _fused(convolution: nn.Conv1d, norm: nn.ModuleDict) -> nn.Conv1d:
    batch_norm: Any = norm["batchnorm"]
    return fuse_conv_bn_eval(convolution, batch_norm)


def _normalise(norm: nn.ModuleDict, x: Tensor) -> Tensor:
    """Apply a batch norm and ReLU to (batch, frames, channels)."""
    layer = norm["batchnorm"]
    if isinstance(layer, nn.BatchNorm1d):
        return _relu(layer(x.flatten(0, 1)).view_as(x))
    return _relu(layer(x))


def _relu(x: Tensor) -> Tensor:
    """Apply ReLU in place: allocating large tensors takes a noticeable part of the time on CPUs."""
    return functional.relu(x, inplace=True)


def _linear(convolution: nn.Conv1d, x: Tensor) -> Tensor:
    """Apply a convolution of kernel 1 to (..., channels), as a matrix product."""
    return functional.linear(x, convolution.weight[:, :, 0], convolution.bias)


def _valid(x: Tensor, n_frames: Tensor) -> Tensor:
    """Return 1 for valid and 0 for padded frames (batch, frames, 1)."""
    return (torch.arange(x.shape[1], device=x.device) < n_frames[:, None])[..., None].to(x.dtype)


def _mask(x: Tensor, valid: Tensor | None) -> Tensor:
    return x if valid is None else x * valid


def _statistics(x: Tensor, n_frames: Tensor, valid: Tensor | None) -> Tensor:
    """Return mean and unbiased standard deviation over the valid frames (batch, 2 channels)."""
    mean = _mask(x, valid).sum(1) / n_frames[:, None]
    squares = _mask((x - mean[:, None]).square(), valid).sum(1)
    return torch.cat([mean, root(squares / (n_frames[:, None] - 1))], dim=1)
