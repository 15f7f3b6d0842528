"""The backbone: noisy video and audio latents to clean ones, guided by text.

Blocks are interleaved five of attention to three of 3D convolution. Video and audio tokens attend
to each other on one clock (rotary positions in seconds), so that picture and sound are denoised
jointly. Every token has its own time-step: a token that is given clean has t = 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aiprod_studio.models.layout import CELL_FEATURES, SOUND_FEATURES, Layout
from aiprod_studio.models.sketches import ANIMATIC_FEATURES

PATTERN = "ACAACAAC"  # five of attention, three of convolution


@dataclass(frozen=True)
class BackboneConfig:
    """Latent channels of picture and sound, the text's width, and how wide and deep it is.

    `carried` is how the noise that it learnt to clear goes on from one latent frame to the next
    (`sampling.noise.carry_noise`). With `layout` it reads where figures and camera are,
    and as many numbers as `animatic` of what the animatic shows in a cell.
    """

    video_channels: int = 64
    audio_channels: int = 16
    text_width: int = 256
    width: int = 320
    heads: int = 5
    periods: int = 1
    carried: float = 0.0
    layout: bool = False
    animatic: int = 0

    @classmethod
    def starter(cls) -> BackboneConfig:
        """Return the size that a laptop's processor runs."""
        return cls(carried=0.8, layout=True, animatic=128)

    @classmethod
    def base(cls) -> BackboneConfig:
        """Return the specification's size: 48 blocks of width 768, about 280 M parameters."""
        return cls(256, 64, 768, 768, 12, 6, 0.8, True, 32)


@dataclass(frozen=True)
class Grid:
    """Where the tokens lie: video latents `T` × `H` × `W`, audio latents, and their seconds."""

    T: int
    H: int
    W: int
    audio: int
    video_seconds: Tensor
    audio_seconds: Tensor

    @property
    def video(self) -> int:
        """The number of video tokens."""
        return self.T * self.H * self.W


@dataclass(frozen=True)
class Context:
    """What every block reads: the grid, rotary angles, modulation and text."""

    grid: Grid
    cos: Tensor
    sin: Tensor
    modulation: Tensor
    text: Tensor


class RMSNorm(nn.Module):
    """Root-mean-square norm over the last axis, with a learned scale."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """Return `x` at unit scale."""
        return F.rms_norm(x, (x.shape[-1],), self.scale.to(x.dtype), 1e-6)


class Attention(nn.Module):
    """Joint attention of all tokens, then attention to the text."""

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        width = config.width
        self.heads = config.heads
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.norm_q, self.norm_k = RMSNorm(width // self.heads), RMSNorm(width // self.heads)
        self.norm_text = RMSNorm(width)
        self.text_q = nn.Linear(width, width)
        self.text_kv = nn.Linear(config.text_width, 2 * width)
        self.text_out = nn.Linear(width, width)

    def forward(self, x: Tensor, context: Context) -> Tensor:
        """Return what is added to the tokens `[B, N, D]` by attention among themselves."""
        B, N, D = x.shape
        q, k, v = self.qkv(x).view(B, N, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        q = _turn(self.norm_q(q), context)
        k = _turn(self.norm_k(k), context)
        mixed = F.scaled_dot_product_attention(q, k, v.to(q.dtype))
        out: Tensor = self.out(mixed.transpose(1, 2).reshape(B, N, D))
        return out

    def read(self, x: Tensor, context: Context) -> Tensor:
        """Return what the text adds to the tokens `[B, N, D]`."""
        B, N, D = x.shape
        q = self.text_q(self.norm_text(x)).view(B, N, self.heads, -1).transpose(1, 2)
        kv = self.text_kv(context.text).view(B, -1, 2, self.heads, D // self.heads)
        k, v = kv.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v)
        out: Tensor = self.text_out(mixed.transpose(1, 2).reshape(B, N, D))
        return out


class Convolution(nn.Module):
    """A bottlenecked 3×3×3 convolution over the video tokens, and one along time over audio."""

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        width, narrow = config.width, config.width // 4
        self.enter, self.leave = nn.Linear(width, narrow), nn.Linear(narrow, width)
        self.video = nn.Conv3d(narrow, narrow, 3, padding=1)
        self.audio = nn.Conv1d(narrow, narrow, 3, padding=1)

    def forward(self, x: Tensor, context: Context) -> Tensor:
        """Return what is added to the tokens `[B, N, D]`."""
        grid = context.grid
        B, N = x.shape[:2]
        y = self.enter(x)
        picture = y[:, : grid.video].transpose(1, 2).reshape(B, -1, grid.T, grid.H, grid.W)
        # In bfloat16 the gradient of strided input can come out as NaN on a CPU (PyTorch 2.13).
        picture = self.video(picture.contiguous()).flatten(2).transpose(1, 2)
        if grid.video < N:
            sound = self.audio(y[:, grid.video :].transpose(1, 2)).transpose(1, 2)
            picture = torch.cat([picture, sound], dim=1)
        out: Tensor = self.leave(F.silu(picture))
        return out


class Block(nn.Module):
    """Attention or convolution, the text, and a feed-forward layer, all modulated by time."""

    def __init__(self, config: BackboneConfig, kind: str) -> None:
        super().__init__()
        width = config.width
        self.mix = Attention(config) if kind == "A" else Convolution(config)
        self.norm_in, self.norm_out = RMSNorm(width), RMSNorm(width)
        self.grow, self.shrink = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.table = nn.Parameter(torch.zeros(6, width))

    def forward(self, x: Tensor, context: Context) -> Tensor:
        """Map tokens `[B, N, D]` to the same shape."""
        table = self.table.to(x.dtype)
        shift, scale, gate, shift2, scale2, gate2 = (context.modulation + table).unbind(2)
        x = x + gate * self.mix(self.norm_in(x) * (1 + scale) + shift, context)
        if isinstance(self.mix, Attention):
            x = x + self.mix.read(x, context)
        y = self.norm_out(x) * (1 + scale2) + shift2
        out: Tensor = x + gate2 * self.shrink(F.gelu(self.grow(y), approximate="tanh"))
        return out


class Backbone(nn.Module):
    """The denoiser of the AIPROD v2 family; it predicts the clean latents."""

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.video_in = nn.Linear(config.video_channels, width)
        self.audio_in = nn.Linear(config.audio_channels, width)
        self.place = nn.Linear(16, width)
        self.audio_mark = nn.Parameter(torch.zeros(width))
        self.time = nn.Sequential(nn.Linear(256, width), nn.SiLU(), nn.Linear(width, width))
        self.pooled = nn.Linear(config.text_width, width)
        self.modulation = nn.Linear(width, 6 * width)
        self.blocks = nn.ModuleList(Block(config, kind) for kind in PATTERN * config.periods)
        self.norm = RMSNorm(width)
        self.final = nn.Linear(width, 2 * width)
        self.video_out = nn.Linear(width, config.video_channels)
        self.audio_out = nn.Linear(width, config.audio_channels)
        if config.layout:
            features = CELL_FEATURES + SOUND_FEATURES + config.animatic
            self.layouts = nn.ModuleList(nn.Linear(features, width, False) for _ in self.blocks)
            for layer in self.layouts.children():
                nn.init.zeros_(layer.get_parameter("weight"))
        if config.animatic:
            self.animatic = nn.Linear(ANIMATIC_FEATURES, config.animatic, False)
        for layer in (self.video_out, self.audio_out, self.final):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(
        self,
        video: Tensor,
        audio: Tensor | None,
        times: Tensor,
        text: tuple[Tensor, Tensor],
        fps: float,
        window: Tensor | None = None,
        layout: Layout | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Return the clean latents that the noisy ones hide.

        `video` is `[B, C, T, H, W]`, `audio` `[B, C, n]` at 12.5 a second or none, `times` in
        0 (clean) … 1 (noise) `[B, 1]` or one per token `[B, N]` with the video's tokens first,
        `text` the text encoder's features and pooled vector, `fps` frames a second. Where `video`
        is cut from larger frames, `window` `[B, 4]` tells its corner (y, x) in them and their
        height and width, all in latents. `layout` is told of all these cells and sounds.
        """
        grid = _grid(video, audio, fps)
        places = self.place(_places(grid, video, window))
        x = self.video_in(video.flatten(2).transpose(1, 2)) + places
        if audio is not None:
            sound = self.audio_in(audio.transpose(1, 2)) + self.audio_mark.to(x.dtype)
            x = torch.cat([x, sound], dim=1)
        features, pooled = text
        when = F.silu(
            self.time(_waves(times * 1000, 256).to(x.dtype)) + self.pooled(pooled)[:, None]
        )
        modulation = self.modulation(when).unflatten(-1, (6, -1))
        cos, sin = _angles(grid, x.shape[-1] // self.config.heads)
        context = Context(grid, cos.to(x.device), sin.to(x.device), modulation, features)
        told = None if layout is None else self._read(layout)[:, : x.shape[1]].to(x.dtype)
        for number, block in enumerate(self.blocks):
            x = block(x if told is None else x + self.layouts[number](told), context)
        shift, scale = self.final(when).chunk(2, dim=-1)
        x = self.norm(x) * (1 + scale) + shift
        clean = self.video_out(x[:, : grid.video]).transpose(1, 2).reshape(video.shape)
        if audio is None:
            return clean, None
        return clean, self.audio_out(x[:, grid.video :]).transpose(1, 2)

    def _read(self, layout: Layout) -> Tensor:
        """Return what a layout says of every token `[B, N, features]`."""
        seen, heard = layout.cells.flatten(1, 3), layout.sounds
        if self.config.animatic and layout.animatic is not None:
            drawn = self.animatic(layout.animatic.flatten(1, 3)).to(seen.dtype)
        else:
            drawn = seen.new_zeros(*seen.shape[:2], self.config.animatic)
        seen = torch.cat([F.pad(seen, (0, SOUND_FEATURES)), drawn], dim=-1)
        heard = F.pad(heard, (CELL_FEATURES, self.config.animatic))
        return torch.cat([seen, heard], dim=1)


def _grid(video: Tensor, audio: Tensor | None, fps: float) -> Grid:
    """Lay picture and sound on one clock: each latent at the middle of what it covers."""
    _, _, T, H, W = video.shape
    frames = torch.cat([torch.zeros(1), torch.arange(1, T) * 4 - 1.5])
    count = 0 if audio is None else audio.shape[-1]
    return Grid(T, H, W, count, (frames + 0.5) / fps, (torch.arange(count) + 0.5) / 12.5)


def _places(grid: Grid, like: Tensor, window: Tensor | None) -> Tensor:
    """Return features of each video token's place in the frame `[B or 1, T·H·W, 16]`."""
    if window is None:
        window = torch.tensor([[0, 0, grid.H, grid.W]])
    y, x, height, width = window.float().cpu().unsqueeze(2).unbind(1)
    rows = _marks((torch.arange(grid.H) + y + 0.5) / height)[:, None, :, None]
    columns = _marks((torch.arange(grid.W) + x + 0.5) / width)[:, None, None, :]
    shape = (len(window), grid.T, grid.H, grid.W, 8)
    return torch.cat([rows.expand(shape), columns.expand(shape)], dim=-1).flatten(1, 3).to(like)


def _marks(shares: Tensor) -> Tensor:
    """Return sines and cosines of shares of a side `[B, n]`: `[B, n, 8]`."""
    turns = shares.unsqueeze(-1) * (math.pi * 2.0 ** torch.arange(4))
    return torch.cat([torch.sin(turns), torch.cos(turns)], dim=-1)


def _waves(values: Tensor, width: int) -> Tensor:
    """Return sines and cosines of `[B, N]` at many rates: `[B, N, width]`."""
    rates = torch.exp(torch.arange(width // 2, device=values.device) * (-9.2 / (width // 2)))
    turns = values.float().unsqueeze(-1) * rates
    return torch.cat([torch.sin(turns), torch.cos(turns)], dim=-1)


def _angles(grid: Grid, head: int) -> tuple[Tensor, Tensor]:
    """Return cosines and sines `[N, head / 2]` of the tokens' places in time, height and width."""
    pairs = head // 2
    space = pairs // 3
    shape = (grid.T, grid.H, grid.W)
    t = (grid.video_seconds * 8).view(-1, 1, 1).expand(shape).flatten()
    y = torch.arange(grid.H).float().view(1, -1, 1).expand(shape).flatten()
    x = torch.arange(grid.W).float().view(1, 1, -1).expand(shape).flatten()
    t = torch.cat([t, grid.audio_seconds * 8])
    y = torch.cat([y, torch.full((grid.audio,), grid.H / 2)])
    x = torch.cat([x, torch.full((grid.audio,), grid.W / 2)])
    turns = [
        values[:, None] * longest ** (-torch.arange(count) / count)
        for values, count, longest in (
            (t, pairs - 2 * space, 200.0),
            (y, space, 50.0),
            (x, space, 50.0),
        )
    ]
    angles = torch.cat(turns, dim=1)
    return angles.cos(), angles.sin()


def _turn(x: Tensor, context: Context) -> Tensor:
    """Apply rotary positions (Su et al., 2021) to `[B, heads, N, head]`."""
    first, second = x.chunk(2, dim=-1)
    cos, sin = context.cos.to(x.dtype), context.sin.to(x.dtype)
    return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1)
