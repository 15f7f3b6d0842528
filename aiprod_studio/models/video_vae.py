"""The video VAE: frames to latents of 16× fewer pixels a side and 4× fewer frames, and back.

Causal in time: the first frame is a group of its own and no group sees a later one, so that one
picture is a clip of one frame and 4k + 1 frames give k + 1 latent frames.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

TIME_FACTOR = 4
SPACE_FACTOR = 16
_PATCH = 8  # pixels a side that one cell of the fine level covers
_QUARTER = 4  # pixels a side that one cell of the decoder's last level covers


@dataclass(frozen=True)
class VideoVAEConfig:
    """Latent channels, and widths and blocks at 1/8 (fine), 1/16 (coarse) and 1/4 (sharp)."""

    latent_channels: int = 64
    fine_width: int = 112
    coarse_width: int = 192
    sharp_width: int = 32
    encoder_blocks: tuple[int, int] = (1, 1)
    decoder_blocks: tuple[int, int, int] = (2, 2, 2)
    heads: int = 4

    @classmethod
    def starter(cls) -> VideoVAEConfig:
        """Return the size that a laptop's processor runs."""
        return cls()

    @classmethod
    def base(cls) -> VideoVAEConfig:
        """Return the specification's size, about 120 M parameters."""
        return cls(256, 384, 768, 96, (2, 2), (3, 4, 2), 8)


class ChannelNorm(nn.Module):
    """Root-mean-square norm over the channels of `[B, C, …]`; it never looks across time."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Return `x` at unit scale per position."""
        factor = torch.rsqrt(x.float().square().mean(dim=1, keepdim=True) + 1e-6).to(x.dtype)
        return x * factor * self.scale.view(-1, *[1] * (x.ndim - 2)).to(x.dtype)


class CausalConv3d(nn.Conv3d):
    """A 3×3×3 convolution that sees this frame and the two before it (the first one repeated)."""

    def __init__(self, inward: int, outward: int) -> None:
        super().__init__(inward, outward, 3, padding=(0, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Map `[B, inward, T, H, W]` to `[B, outward, T, H, W]`."""
        first = x[:, :, :1]
        return super().forward(torch.cat([first, first, x], dim=2))


class ResBlock(nn.Module):
    """Norm, causal 3×3×3 convolution, norm, mixing of channels, added to the input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm_in, self.conv = ChannelNorm(width), CausalConv3d(width, width)
        self.norm_out, self.mix = ChannelNorm(width), nn.Conv3d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map `[B, C, T, H, W]` to the same shape."""
        y = self.conv(F.silu(self.norm_in(x)))
        out: Tensor = x + self.mix(F.silu(self.norm_out(y)))
        return out


class SharpBlock(nn.Module):
    """A residual 3×3 convolution within each frame, for the level of fine detail."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = ChannelNorm(width)
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map `[N, C, H, W]` to the same shape."""
        out: Tensor = x + self.conv(F.silu(self.norm(x)))
        return out


class TemporalAttention(nn.Module):
    """Causal attention along time at every place."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = ChannelNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map `[B, C, T, H, W]` to the same shape."""
        B, C, T, H, W = x.shape
        tokens = self.norm(x).permute(0, 3, 4, 2, 1).reshape(B * H * W, T, C)
        q, k, v = self.qkv(tokens).view(-1, T, 3, self.heads, C // self.heads).unbind(2)
        seen = F.scaled_dot_product_attention(
            q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), is_causal=True
        )
        mixed = self.out(seen.transpose(1, 2).reshape(B * H * W, T, C))
        out: Tensor = x + mixed.view(B, H, W, T, C).permute(0, 4, 3, 1, 2)
        return out


class Encoder(nn.Module):
    """Frames to the mean and the logarithm of the variance of their latents.

    A linear shortcut carries colour and layout, as the decoder's does back; the rest adds detail
    and begins at zero.
    """

    def __init__(self, config: VideoVAEConfig) -> None:
        super().__init__()
        fine, coarse = config.fine_width, config.coarse_width
        self.patch = nn.Conv3d(3 * TIME_FACTOR * _PATCH**2, fine, 1)
        self.fine = nn.Sequential(*[ResBlock(fine) for _ in range(config.encoder_blocks[0])])
        self.down = nn.Conv3d(fine, coarse, (1, 2, 2), stride=(1, 2, 2))
        self.coarse = nn.Sequential(*[ResBlock(coarse) for _ in range(config.encoder_blocks[1])])
        self.attention = TemporalAttention(coarse, config.heads)
        self.norm = ChannelNorm(coarse)
        self.out = nn.Conv3d(coarse, 2 * config.latent_channels, 1)
        self.short = nn.Conv3d(3 * TIME_FACTOR * SPACE_FACTOR**2, config.latent_channels, 1)
        # Start almost without noise: the variance would need thousands of steps to shrink.
        nn.init.zeros_(self.out.weight)
        with torch.no_grad():
            self.out.bias[config.latent_channels :].fill_(-6.0)  # type: ignore[index]

    def forward(self, video: Tensor) -> tuple[Tensor, Tensor]:
        """Map `[B, 3, 4k + 1, H, W]` in -1…1 to two `[B, C, k + 1, H/16, W/16]`."""
        x = self.patch(fold_patches(video, _PATCH))
        x = self.coarse(self.down(self.fine(x)))
        mean, log_variance = self.out(F.silu(self.norm(self.attention(x)))).chunk(2, dim=1)
        return mean + self.short(fold_patches(video, SPACE_FACTOR)), log_variance.clamp(-12, 4)


class Decoder(nn.Module):
    """Latents to frames."""

    def __init__(self, config: VideoVAEConfig) -> None:
        super().__init__()
        fine, coarse, sharp = config.fine_width, config.coarse_width, config.sharp_width
        blocks = config.decoder_blocks
        self.enter = CausalConv3d(config.latent_channels, coarse)
        self.attention = TemporalAttention(coarse, config.heads)
        self.coarse = nn.Sequential(*[ResBlock(coarse) for _ in range(blocks[0])])
        self.up = nn.ConvTranspose3d(coarse, fine, (1, 2, 2), stride=(1, 2, 2))
        self.fine = nn.Sequential(*[ResBlock(fine) for _ in range(blocks[1])])
        self.norm = ChannelNorm(fine)
        self.spread = nn.Conv3d(fine, sharp * TIME_FACTOR * (_PATCH // _QUARTER) ** 2, 1)
        self.sharp = nn.Sequential(*[SharpBlock(sharp) for _ in range(blocks[2])])
        self.out = nn.Conv2d(sharp, 3 * _QUARTER**2, 3, padding=1)
        nn.init.zeros_(self.out.weight)
        self.short = nn.Conv3d(config.latent_channels, 3 * TIME_FACTOR * SPACE_FACTOR**2, 1)

    def forward(self, latents: Tensor) -> Tensor:
        """Map `[B, C, k + 1, h, w]` to `[B, 3, 4k + 1, 16h, 16w]`, about -1…1."""
        x = self.coarse(self.attention(self.enter(latents)))
        x = self.fine(self.up(x))
        x = self.spread(F.silu(self.norm(x)))
        x = unfold_groups(x, _PATCH // _QUARTER)
        B, C, T, H, W = x.shape
        frames = self.sharp(x.transpose(1, 2).reshape(B * T, C, H, W))
        pixels = F.pixel_shuffle(self.out(frames), _QUARTER)
        detail = pixels.view(B, T, 3, *pixels.shape[-2:]).transpose(1, 2)
        return detail + unfold_groups(self.short(latents), SPACE_FACTOR)


class VideoVAE(nn.Module):
    """Encoder, decoder and the scale of the latents, measured once after training."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, config: VideoVAEConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder, self.decoder = Encoder(config), Decoder(config)
        self.register_buffer("mean", torch.zeros(config.latent_channels))
        self.register_buffer("deviation", torch.ones(config.latent_channels))

    def encode(self, video: Tensor) -> Tensor:
        """Return normalised latents `[B, C, k + 1, H/16, W/16]` of `[B, 3, 4k + 1, H, W]`."""
        mean: Tensor = self.encoder(video)[0]
        return (mean - self.mean.view(1, -1, 1, 1, 1)) / self.deviation.view(1, -1, 1, 1, 1)

    def decode(self, latents: Tensor) -> Tensor:
        """Return frames `[B, 3, 4k + 1, H, W]` in -1…1 of normalised latents."""
        video: Tensor = self.decoder(self.to_plain(latents))
        return video.clamp(-1, 1)

    def to_plain(self, latents: Tensor) -> Tensor:
        """Return normalised latents as the encoder wrote them and the decoder reads them."""
        return latents * self.deviation.view(1, -1, 1, 1, 1) + self.mean.view(1, -1, 1, 1, 1)


def fold_patches(video: Tensor, p: int) -> Tensor:
    """Map `[B, 3, 4k + 1, H, W]` to patches `[B, 3·4·p², k + 1, H/p, W/p]`.

    The first frame is repeated to fill a group of four.
    """
    first = video[:, :, :1].expand(-1, -1, TIME_FACTOR - 1, -1, -1)
    full = torch.cat([first, video], dim=2)
    B, C, T, H, W = full.shape
    k = TIME_FACTOR
    cells = full.view(B, C, T // k, k, H // p, p, W // p, p)
    return cells.permute(0, 1, 3, 5, 7, 2, 4, 6).reshape(B, C * k * p * p, T // k, H // p, W // p)


def unfold_groups(x: Tensor, scale: int) -> Tensor:
    """Map `[B, C·4·scale², k + 1, h, w]` to `[B, C, 4k + 1, scale·h, scale·w]`."""
    B, _, T, H, W = x.shape
    k = TIME_FACTOR
    cells = x.view(B, -1, k, scale, scale, T, H, W).permute(0, 1, 5, 2, 6, 3, 7, 4)
    return cells.reshape(B, -1, T * k, H * scale, W * scale)[:, :, k - 1 :]
