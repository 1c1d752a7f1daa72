"""The head of x-vector models of transformers: TDNN layers, statistics over time, and an embedding."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from networks.masking import masked_statistics


class XVectorHead(nn.Module):
    """The x-vector head (Snyder et al., 2018) of a ``*ForXVector`` model, with exact results for padded batches.

    The layers of the speech model are averaged with learned weights, or the last one is used. TDNN layers, which are
    convolutions without padding, follow; then mean and standard deviation over time, and one linear layer, whose output
    is the embedding. In transformers, the number of frames after dilated convolutions is wrong in padded batches.

    Parameters
    ----------
    model : nn.Module
        ``Wav2Vec2ForXVector``, ``WavLMForXVector``, ``Data2VecAudioForXVector`` or ``UniSpeechSatForXVector`` of
        transformers.

    Attributes
    ----------
    dim : int
        Length of an embedding.
    layer_weights : tuple of float
        Weight of each layer of the speech model; 0 is the input of the first transformer layer.
    min_frames : int
        Least number of frames: with these, two are left after the TDNN layers, which a standard deviation needs.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        n_layers = model.config.num_hidden_layers
        weights = getattr(model, "layer_weights", None)
        self.layer_weights: tuple[float, ...] = (
            (*[0.0] * n_layers, 1.0) if weights is None else tuple(weights.detach().float().softmax(0).tolist())
        )
        self.projector: nn.Linear = model.projector
        self.tdnn = nn.ModuleList(_convolution(layer) for layer in model.tdnn)
        self.feature_extractor: nn.Linear = model.feature_extractor
        self.dim = self.feature_extractor.out_features
        self._n_context = sum(layer.dilation * (layer.kernel_size - 1) for layer in model.tdnn)
        self.min_frames = self._n_context + 2

    def forward(self, frames: Tensor, n_frames: Tensor) -> Tensor:
        """Embed the averaged layers of a batch.

        Parameters
        ----------
        frames : Tensor (batch, time, width)
            Average of the layers with `layer_weights`; the values in padded frames are arbitrary.
        n_frames : Tensor (batch,)
            int64, valid frames of each, at least `min_frames`.

        Returns
        -------
        Tensor (batch, dim)
        """
        x = self.projector(frames).transpose(1, 2)
        for layer in self.tdnn:
            x = functional.relu(layer(x))
        # Without padding, the first frames of the output depend on valid frames alone.
        statistics = masked_statistics(x.transpose(1, 2), n_frames - self._n_context, correction=1)
        embeddings: Tensor = self.feature_extractor(statistics)
        return embeddings


def _convolution(layer: Any) -> nn.Conv1d:
    """Return the convolution of a TDNN layer, whose weights are those of a linear layer: (out, kernel x in)."""
    convolution = nn.Conv1d(layer.in_conv_dim, layer.out_conv_dim, layer.kernel_size, dilation=layer.dilation)
    weight = layer.kernel.weight.detach().view(layer.out_conv_dim, layer.kernel_size, layer.in_conv_dim)
    with torch.no_grad():
        convolution.weight.copy_(weight.transpose(1, 2))
        convolution.bias = layer.kernel.bias
    return convolution
