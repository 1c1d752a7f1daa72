"""CLAP's audio tower: a clip of 10 s in, a vector of unit length out."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from networks.laion_htsat import HOP, N_FFT
from networks.packed_linear import PackedLinear

MIN_POWER = 1e-10  # as in torchlibrosa's LogmelFilterBank


class AudioTower(nn.Module):
    """A faster implementation of laion-clap's HTSAT and audio projection, with the same weights.

    The output is that of ``CLAP.get_audio_embedding`` (Chen et al., 2022; Wu et al., 2023). Outputs that an embedding
    does not need are not computed: framewise and clipwise events, and averages of attention maps. The spectrogram is
    computed with an FFT instead of a convolution. Attention uses PyTorch's fused kernel, and the relative position bias
    is looked up once instead of in each forward pass. Matrix products are computed in `dtype`; spectrogram, residual
    stream, normalisations and output vector are always fp32.

    Parameters
    ----------
    network : nn.Module
        ``HTSAT_Swin_Transformer`` with its weights; its modules become part of the tower.
    projection : nn.Sequential
        Linear, ReLU, Linear.
    dtype : torch.dtype
        Precision of the matrix products.
    """

    mel: Tensor
    window: Tensor

    def __init__(self, network: Any, projection: Any, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.dtype = dtype
        self.batch_norm: nn.Module = network.bn0
        self.to_image = network.reshape_wav2img  # stretches 1,001 frames to 1,024 and folds them into 256 x 256
        self.patches: nn.Module = network.patch_embed.proj.to(dtype)
        self.patch_norm: nn.Module = network.patch_embed.norm
        self.stages = nn.ModuleList(_Stage(stage, dtype) for stage in network.layers)
        self.norm: nn.Module = network.norm
        self.projection = nn.Sequential(
            PackedLinear.of(projection[0], dtype), nn.ReLU(), PackedLinear.of(projection[2], dtype)
        )
        self.register_buffer("mel", network.logmel_extractor.melW.detach())
        self.register_buffer("window", torch.hann_window(N_FFT))

    def log_mel(self, clips: Tensor) -> Tensor:
        """Compute log-mel spectrograms (dB; batch, 1, frames, mels) of clips (batch, samples) at 48 kHz."""
        spectrum = torch.stft(clips, N_FFT, HOP, window=self.window, pad_mode="reflect", return_complex=True)
        power = spectrum.real.square() + spectrum.imag.square()
        return 10 * (power.transpose(1, 2) @ self.mel).clamp_min(MIN_POWER).log10()[:, None]

    def forward(self, log_mel: Tensor) -> Tensor:
        """Embed log-mel spectrograms (batch, 1, frames, mels) as vectors of unit length, (batch, dim)."""
        normalised = self.batch_norm(log_mel.transpose(1, 3)).transpose(1, 3)
        patches = self.patches(self.to_image(normalised).to(self.dtype)).flatten(2).transpose(1, 2)
        x = self.patch_norm(patches.float())
        for stage in self.stages:
            x = stage(x)
        return functional.normalize(self.projection(self.norm(x).mean(1)).float(), dim=-1)


class _Stage(nn.Module):
    """Swin blocks of one resolution, followed by the merging of patches."""

    def __init__(self, stage: Any, dtype: torch.dtype) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(_Block(block, dtype) for block in stage.blocks)
        self.downsample: nn.Module = nn.Identity()
        if stage.downsample is not None:
            self.downsample = stage.downsample
            self.downsample.reduction = PackedLinear.of(stage.downsample.reduction, dtype)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return self.downsample(x)  # type: ignore[no-any-return]


class _Block(nn.Module):
    """A Swin block: attention within windows, shifted in every second block, then an MLP (Liu et al., 2021)."""

    bias: Tensor

    def __init__(self, block: Any, dtype: torch.dtype) -> None:
        super().__init__()
        self.norm1, self.norm2 = block.norm1, block.norm2
        self.qkv, self.proj = (
            PackedLinear.of(block.attn.qkv, dtype),
            PackedLinear.of(block.attn.proj, dtype),
        )
        self.mlp = nn.Sequential(
            PackedLinear.of(block.mlp.fc1, dtype, gelu=True),
            PackedLinear.of(block.mlp.fc2, dtype),
        )
        self.side: int = block.input_resolution[0]
        self.window_size: int = block.window_size
        self.shift: int = block.shift_size
        self.n_heads: int = block.num_heads
        attention = block.attn
        bias = attention.relative_position_bias_table[attention.relative_position_index].detach().permute(2, 0, 1)
        if block.attn_mask is not None:  # one bias per window: shifted windows join distant patches
            bias = (bias[None] + block.attn_mask[:, None]).flatten(0, 1)
        self.register_buffer("bias", bias.to(dtype).contiguous()[None], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self._attend(self.norm1(x))
        return x + self.mlp(self.norm2(x))  # type: ignore[no-any-return]

    def _attend(self, x: Tensor) -> Tensor:
        batch, n_patches, width = x.shape
        count, size = self.side // self.window_size, self.window_size
        x = x.view(batch, self.side, self.side, width)
        if self.shift:
            x = x.roll((-self.shift, -self.shift), dims=(1, 2))
        windows = x.view(batch, count, size, count, size, width).transpose(2, 3).reshape(-1, size * size, width)
        heads = self.qkv(windows).view(len(windows), size * size, 3, self.n_heads, -1).permute(2, 0, 3, 1, 4)
        if self.shift:  # one axis for windows and heads, so that the bias of each window is broadcast over the batch
            heads = heads.reshape(3, batch, -1, size * size, width // self.n_heads)
        query, key, value = heads
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=self.bias)
        mixed = mixed.reshape(len(windows), self.n_heads, size * size, -1).transpose(1, 2).reshape(windows.shape)
        x = self.proj(mixed).view(batch, count, count, size, size, width).transpose(2, 3)
        x = x.reshape(batch, self.side, self.side, width)
        if self.shift:
            x = x.roll((self.shift, self.shift), dims=(1, 2))
        return x.reshape(batch, n_patches, width)
