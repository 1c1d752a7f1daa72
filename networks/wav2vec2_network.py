"""The networks of the wav2vec2 family, computed so that padding does not change the result.

Weights and layers are those of transformers. Two parts are replaced because padding would change their output: the
group norm of the first convolution, which averages over time, and the positional convolutions, which read frames after
the end of an utterance. Some parts are removed to save time: attention weights, weight norms, and layers above the
highest one that is read.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrize

from networks.packed_linear import PackedLinear

# Function that takes the number of a layer and its hidden states (batch, frames, width).
Reader = Callable[[int, Tensor], None]
# Number of frames of the first layer in one matrix product.
BLOCK = 512


class SpeechNetwork(nn.Module):
    """A wav2vec2, HuBERT, WavLM, data2vec-audio or UniSpeech-SAT model of transformers, exact for padded batches.

    Parameters
    ----------
    model : nn.Module
        ``Wav2Vec2Model``, ``HubertModel``, ``WavLMModel``, ``Data2VecAudioModel`` or ``UniSpeechSatModel``. Its modules
        become part of this network and are changed.
    dtype : torch.dtype
        Precision of convolutions, matrix products and attention; everything else is fp32.
    top_layer : int
        The highest layer that is read; 0 is the input of the first transformer layer.
    reads_final_norm : bool
        Whether the last layer is read after the final norm that large models have.
    """

    def __init__(self, model: Any, dtype: torch.dtype, top_layer: int, *, reads_final_norm: bool = True) -> None:
        super().__init__()
        self.dtype = dtype
        self.top_layer = top_layer
        self.reads_final_norm = reads_final_norm
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
        self.positions = Positions(self.encoder.pos_conv_embed, dtype)
        self.encoder.pos_conv_embed = self.positions
        _pack(self.projection, dtype)
        _pack(self.encoder.layers, dtype)
        set_gated_attention(self.encoder.layers)

    def n_frames(self, n_samples: Tensor) -> Tensor:
        """Return the number of frames of utterances with these numbers of samples (batch,)."""
        layer: Any
        for layer in self.convolutions:
            n_samples = layer.n_frames(n_samples)
        return n_samples

    def receptive_field(self) -> int:
        """Return the number of samples of one frame, the minimum length of an utterance."""
        samples = 1
        layer: Any
        for layer in reversed(list(self.convolutions)):
            samples = (samples - 1) * layer.stride + layer.kernel
        return samples

    def forward(self, waveforms: Tensor, lengths: Tensor, read: Reader) -> None:
        """Compute the layers of a batch, and call `read` with each layer as soon as it is computed.

        Parameters
        ----------
        waveforms : Tensor (batch, samples)
            Waveforms, normalised if the checkpoint requires it, then padded with zeros.
        lengths : Tensor (batch,)
            Number of valid samples of each.
        read : callable
            Called with the number of each layer up to `top_layer` and its hidden states (batch, frames, width), fp32.
            The values in padded frames are arbitrary.
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
        if self.top_layer == self.n_layers and self.reads_final_norm:
            read(self.n_layers, last)

    def _hooks(self, read: Reader) -> list[Any]:
        layers: Sequence[nn.Module] = list(self.encoder.layers)

        def read_input(_: nn.Module, inputs: Any) -> None:
            read(0, inputs[0])

        def read_output(number: int, _: nn.Module, __: Any, output: Any) -> None:
            read(number, output[0] if isinstance(output, tuple) else output)

        hooks: list[Any] = [layers[0].register_forward_pre_hook(read_input)]
        for number, layer in enumerate(layers, start=1):
            if number <= self.top_layer and (number < self.n_layers or not self.reads_final_norm):
                hooks.append(layer.register_forward_hook(partial(read_output, number)))
        return hooks


class _Convolution(nn.Module):
    """A convolution over time with norm and activation, on (batch, frames, channels), computed as a matrix product.

    Each window of the convolution is one row of the product. On CPUs this is faster than a convolution, and GELU is
    computed by the same kernel.
    """

    def __init__(self, layer: Any, dtype: torch.dtype, gelu: bool) -> None:
        super().__init__()
        weight = layer.conv.weight
        self.kernel: int = weight.shape[2]
        self.stride: int = layer.conv.stride[0]
        self.norm: nn.Module | None = getattr(layer, "layer_norm", None)
        gelu = gelu and self.norm is None
        self.linear = PackedLinear(weight.transpose(1, 2).flatten(1), layer.conv.bias, dtype, gelu=gelu)
        self.activation: nn.Module = nn.Identity() if gelu else layer.activation

    def n_frames(self, length: Any) -> Any:
        """Return the number of windows in an input of this length."""
        return (length - self.kernel) // self.stride + 1

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        batch, length, channels = x.shape
        x = x.to(self.linear.weight.dtype).contiguous()
        strides = (length * channels, self.stride * channels, 1)
        windows = x.as_strided((batch, self.n_frames(length), self.kernel * channels), strides)
        lengths = self.n_frames(lengths)
        return self._embed(windows, lengths), lengths

    def _embed(self, windows: Tensor, lengths: Tensor) -> Tensor:
        x: Tensor = self.linear(windows)
        if self.norm is not None:
            x = self.norm(x.float())
        return self.activation(x)  # type: ignore[no-any-return]


class _NormalisedConvolution(_Convolution):
    """The first convolution, with a group norm that normalises each channel over the valid frames of each utterance.

    A channel is a weighted sum of the samples in a window. Its mean and variance over time follow from the mean and the
    covariance of the windows, about 10 x 10 numbers; convolution and norm are then one matrix product. It is computed
    in fp32 for every `dtype`, because it is cheap.
    """

    def __init__(self, layer: Any, dtype: torch.dtype) -> None:
        super().__init__(layer, torch.float32, gelu=False)
        self.dtype = dtype

    def _embed(self, windows: Tensor, lengths: Tensor) -> Tensor:
        norm: Any = self.norm
        weight = self.linear.weight
        x = windows.new_empty(*windows.shape[:2], len(weight), dtype=self.dtype)
        for row, valid, out in zip(windows, lengths.tolist(), x, strict=True):
            frames = row[:valid].to(torch.float32 if row.device.type == "mps" else torch.float64)
            mean = frames.mean(0)
            covariance = (frames - mean).T @ (frames - mean) / valid
            variance = ((weight.to(frames.dtype) @ covariance) * weight).sum(1)
            scale = norm.weight / (variance + norm.eps).sqrt()
            shift = norm.bias - scale * (weight.to(frames.dtype) @ mean)
            product = PackedLinear(weight * scale[:, None], shift, torch.float32)
            # Blocks stay in a CPU's cache; otherwise memory accesses take most of the time.
            step = BLOCK if x.device.type == "cpu" else valid
            for first in range(0, valid, step):
                block = slice(first, min(first + step, valid))
                out[block] = self.activation(product(row[block]))
            out[valid:] = 0
        return x


class Positions(nn.Module):
    """The positional convolutions: one, or several in data2vec-audio. After each, padded frames are set to zero.

    Parameters
    ----------
    module : nn.Module
        Positional convolutions of a model of transformers.
    dtype : torch.dtype
        Precision of the convolutions.
    is_trained : bool
        Whether to keep the weight norm of the convolutions, which changes how they learn.
    """

    def __init__(self, module: Any, dtype: torch.dtype, is_trained: bool = False) -> None:
        super().__init__()
        self.dtype = dtype
        self.mask: Tensor | None = None  # valid frames of the current batch (batch, frames); None if all are
        self.layers: Any = nn.ModuleList(getattr(module, "layers", [module]))
        layer: Any
        for layer in self.layers:
            if parametrize.is_parametrized(layer.conv) and not is_trained:
                parametrize.remove_parametrizations(layer.conv, "weight")
            layer.conv.to(dtype)

    def forward(self, hidden: Tensor) -> Tensor:
        x = hidden.transpose(1, 2)
        for layer in self.layers:
            if getattr(layer, "batch_norm", None) is not None:
                x = self._zero_padding(layer.batch_norm(x))
            x = layer.padding(layer.conv(x.to(self.dtype)))
            if hasattr(layer, "layer_norm"):
                x = layer.layer_norm(x.transpose(1, 2).float()).transpose(1, 2)
            x = self._zero_padding(layer.activation(x))
        return x.transpose(1, 2).float()

    def _zero_padding(self, x: Tensor) -> Tensor:
        return x if self.mask is None else x * self.mask[:, None].to(x.dtype)


def _pack(module: nn.Module, dtype: torch.dtype) -> None:
    """Replace linear layers by packed ones, except those of WavLM's gate, which are tiny and computed in fp32."""
    for name, child in module.named_children():
        if isinstance(child, nn.Linear) and name != "gru_rel_pos_linear":
            setattr(module, name, PackedLinear.of(child, dtype))
        else:
            _pack(child, dtype)


def set_gated_attention(layers: Any) -> None:
    """Replace the attention of WavLM's layers by `_gated_attention`; other layers are not changed."""
    for layer in layers:
        if hasattr(layer.attention, "torch_multi_head_self_attention"):
            layer.attention.torch_multi_head_self_attention = partial(_gated_attention, layer.attention)


def _gated_attention(
    attention: Any, hidden: Tensor, mask: Tensor | None, gated_position_bias: Tensor
) -> tuple[Tensor, None]:
    """Compute WavLM's attention without returning attention weights, which allows the fused kernel."""
    batch, n_frames, width = hidden.shape
    query, key, value = (
        project(hidden).view(batch, n_frames, attention.num_heads, -1).transpose(1, 2)
        for project in (attention.q_proj, attention.k_proj, attention.v_proj)
    )
    bias = gated_position_bias.view(batch, attention.num_heads, n_frames, n_frames)
    if mask is not None:
        bias = bias.masked_fill(~mask[:, None, None, :], float("-inf"))
    dropout = attention.dropout if attention.training else 0.0
    mixed = functional.scaled_dot_product_attention(
        query, key, value, attn_mask=bias.to(query.dtype), dropout_p=dropout
    )
    return attention.out_proj(mixed.transpose(1, 2).reshape(batch, n_frames, width)), None
