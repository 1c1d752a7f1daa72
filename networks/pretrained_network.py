"""Networks that are fine-tuned from pretrained weights, and whose first part can be frozen."""

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from networks.campplus import CAMPlusPlus
from networks.masking import masked_mean, masked_statistics, valid_frames
from networks.speaker_network import SpeakerNetwork
from networks.wav2vec2_network import Positions, set_gated_attention

POOLINGS = ("mean", "mean+std")
# Added to the variance of a waveform, as transformers does.
MIN_VARIANCE = 1e-7
# Settings of a model with its dropout probabilities.
DROPOUTS = ("hidden_dropout", "activation_dropout", "attention_dropout", "feat_proj_dropout", "layerdrop")


class PretrainedNetwork(SpeakerNetwork):
    """A network with pretrained weights.

    Modules that are frozen have no gradients, and stay in eval mode. Batch norms keep the statistics of the
    pretraining: a batch of a few utterances would give statistics of these, and of their padding.
    """

    def __init__(self) -> None:
        super().__init__()
        self._frozen: list[nn.Module] = []

    def freeze(self, feature_extractor: bool = False, n_layers: int = 0) -> None:
        """Freeze the first part of the network.

        Parameters
        ----------
        feature_extractor : bool
            Whether to freeze the convolutions at the beginning.
        n_layers : int
            Number of transformer layers to freeze, with everything before them.

        Raises
        ------
        ValueError
            The network does not have this number of transformer layers.
        """
        self._frozen = [*self._first_part(feature_extractor, n_layers)]
        for module in self._frozen:
            module.requires_grad_(False)
        self.train(self.training)

    def _first_part(self, feature_extractor: bool, n_layers: int) -> Iterable[nn.Module]:
        """Yield the modules to freeze."""
        raise NotImplementedError

    def checkpoint_gradients(self) -> None:
        """Recompute the activations of each layer in the backward pass, which takes less memory and more time.

        Raises
        ------
        ValueError
            The network does not support it.
        """
        raise ValueError("gradient checkpointing is for the layers of wav2vec2")

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        for module in self._frozen:
            module.eval()
        for module in self.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.eval()
        return self

    def frozen_names(self) -> set[str]:
        """Return the names in the state dict of the tensors that are frozen."""
        names = {module: name for name, module in self.named_modules()}
        return {f"{names[module]}.{name}" for module in self._frozen for name in module.state_dict()}


class Wav2Vec2Speaker(PretrainedNetwork):
    """The last layer of a model of the wav2vec2 family, pooled over the true frames.

    Masks for its own pre-training (SpecAugment) are not applied.

    Parameters
    ----------
    model : nn.Module
        ``Wav2Vec2Model``, ``HubertModel``, ``WavLMModel`` or ``Data2VecAudioModel`` of transformers, whose modules
        become part of this network and are changed.
    pooling : {"mean", "mean+std"}
        Mean over time, or mean and standard deviation over time, concatenated.
    normalize : bool
        Whether each utterance is normalised to zero mean and unit variance, as most checkpoints expect.
    """

    front_end: ClassVar[str] = "waveform"
    crop_frames: ClassVar[int] = 48_000
    min_crop: ClassVar[int] = 400

    def __init__(self, model: Any, pooling: str = "mean", normalize: bool = True) -> None:
        super().__init__()
        if pooling not in POOLINGS:
            raise ValueError(f"pooling is {pooling!r}; choose mean or mean+std")
        self.pooling, self.normalize = pooling, normalize
        self.convolutions: Any = nn.ModuleList(model.feature_extractor.conv_layers)
        self.projection: nn.Module = model.feature_projection
        self.encoder: Any = model.encoder
        self.encoder.pos_conv_embed = Positions(self.encoder.pos_conv_embed, torch.float32, is_trained=True)
        set_gated_attention(self.encoder.layers)
        # The norm of the encoder is after the last layer in some models, and before the first in others.
        self._ends_with_norm = bool(getattr(model.config, "do_stable_layer_norm", False))
        for layer in self.encoder.layers:
            layer.register_forward_hook(_LayerDrop(float(model.config.layerdrop)))
        self.dropouts = {name: float(getattr(model.config, name)) for name in DROPOUTS}
        self.dim = model.config.hidden_size * (2 if pooling == "mean+std" else 1)
        self.requires_grad_(True)

    def _first_part(self, feature_extractor: bool, n_layers: int) -> Iterable[nn.Module]:
        total = len(self.encoder.layers)
        if n_layers > total:
            raise ValueError(f"it has {total} transformer layers, fewer than the {n_layers} to freeze")
        if feature_extractor or n_layers:
            yield self.convolutions
        if n_layers:
            yield from (self.projection, self.encoder.pos_conv_embed, self.encoder.dropout)
            if not self._ends_with_norm:
                yield self.encoder.layer_norm
            yield from self.encoder.layers[:n_layers]

    def checkpoint_gradients(self) -> None:
        for layer in self.encoder.layers:
            layer.gradient_checkpointing = True
            layer._gradient_checkpointing_func = partial(torch.utils.checkpoint.checkpoint, use_reentrant=False)

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        # In training, the encoder of transformers would drop frozen layers too; `_LayerDrop` drops trained ones alone.
        self.encoder.training = False
        return self

    def forward(self, frames: Tensor, n_frames: Tensor) -> Tensor:
        x, lengths = self._normalized(frames[..., 0], n_frames)
        x = x[:, None]
        for layer in self.convolutions:
            lengths = (lengths - layer.conv.kernel_size[0]) // layer.conv.stride[0] + 1
            x = _convolve(layer, x, lengths)
        projected = self.projection(x.transpose(1, 2))
        hidden = projected[0] if isinstance(projected, tuple) else projected
        valid = valid_frames(lengths, hidden.shape[1])
        mask = None if bool(valid.all()) else valid
        self.encoder.pos_conv_embed.mask = mask
        last = self.encoder(hidden, attention_mask=mask)[0].float()
        return masked_mean(last, lengths) if self.pooling == "mean" else masked_statistics(last, lengths)

    def _normalized(self, waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Normalise each utterance, and pad utterances shorter than one frame."""
        if self.normalize:
            waveforms = normalize_waveforms(waveforms, lengths)
        least = 1
        for layer in reversed(self.convolutions):
            least = (least - 1) * layer.conv.stride[0] + layer.conv.kernel_size[0]
        return functional.pad(waveforms, (0, max(least - waveforms.shape[1], 0))), lengths.clamp_min(least)


class CampPlusSpeaker(PretrainedNetwork):
    """CAM++ of 3D-Speaker.

    Parameters
    ----------
    network : CAMPlusPlus
        The network, with its batch norms: `CAMPlusPlus.from_state` removes them for inference.
    """

    front_end: ClassVar[str] = "fbank"
    crop_frames: ClassVar[int] = 300
    min_frames: ClassVar[int] = 3
    min_crop: ClassVar[int] = 3

    def __init__(self, network: CAMPlusPlus) -> None:
        super().__init__()
        self.network = network
        self.dim = network.dim

    def _first_part(self, feature_extractor: bool, n_layers: int) -> Iterable[nn.Module]:
        if n_layers:
            raise ValueError("it has no transformer layers, so none can be frozen")
        if feature_extractor:
            yield self.network.head

    def forward(self, frames: Tensor, n_frames: Tensor) -> Tensor:
        embeddings: Tensor = self.network(frames, n_frames)
        return embeddings


def normalize_waveforms(waveforms: Tensor, lengths: Tensor) -> Tensor:
    """Normalise each utterance of a zero-padded batch (batch, samples) to zero mean and unit variance."""
    centred = waveforms - waveforms.sum(1, keepdim=True) / lengths[:, None]
    centred = torch.where(valid_frames(lengths, waveforms.shape[1]), centred, 0)
    variance = centred.square().sum(1, keepdim=True) / lengths[:, None]
    return centred / (variance + MIN_VARIANCE).sqrt()


def _convolve(layer: Any, x: Tensor, lengths: Tensor) -> Tensor:
    """Apply a convolution with norm and activation to (batch, channels, time); a group norm ignores padding."""
    norm = getattr(layer, "layer_norm", None)
    if not isinstance(norm, nn.GroupNorm):
        convolved: Tensor = layer(x)
        return convolved
    x = layer.conv(x).float()
    valid = valid_frames(lengths, x.shape[2])[:, None]
    counts = lengths[:, None, None]
    centred = x - torch.where(valid, x, 0).sum(2, keepdim=True) / counts
    variance = torch.where(valid, centred, 0).square().sum(2, keepdim=True) / counts
    normed = centred / (variance + norm.eps).sqrt()
    activated: Tensor = layer.activation(normed * norm.weight[:, None] + norm.bias[:, None])
    return activated


class _LayerDrop:
    """Forward hook that returns the input of a layer instead of its output, with a probability, in training.

    The layer is computed in any case: with several processes, each parameter needs a gradient, here of zeros.
    """

    def __init__(self, probability: float) -> None:
        self._probability = probability

    def __call__(self, layer: nn.Module, inputs: Sequence[Any], output: Any) -> Any:
        if not layer.training or self._probability == 0:
            return None  # keeps the output
        hidden, *others = output if isinstance(output, tuple) else (output,)
        kept = torch.where(torch.rand((), device=hidden.device) >= self._probability, hidden, inputs[0])
        return (kept, *others) if isinstance(output, tuple) else kept
