"""The networks of the wav2vec2 family, computed so that padding changes nothing.

The weights and layers are those of transformers. What is computed otherwise is where padding would be seen: the group
norm of the first convolution, which averages over time, and the positional convolutions, which reach beyond the end. So
is what costs time for nothing: attention weights that nobody reads, weight norms, layers above the last one asked for.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrize

from encoders.packed_linear import PackedLinear

# Reads the hidden states (batch, frames, width) of a layer.
Reader = Callable[[int, Tensor], None]
# Frames of the first layer that are computed at a time.
BLOCK = 512


class SpeechNetwork(nn.Module):
    """A model of transformers: wav2vec2, HuBERT, WavLM or data2vec-audio.

    Parameters
    ----------
    model : nn.Module
        ``Wav2Vec2Model``, ``HubertModel``, ``WavLMModel`` or ``Data2VecAudioModel``; its modules become part of this.
    dtype : torch.dtype
        What convolutions, matrix products and attention are computed in; all else is fp32.
    top_layer : int
        The highest layer that will be read: 0 is the input of the first transformer layer.
    """

    def __init__(self, model: Any, dtype: torch.dtype, top_layer: int) -> None:
        super().__init__()
        self.dtype = dtype
        self.top_layer = top_layer
        self.n_layers = len(model.encoder.layers)
        fused = model.config.feat_extract_activation == "gelu"
        self.convolutions = nn.ModuleList(
            _NormalisedConvolution(layer, dtype)
            if isinstance(getattr(layer, "layer_norm", None), nn.GroupNorm)
            else _Convolution(layer, dtype, fused)
            for layer in model.feature_extractor.conv_layers
        )
        self.projection: nn.Module = model.feature_projection
        self.encoder: Any = model.encoder
        self.encoder.layers = self.encoder.layers[: max(top_layer, 1)]
        self.positions = _Positions(self.encoder.pos_conv_embed, dtype)
        self.encoder.pos_conv_embed = self.positions
        _pack(self.projection, dtype)
        _pack(self.encoder.layers, dtype)
        for layer in self.encoder.layers:
            if hasattr(layer.attention, "torch_multi_head_self_attention"):  # WavLM's
                layer.attention.torch_multi_head_self_attention = partial(_gated_attention, layer.attention)

    def n_frames(self, n_samples: Tensor) -> Tensor:
        """Return how many frames lie within so many samples."""
        layer: Any
        for layer in self.convolutions:
            n_samples = layer.n_frames(n_samples)
        return n_samples

    def receptive_field(self) -> int:
        """Return the samples of one frame: the fewest that the network takes."""
        samples = 1
        layer: Any
        for layer in reversed(list(self.convolutions)):
            samples = (samples - 1) * layer.stride + layer.kernel
        return samples

    def forward(self, waveforms: Tensor, lengths: Tensor, read: Reader) -> None:
        """Compute the layers of a batch, and hand each of them to `read` as soon as it is there.

        Parameters
        ----------
        waveforms : Tensor (batch, samples)
            Normalised where the checkpoint wants that, then padded with zeros.
        lengths : Tensor (batch,)
            Valid samples.
        read : callable
            Is given the number of each layer up to `top_layer`, and its hidden states (batch, frames, width), fp32; of
            these the frames that are padding hold anything.
        """
        x = waveforms[:, :, None]
        for layer in self.convolutions:
            x, lengths = layer(x, lengths)
        projected = self.projection(x.float())
        hidden = (projected[0] if isinstance(projected, tuple) else projected).float()
        padded = bool((lengths < hidden.shape[1]).any())
        mask = torch.arange(hidden.shape[1], device=hidden.device) < lengths[:, None] if padded else None
        self.positions.mask = mask
        hooks = self._hooks(read)
        try:
            last = self.encoder(hidden, attention_mask=mask)[0]
        finally:
            for hook in hooks:
                hook.remove()
        if self.top_layer == self.n_layers:  # after the norm that some networks end with
            read(self.n_layers, last)

    def _hooks(self, read: Reader) -> list[Any]:
        layers: Sequence[nn.Module] = list(self.encoder.layers)

        def read_input(_: nn.Module, inputs: Any) -> None:
            read(0, inputs[0])

        def read_output(number: int, _: nn.Module, __: Any, output: Any) -> None:
            read(number, output[0] if isinstance(output, tuple) else output)

        hooks: list[Any] = [layers[0].register_forward_pre_hook(read_input)]
        for number, layer in enumerate(layers, start=1):
            if number <= self.top_layer and number < self.n_layers:
                hooks.append(layer.register_forward_hook(partial(read_output, number)))
        return hooks


class _Convolution(nn.Module):
    """A convolution over time with its norm and activation, on (batch, frames, channels), as one matrix product.

    Its windows, side by side, are the rows of the product: on CPUs that is faster than a convolution, and GELU is part
    of it.
    """

    def __init__(self, layer: Any, dtype: torch.dtype, gelu: bool) -> None:
        super().__init__()
        weight = layer.conv.weight
        self.kernel: int = weight.shape[2]
        self.stride: int = layer.conv.stride[0]
        self.norm: nn.Module | None = getattr(layer, "layer_norm", None)
        gelu = gelu and self.norm is None
        self.linear = PackedLinear(weight.transpose(1, 2).flatten(1), layer.conv.bias, dtype, gelu)
        self.activation: nn.Module = nn.Identity() if gelu else layer.activation

    def n_frames(self, length: Any) -> Any:
        """Return how many windows lie within a length."""
        return (length - self.kernel) // self.stride + 1

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        batch, length, channels = x.shape
        x = x.to(self.linear.weight.dtype).contiguous()
        steps = (length * channels, self.stride * channels, 1)
        windows = x.as_strided((batch, self.n_frames(length), self.kernel * channels), steps)
        lengths = self.n_frames(lengths)
        return self._embed(windows, lengths), lengths

    def _embed(self, windows: Tensor, lengths: Tensor) -> Tensor:
        x: Tensor = self.linear(windows)
        if self.norm is not None:
            x = self.norm(x.float())
        return self.activation(x)  # type: ignore[no-any-return]


class _NormalisedConvolution(_Convolution):
    """The first convolution, where a group norm normalises each of its channels over time, for each utterance alone.

    A channel is a weighted sum of the samples in a window, so its mean and variance over time follow from the mean and
    the covariance of the windows, some 10 x 10 numbers: with them known, norm and convolution are one matrix product.
    In fp32 always; there is little to compute.
    """

    def __init__(self, layer: Any, dtype: torch.dtype) -> None:
        super().__init__(layer, torch.float32, gelu=False)
        self.dtype = dtype

    def _embed(self, windows: Tensor, lengths: Tensor) -> Tensor:
        norm: Any = self.norm
        weight = self.linear.weight
        x = windows.new_empty(*windows.shape[:2], len(weight), dtype=self.dtype)
        for row, valid, out in zip(windows, lengths.tolist(), x, strict=True):
            seen = row[:valid].to(torch.float32 if row.device.type == "mps" else torch.float64)
            mean = seen.mean(0)
            covariance = (seen - mean).T @ (seen - mean) / valid
            variance = ((weight.to(seen.dtype) @ covariance) * weight).sum(1)
            scale = norm.weight / (variance + norm.eps).sqrt()
            shift = norm.bias - scale * (weight.to(seen.dtype) @ mean)
            product = PackedLinear(weight * scale[:, None], shift, torch.float32)
            # In blocks that stay in a CPU's cache: most of the time would go into memory that is written once.
            step = BLOCK if x.device.type == "cpu" else valid
            for first in range(0, valid, step):
                frames = slice(first, min(first + step, valid))
                out[frames] = self.activation(product(row[frames]))
            out[valid:] = 0
        return x


class _Positions(nn.Module):
    """The convolutions that give positions, one or, in data2vec-audio, several; after each the padding is silenced."""

    def __init__(self, module: Any, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype
        self.mask: Tensor | None = None  # of the batch that is being computed (batch, frames)
        self.layers: Any = nn.ModuleList(getattr(module, "layers", [module]))
        layer: Any
        for layer in self.layers:
            if parametrize.is_parametrized(layer.conv):
                parametrize.remove_parametrizations(layer.conv, "weight")
            layer.conv.to(dtype)

    def forward(self, hidden: Tensor) -> Tensor:
        x = hidden.transpose(1, 2)
        for layer in self.layers:
            if getattr(layer, "batch_norm", None) is not None:
                x = self._silence(layer.batch_norm(x))
            x = layer.padding(layer.conv(x.to(self.dtype)))
            if hasattr(layer, "layer_norm"):
                x = layer.layer_norm(x.transpose(1, 2).float()).transpose(1, 2)
            x = self._silence(layer.activation(x))
        return x.transpose(1, 2).float()

    def _silence(self, x: Tensor) -> Tensor:
        return x if self.mask is None else x * self.mask[:, None].to(x.dtype)


def _pack(module: nn.Module, dtype: torch.dtype) -> None:
    """Replace the linear layers, but for those of WavLM's gate, which are tiny and computed in fp32."""
    for name, child in module.named_children():
        if isinstance(child, nn.Linear) and name != "gru_rel_pos_linear":
            setattr(module, name, PackedLinear.of(child, dtype))
        else:
            _pack(child, dtype)


def _gated_attention(
    attention: Any, hidden: Tensor, mask: Tensor | None, gated_position_bias: Tensor
) -> tuple[Tensor, None]:
    """WavLM's attention without its weights, which only the reference implementation needs."""
    batch, n_frames, width = hidden.shape
    query, key, value = (
        project(hidden).view(batch, n_frames, attention.num_heads, -1).transpose(1, 2)
        for project in (attention.q_proj, attention.k_proj, attention.v_proj)
    )
    bias = gated_position_bias.view(batch, attention.num_heads, n_frames, n_frames)
    if mask is not None:
        bias = bias.masked_fill(~mask[:, None, None, :], float("-inf"))
    mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=bias.to(query.dtype))
    return attention.out_proj(mixed.transpose(1, 2).reshape(batch, n_frames, width)), None
