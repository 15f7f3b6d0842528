"""Figures: drawing a subject with its shadow into the frames of a clip."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from aiprod_studio.training.choreography import Pose


@dataclass(frozen=True)
class _Box:
    """A part of the frame, in shares of it, and the frame's height over its width."""

    left: float
    top: float
    right: float
    bottom: float
    aspect: float


def find_surface(pose: Pose, rows: int, columns: int, aspect: float) -> Tensor:
    """Return the point of the artwork amid every cell of a grid over the frame.

    The points `[B, 2, T, rows, columns]` reach from -1 to 1 inside; `aspect` is the frame's height
    over its width.
    """
    maps = _locate(pose, _Box(0, 0, 1, 1, aspect))
    shape = [maps.shape[0] * maps.shape[1], 1, rows, columns]
    points = F.affine_grid(maps.flatten(0, 1), shape, align_corners=False)
    return points.view(*maps.shape[:2], *points.shape[1:]).permute(0, 4, 1, 2, 3)


def cast_shadow(frames: Tensor, pose: Pose, scale: float) -> None:
    """Darken the ground under a subject in frames `[T, 3, H, W]`, in place.

    The shadow of one of usual size, `scale` 1, ends within a tenth of a frame.
    """
    H, W = frames.shape[-2:]
    first = int((pose.ground.min().item() - 0.1 * max(1.0, scale)) * H)
    rows, columns = middles(H)[first:, None], middles(W)
    pose = Pose(*(getattr(pose, each.name).view(-1, 1, 1) for each in dataclasses.fields(pose)))
    across = (columns - pose.x) / (pose.wide * 0.36 * (1 + pose.lift))
    down = (rows - pose.ground) / (0.035 * scale)
    shade = torch.exp(-(across**2)) * (0.45 / (1 + 5 * pose.lift) * torch.exp(-(down**2)))
    frames[..., first:, :] *= (1 - shade).unsqueeze(1)


def draw_figure(frames: Tensor, cover: Tensor, sprite: Tensor, pose: Pose) -> None:
    """Draw artwork `[4, h, w]` into frames `[T, 3, H, W]`, in place.

    What is covered `[T, H, W]` grows by it.
    """
    T, _, H, W = frames.shape
    reach = torch.hypot(pose.wide * W, pose.tall * H) / 2
    left = max(0, int((pose.x * W - reach).min().item()))
    right = min(W, int((pose.x * W + reach).max().item()) + 1)
    top = max(0, int((pose.y * H - reach).min().item()))
    bottom = min(H, int((pose.y * H + reach).max().item()) + 1)
    if left >= right or top >= bottom:
        return
    maps = _locate(pose, _Box(left / W, top / H, right / W, bottom / H, H / W))[0]
    grid = F.affine_grid(maps, [T, 4, bottom - top, right - left], align_corners=False)
    drawn = F.grid_sample(sprite.expand(T, -1, -1, -1), grid, align_corners=False)
    inside = frames[..., top:bottom, left:right]
    inside.mul_(1 - drawn[:, 3:]).add_(drawn[:, :3])
    covered = cover[:, top:bottom, left:right]
    torch.maximum(covered, drawn[:, 3], out=covered)


def _locate(pose: Pose, box: _Box) -> Tensor:
    """Return the affine maps `[B, T, 2, 3]` from a box of the frame to the artwork.

    Both reach from -1 to 1, as `affine_grid` and `grid_sample` want them.
    """
    cos, sin = torch.cos(pose.turn), torch.sin(pose.turn)
    across, down = 2 * pose.side / pose.wide, 2 / pose.tall
    # A turn mixes both axes, which count in pixels.
    rows = [
        torch.stack([cos * across, sin * across * box.aspect], dim=-1),
        torch.stack([-sin * down / box.aspect, cos * down], dim=-1),
    ]
    turned = torch.stack(rows, dim=-2)
    x = (box.left + box.right) / 2 - pose.x
    y = (box.top + box.bottom) / 2 - pose.y
    shift = turned @ torch.stack([x, y], dim=-1).unsqueeze(-1)
    half = torch.tensor([box.right - box.left, box.bottom - box.top]) / 2
    return torch.cat([turned * half, shift], dim=-1)


def middles(count: int) -> Tensor:
    """Return the middles of `count` equal parts of 0…1."""
    return (torch.arange(count) + 0.5) / count
