"""HTSAT and the audio projection of LAION's CLAP: embeds clips of 10 s."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchaudio.functional import melscale_fbanks

from networks.packed_linear import PackedLinear

# Front end of all checkpoints without feature fusion that LAION published.
CLIP_SAMPLE_RATE = 48_000
CLIP_SAMPLES = 480_000
N_FFT, HOP, N_MELS = 1024, 480, 64
MIN_FREQUENCY, MAX_FREQUENCY = 50.0, 14_000.0  # Hz
MIN_POWER = 1e-10  # as in torchlibrosa's LogmelFilterBank
# Sides of the image into which a spectrogram is folded (bins), of a patch (bins), and of an attention window (patches).
IMAGE_SIDE, PATCH_SIDE, WINDOW_SIDE = 256, 4, 8
MASKED_LOGIT = -100.0  # added to the attention logits of patches that are not neighbours in the spectrogram


class AudioTower(nn.Module):
    """HTSAT (Chen et al., 2022) and the audio projection of CLAP (Wu et al., 2023).

    Its state dict has the names of LAION's checkpoints, and its output is that of laion-clap's
    ``CLAP.get_audio_embedding``. Outputs that an embedding does not need are not computed: framewise and clipwise
    events, and averages of attention maps. The spectrogram is computed with an FFT instead of a convolution. Attention
    uses PyTorch's fused kernel, and the relative position bias is looked up once instead of in each forward pass.

    The parameters are not initialised: load a state dict before use.

    Parameters
    ----------
    width : int
        Number of channels after the patch embedding (96 in HTSAT-tiny, 128 in HTSAT-base, 256 in HTSAT-large).
    depths, heads : sequence of int
        Number of blocks, and of attention heads, of each of the four stages.
    dim : int
        Length of an embedding.
    dtype : torch.dtype
        Precision of the matrix products. Spectrogram, residual stream, normalisations and embedding are always fp32.
    """

    def __init__(
        self,
        width: int,
        *,
        depths: Sequence[int],
        heads: Sequence[int],
        dim: int,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self.audio_branch = HTSAT(width, depths=depths, heads=heads, dtype=dtype)
        self.audio_projection = nn.Sequential(_linear(8 * width, dim, dtype), nn.ReLU(), _linear(dim, dim, dtype))

    def log_mel(self, clips: Tensor) -> Tensor:
        """Compute log-mel spectrograms (dB; batch, 1, frames, mels) of clips (batch, samples) at 48 kHz."""
        return self.audio_branch.log_mel(clips)

    def forward(self, log_mel: Tensor) -> Tensor:
        """Embed log-mel spectrograms (batch, 1, frames, mels) as vectors of unit length, (batch, dim)."""
        projected = self.audio_projection(self.audio_branch(log_mel))
        return functional.normalize(projected.float(), dim=-1)


class HTSAT(nn.Module):
    """HTSAT without its sound event classifier: a Swin transformer (Liu et al., 2021) on log-mel spectrograms.

    Parameters
    ----------
    width, depths, heads, dtype
        As in `AudioTower`.
    """

    window: Tensor

    def __init__(self, width: int, *, depths: Sequence[int], heads: Sequence[int], dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype
        self.logmel_extractor = _MelFilters()
        self.register_buffer("window", torch.hann_window(N_FFT), persistent=False)
        self.bn0 = nn.BatchNorm2d(N_MELS)
        self.patch_embed = _PatchEmbedding(width, dtype)
        side = IMAGE_SIDE // PATCH_SIDE
        n_stages = len(depths)
        self.layers = nn.ModuleList(
            _Stage(
                width * 2**number,
                n_blocks=depths[number],
                n_heads=heads[number],
                side=side // 2**number,
                is_last=number == n_stages - 1,
                dtype=dtype,
            )
            for number in range(n_stages)
        )
        self.norm = nn.LayerNorm(width * 2 ** (n_stages - 1))

    def log_mel(self, clips: Tensor) -> Tensor:
        """Compute log-mel spectrograms, as `AudioTower.log_mel` does."""
        spectrum = torch.stft(clips, N_FFT, HOP, window=self.window, pad_mode="reflect", return_complex=True)
        power = spectrum.real.square() + spectrum.imag.square()
        mels = power.transpose(1, 2) @ self.logmel_extractor.melW
        return 10 * mels.clamp_min(MIN_POWER).log10()[:, None]

    def forward(self, log_mel: Tensor) -> Tensor:
        """Return features (batch, 8 * width) of log-mel spectrograms (batch, 1, frames, mels)."""
        normalised = self.bn0(log_mel.transpose(1, 3)).transpose(1, 3)
        x: Tensor = self.patch_embed(_to_image(normalised).to(self.dtype))
        for stage in self.layers:
            x = stage(x)
        pooled: Tensor = self.norm(x).mean(1)
        return pooled


def _to_image(log_mel: Tensor) -> Tensor:
    """Stretch spectrograms (batch, 1, 1001, 64) to 1024 frames and fold these into images (batch, 1, 256, 256)."""
    n_folds = IMAGE_SIDE // N_MELS
    stretched = functional.interpolate(log_mel, (IMAGE_SIDE * n_folds, N_MELS), mode="bicubic", align_corners=True)
    # (batch, mels, folds, time in the fold) to (batch, folds, mels, time): the folds lie below each other.
    folds = stretched[:, 0].transpose(1, 2).reshape(-1, N_MELS, n_folds, IMAGE_SIDE)
    return folds.transpose(1, 2).reshape(-1, 1, IMAGE_SIDE, IMAGE_SIDE)


class _MelFilters(nn.Module):
    """Mel filter bank (n_fft / 2 + 1, mels); checkpoints hold its values."""

    melW: Tensor  # noqa: N815 - the name in checkpoints

    def __init__(self) -> None:
        super().__init__()
        filters = melscale_fbanks(
            N_FFT // 2 + 1, MIN_FREQUENCY, MAX_FREQUENCY, N_MELS, CLIP_SAMPLE_RATE, norm="slaney", mel_scale="slaney"
        )
        self.register_buffer("melW", filters)


class _PatchEmbedding(nn.Module):
    """Embed the patches of an image (batch, 1, side, side) as vectors (batch, patches, width)."""

    def __init__(self, width: int, dtype: torch.dtype) -> None:
        super().__init__()
        conv: nn.Conv2d = nn.utils.skip_init(nn.Conv2d, 1, width, PATCH_SIDE, PATCH_SIDE)  # type: ignore[no-untyped-call]
        self.proj = conv.to(dtype)
        self.norm = nn.LayerNorm(width)

    def forward(self, image: Tensor) -> Tensor:
        patches: Tensor = self.norm(self.proj(image).flatten(2).transpose(1, 2).float())
        return patches


class _Stage(nn.Module):
    """Swin blocks at one resolution, followed by the merging of patches except in the last stage."""

    def __init__(
        self, width: int, *, n_blocks: int, n_heads: int, side: int, is_last: bool, dtype: torch.dtype
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            _Block(width, n_heads=n_heads, side=side, is_shifted=number % 2 == 1, dtype=dtype)
            for number in range(n_blocks)
        )
        self.downsample = None if is_last else _PatchMerging(width, side, dtype)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return x if self.downsample is None else self.downsample(x)


class _PatchMerging(nn.Module):
    """Merge squares of four patches, (batch, patches, width), to (batch, patches / 4, 2 * width)."""

    def __init__(self, width: int, side: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.side = side
        self.norm = nn.LayerNorm(4 * width)
        self.reduction = _linear(4 * width, 2 * width, dtype, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        half = self.side // 2
        squares = x.view(len(x), half, 2, half, 2, -1)  # batch, row, row within, column, column within, width
        # Column-major within a square, as the published weights expect.
        merged = squares.permute(0, 1, 3, 4, 2, 5).reshape(len(x), half * half, -1)
        reduced: Tensor = self.reduction(self.norm(merged))
        return reduced


class _Block(nn.Module):
    """A Swin block: attention within windows, shifted in every second block, then an MLP."""

    def __init__(self, width: int, *, n_heads: int, side: int, is_shifted: bool, dtype: torch.dtype) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = _WindowAttention(width, n_heads=n_heads, side=side, is_shifted=is_shifted, dtype=dtype)
        self.mlp = _MLP(width, dtype)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        mixed: Tensor = x + self.mlp(self.norm2(x))
        return mixed


class _MLP(nn.Module):
    """Two linear layers with GELU between them."""

    def __init__(self, width: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.fc1, self.fc2 = _linear(width, 4 * width, dtype, gelu=True), _linear(4 * width, width, dtype)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.fc2(self.fc1(x))
        return y


class _WindowAttention(nn.Module):
    """Multi-head self-attention within windows of patches, with a bias for relative positions."""

    bias: Tensor

    def __init__(self, width: int, *, n_heads: int, side: int, is_shifted: bool, dtype: torch.dtype) -> None:
        super().__init__()
        self.side, self.n_heads, self.dtype = side, n_heads, dtype
        self.window_size = min(WINDOW_SIDE, side)
        self.shift = self.window_size // 2 if is_shifted and side > WINDOW_SIDE else 0  # a single window is not shifted
        n_offsets = (2 * self.window_size - 1) ** 2
        self.relative_position_bias_table = nn.Parameter(torch.zeros(n_offsets, n_heads), requires_grad=False)
        self.qkv, self.proj = _linear(width, 3 * width, dtype), _linear(width, width, dtype)
        self.register_buffer("bias", self._look_up_bias(), persistent=False)
        self.register_load_state_dict_post_hook(_update_bias)  # type: ignore[no-untyped-call]

    def _look_up_bias(self) -> Tensor:
        """Return the bias of attention logits, (1, heads, patches, patches) or (1, windows * heads, ...) if shifted."""
        size = self.window_size
        index = _relative_positions(size).to(self.relative_position_bias_table.device)
        bias = self.relative_position_bias_table[index].permute(2, 0, 1)
        if self.shift:  # windows at the edges hold patches that are not neighbours, so each window has its own bias
            mask = _shift_mask(self.side, size, self.shift).to(bias.device)
            bias = (bias[None] + mask[:, None]).flatten(0, 1)
        return bias.to(self.dtype).contiguous()[None]

    def forward(self, x: Tensor) -> Tensor:
        batch, n_patches, width = x.shape
        count, size = self.side // self.window_size, self.window_size
        x = x.view(batch, self.side, self.side, width)
        if self.shift:
            x = x.roll((-self.shift, -self.shift), dims=(1, 2))
        windows = x.view(batch, count, size, count, size, width).transpose(2, 3).reshape(-1, size * size, width)
        heads = self.qkv(windows).view(len(windows), size * size, 3, self.n_heads, -1).permute(2, 0, 3, 1, 4)
        if self.shift:  # windows and heads share an axis, so that the bias is broadcast over the batch
            heads = heads.reshape(3, batch, -1, size * size, width // self.n_heads)
        query, key, value = heads
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=self.bias)
        mixed = mixed.reshape(len(windows), self.n_heads, size * size, -1).transpose(1, 2).reshape(windows.shape)
        x = self.proj(mixed).view(batch, count, count, size, size, width).transpose(2, 3)
        x = x.reshape(batch, self.side, self.side, width)
        if self.shift:
            x = x.roll((self.shift, self.shift), dims=(1, 2))
        return x.reshape(batch, n_patches, width)


def _update_bias(attention: nn.Module, _: object) -> None:
    """Look the bias up again after its table was loaded."""
    assert isinstance(attention, _WindowAttention)
    attention.bias = attention._look_up_bias()


def _relative_positions(size: int) -> Tensor:
    """Return the row of the bias table for each pair of patches in a window, (size * size, size * size)."""
    rows, columns = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    places = torch.stack([rows.flatten(), columns.flatten()])
    offsets = places[:, :, None] - places[:, None, :] + size - 1
    index: Tensor = offsets[0] * (2 * size - 1) + offsets[1]
    return index


def _shift_mask(side: int, size: int, shift: int) -> Tensor:
    """Return `MASKED_LOGIT` for pairs of patches of different regions, else 0: (windows, patches, patches)."""
    # Rolling brings patches of the opposite edge into the last windows: three regions along each axis.
    region = torch.zeros(side, dtype=torch.int64)
    region[-size:-shift], region[-shift:] = 1, 2
    regions = 3 * region[:, None] + region
    count = side // size
    windows = regions.view(count, size, count, size).transpose(1, 2).reshape(count * count, size * size)
    is_different = windows[:, :, None] != windows[:, None, :]
    return torch.where(is_different, MASKED_LOGIT, 0.0)


def _linear(
    n_inputs: int, n_outputs: int, dtype: torch.dtype, *, bias: bool = True, gelu: bool = False
) -> PackedLinear:
    """Build a linear layer; its weights must be loaded."""
    offsets = torch.empty(n_outputs) if bias else None
    return PackedLinear(torch.empty(n_outputs, n_inputs), offsets, dtype, gelu=gelu)
