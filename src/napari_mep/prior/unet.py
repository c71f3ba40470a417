"""The anisotropic 3D UNet that predicts v from a noisy volume.

Voxels are eight times longer along the beam than across it, so resampling is anisotropic: the
first levels halve only (y, x) until voxels are cubic, the later ones halve all three axes;
attention sits where voxels are cubic (Belardi et al. 2025, Appendix D). A patch stem (space to
depth, then a pointwise convolution) may stand in for the first levels: thin full-resolution 3D
levels cost most of the time and carry least of the capacity.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["PRESETS", "LevelConfig", "UNet3D", "UNetConfig"]

Triple = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class LevelConfig:
    """One resolution level.

    Parameters
    ----------
    channels : int
        Features at this level.
    blocks : int
        Residual blocks on the way down; the way up has the same number.
    downsample : (z, y, x) ints
        Resampling factor between this level and the next deeper one; unused at the last level.
    attention : bool
        Whether each block is followed by self-attention over all voxels of the level.
    """

    channels: int
    blocks: int
    downsample: Triple = (1, 1, 1)
    attention: bool = False


@dataclass(frozen=True, slots=True)
class UNetConfig:
    """Architecture; serialised with the weights.

    Parameters
    ----------
    patch : (z, y, x) ints
        Space-to-depth factor of the stem.
    levels : tuple of LevelConfig
        From the finest to the coarsest level.
    embedding : int
        Width of the logSNR embedding.
    estimate : bool
        Whether the network also sees an estimate of the volume that was made without a prior.
    """

    patch: Triple
    levels: tuple[LevelConfig, ...]
    embedding: int = 256
    estimate: bool = False

    @property
    def multiple(self) -> Triple:
        """Volume shapes must be multiples of this."""
        factor = list(self.patch)
        for level in self.levels[:-1]:
            factor = [f * d for f, d in zip(factor, level.downsample, strict=True)]
        return tuple(factor)  # type: ignore[return-value]

    def to_dict(self) -> dict[str, Any]:
        """The architecture in types that JSON holds; `from_dict` reads it back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> UNetConfig:
        """The architecture that `to_dict` wrote; KeyError or TypeError if it is none."""
        levels = tuple(
            LevelConfig(
                int(v["channels"]),
                int(v["blocks"]),
                tuple(v["downsample"]),
                bool(v["attention"]),
            )
            for v in values["levels"]
        )
        return cls(
            tuple(values["patch"]),
            levels,
            int(values["embedding"]),
            bool(values.get("estimate", False)),  # older priors know none
        )


_SATURATION = 5.0  # noise standard deviations

_LATERAL, _CUBIC = (1, 2, 2), (2, 2, 2)

PRESETS: dict[str, UNetConfig] = {
    # Made for a CPU: everything happens at 0.8 A and coarser.
    "tiny": UNetConfig(
        (1, 4, 4),
        (
            LevelConfig(48, 1, _LATERAL),
            LevelConfig(96, 1, _CUBIC, attention=True),
            LevelConfig(192, 1, attention=True),
        ),
    ),
    # Attention only where there are 64 tokens: at the level above it costs a quarter of a step.
    "small": UNetConfig(
        (1, 4, 4),
        (
            LevelConfig(64, 2, _LATERAL),
            LevelConfig(128, 2, _CUBIC),
            LevelConfig(256, 2, attention=True),
        ),
        embedding=384,
    ),
    # As much as fits the 32 MB that a shipped prior may weigh.
    "base": UNetConfig(
        (1, 4, 4),
        (
            LevelConfig(96, 2, _LATERAL),
            LevelConfig(160, 2, _CUBIC, attention=True),
            LevelConfig(224, 2, attention=True),
        ),
        embedding=384,
    ),
    # Appendix D of MEP-Diffusion: channels 16, 16, 32, 32, 64, 64 | 128 x 4, 256 x 4 | 256 with two
    # residual blocks each, about 100 M parameters, no patch stem.
    "paper": UNetConfig(
        (1, 1, 1),
        (
            LevelConfig(16, 4, _LATERAL),
            LevelConfig(32, 4, _LATERAL),
            LevelConfig(64, 4, _LATERAL),
            LevelConfig(128, 8, _CUBIC, attention=True),
            LevelConfig(256, 8, _CUBIC, attention=True),
            LevelConfig(256, 2, attention=True),
        ),
        embedding=512,
    ),
}


class _ChannelNorm(nn.Module):
    """Layer norm over channels, per voxel: no statistics over space, so any tile size is alike."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        # In channels-last memory the moved axis is contiguous, which is the fused kernel's case.
        h = F.layer_norm(x.movedim(1, -1), self.weight.shape, self.weight, self.bias)
        return h.movedim(-1, 1)


class _ResBlock(nn.Module):
    """norm, SiLU, conv, norm with scale and shift from the noise level, SiLU, conv, plus skip."""

    def __init__(self, channels: int, embedding: int) -> None:
        super().__init__()
        self.norm1 = _ChannelNorm(channels)
        self.conv1 = nn.Conv3d(channels, channels, 3, padding=1)
        self.norm2 = _ChannelNorm(channels)
        self.film = nn.Linear(embedding, 2 * channels)
        self.conv2 = nn.Conv3d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.film.weight)
        for bias in (self.conv1.bias, self.conv2.bias, self.film.bias):
            nn.init.zeros_(bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        scale, shift = self.film(emb)[:, :, None, None, None].chunk(2, dim=1)
        h = self.conv1(F.silu(self.norm1(x)))
        h = torch.addcmul(shift, self.norm2(h), 1 + scale)
        return x + self.conv2(F.silu(h))


class _Attention(nn.Module):
    """Multi-head self-attention over all voxels of a level (heads of 32 channels)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.heads = max(1, channels // 32)
        self.norm = _ChannelNorm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, channels)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, *space = x.shape
        tokens = self.norm(x).flatten(2).transpose(1, 2)
        qkv = self.qkv(tokens).view(batch, -1, 3, self.heads, channels // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v)
        mixed = self.out(mixed.transpose(1, 2).flatten(2))
        return x + mixed.transpose(1, 2).reshape(batch, channels, *space)


class _Stack(nn.Module):
    """The residual blocks of one level in one direction."""

    def __init__(self, level: LevelConfig, embedding: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            _ResBlock(level.channels, embedding) for _ in range(level.blocks)
        )
        self.attention = nn.ModuleList(
            _Attention(level.channels) for _ in range(level.blocks if level.attention else 0)
        )

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        for i, block in enumerate(self.blocks):
            x = block(x, emb)
            if self.attention:
                x = self.attention[i](x)
        return x


class UNet3D(nn.Module):
    """v-prediction network F(c_in X, logSNR).

    Parameters
    ----------
    config : UNetConfig
        Architecture, for instance one of `PRESETS`.
    """

    frequencies: Tensor

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        levels, width = config.levels, config.embedding
        patch_voxels = math.prod(config.patch)
        # Fourier features of logSNR / 4 = -ln(k) / 2, the noise coordinate of EDM2.
        self.register_buffer("frequencies", 2.0 ** torch.arange(-4, 4), persistent=False)
        self.embed = nn.Sequential(nn.Linear(17, width), nn.SiLU(), nn.Linear(width, width))
        self.stem = nn.Conv3d(2 * patch_voxels, levels[0].channels, 1)
        if config.estimate:
            self.estimate_stem = nn.Conv3d(patch_voxels, levels[0].channels, 1, bias=False)
            nn.init.zeros_(self.estimate_stem.weight)
        self.down = nn.ModuleList(_Stack(level, width) for level in levels)
        self.reduce = nn.ModuleList(
            nn.Conv3d(a.channels, b.channels, a.downsample, stride=a.downsample)
            for a, b in pairwise(levels)
        )
        self.enlarge = nn.ModuleList(
            nn.ConvTranspose3d(b.channels, a.channels, a.downsample, stride=a.downsample)
            for a, b in pairwise(levels)
        )
        self.merge = nn.ModuleList(
            nn.Conv3d(2 * level.channels, level.channels, 1) for level in levels[:-1]
        )
        self.up = nn.ModuleList(_Stack(level, width) for level in levels[:-1])
        self.head_norm = _ChannelNorm(levels[0].channels)
        self.head = nn.Conv3d(levels[0].channels, patch_voxels, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, logsnr: Tensor, estimate: Tensor | None = None) -> Tensor:
        """Predict v.

        Parameters
        ----------
        x : (B, Z, Y, X) tensor
            Noisy volume alpha x + sigma eps, unit variance. Z, Y, X multiples of
            ``config.multiple``.
        logsnr : (B,) tensor
            Log signal-to-noise ratio of each volume.
        estimate : (B, Z, Y, X) tensor, optional
            In units of the scaled data; only for a network made for one. Zero, or left out: there
            is none.

        Returns
        -------
        (B, Z, Y, X) tensor
            v = alpha eps - sigma x, in units of the scaled data.
        """
        noise = (logsnr / 4).to(x.dtype)[:, None]
        waves = noise * self.frequencies.to(x.dtype) * (2 * math.pi)
        emb = F.silu(self.embed(torch.cat([noise, waves.sin(), waves.cos()], 1)))
        # Crystals are sparse: between atoms there is nothing but noise. In units of the noise it
        # has the same size at every level, which is what v asks for; atoms saturate there.
        sigma = torch.sigmoid(-logsnr).sqrt().to(x.dtype)[:, None, None, None]
        in_noise_units = (x / sigma).clamp(-_SATURATION, _SATURATION)
        patches = [_space_to_depth(volume, self.config.patch) for volume in (x, in_noise_units)]
        h = self.stem(torch.cat(patches, 1).contiguous(memory_format=torch.channels_last_3d))
        if estimate is not None:
            seen = _space_to_depth(estimate, self.config.patch)
            h = h + self.estimate_stem(seen.contiguous(memory_format=torch.channels_last_3d))
        skips = []
        for i, stack in enumerate(self.down):
            h = stack(h, emb)
            if i < len(self.reduce):
                skips.append(h)
                h = self.reduce[i](h)
        for i in reversed(range(len(self.up))):
            h = self.merge[i](torch.cat([self.enlarge[i](h), skips[i]], 1))
            h = self.up[i](h, emb)
        return _depth_to_space(self.head(F.silu(self.head_norm(h))), self.config.patch)


def _space_to_depth(x: Tensor, patch: Triple) -> Tensor:
    """(B, Z, Y, X) to (B, pz py px, Z/pz, Y/py, X/px)."""
    b, z, y, x_ = x.shape
    pz, py, px = patch
    h = x.view(b, z // pz, pz, y // py, py, x_ // px, px)
    return h.permute(0, 2, 4, 6, 1, 3, 5).flatten(1, 3)


def _depth_to_space(h: Tensor, patch: Triple) -> Tensor:
    """Inverse of `_space_to_depth`."""
    pz, py, px = patch
    b, _, z, y, x = h.shape
    h = h.view(b, pz, py, px, z, y, x).permute(0, 4, 1, 5, 2, 6, 3)
    return h.reshape(b, z * pz, y * py, x * px)
