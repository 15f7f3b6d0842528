"""The audio VAE: sound to latents, 12.5 a second, and back through an inverse STFT."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SAMPLE_RATE = 16_000
HOP = 160
_WINDOW = 640
_BINS = _WINDOW // 2 + 1
_GROUP = 8  # spectrogram columns that one latent covers
_FLOOR = 0.01
_PHASE_ROUNDS = 24


@dataclass(frozen=True)
class AudioVAEConfig:
    """Latent channels, width and residual blocks on either side."""

    latent_channels: int = 16
    width: int = 128
    blocks: int = 2

    @classmethod
    def starter(cls) -> AudioVAEConfig:
        """Return the size that a laptop's processor runs."""
        return cls()

    @classmethod
    def base(cls) -> AudioVAEConfig:
        """Return the size beside the base backbone."""
        return cls(64, 768, 4)


class Block(nn.Module):
    """A residual 1D convolution along time."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(1, width)
        self.conv = nn.Conv1d(width, width, 3, padding=1)
        self.mix = nn.Conv1d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map `[B, C, F]` to the same shape."""
        y = self.mix(F.silu(self.conv(F.silu(self.norm(x)))))
        out: Tensor = x + y
        return out


class AudioVAE(nn.Module):
    """Log-magnitude spectrograms to latents and back; phases are found by Griffin and Lim (1984).

    Sound is mono float32 `[B, S]` at 16 kHz in -1…1.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, config: AudioVAEConfig) -> None:
        super().__init__()
        self.config = config
        width, channels = config.width, config.latent_channels
        self.enter = nn.Conv1d(_BINS, width, 3, padding=1)
        self.encoder = nn.Sequential(*[Block(width) for _ in range(config.blocks)])
        self.down = nn.Conv1d(width, 2 * channels, _GROUP, stride=_GROUP)
        self.up = nn.ConvTranspose1d(channels, width, _GROUP, stride=_GROUP)
        self.decoder = nn.Sequential(*[Block(width) for _ in range(config.blocks + 1)])
        self.leave = nn.Conv1d(width, _BINS, 3, padding=1)
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("deviation", torch.ones(channels))

    def spectrogram(self, audio: Tensor) -> Tensor:
        """Return the scaled log-magnitude `[B, bins, 8n]` of sound `[B, S]`."""
        padded = F.pad(audio, (0, -audio.shape[-1] % (HOP * _GROUP)))
        spectrum = torch.stft(padded, _WINDOW, HOP, window=_window(audio), return_complex=True)
        return ((spectrum.abs() + _FLOOR).log() / 2)[..., :-1]

    def encoded(self, spectrogram: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance `[B, C, n]` of a spectrogram `[B, bins, 8n]`."""
        mean, log_variance = self.down(self.encoder(self.enter(spectrogram))).chunk(2, dim=1)
        return mean, log_variance.clamp(-12, 4)

    def decoded(self, latents: Tensor) -> Tensor:
        """Return the spectrogram `[B, bins, 8n]` of plain latents `[B, C, n]`."""
        spectrogram: Tensor = self.leave(self.decoder(self.up(latents)))
        return spectrogram

    def encode(self, audio: Tensor) -> Tensor:
        """Return normalised latents `[B, C, n]` of sound `[B, S]`."""
        mean, _ = self.encoded(self.spectrogram(audio))
        return (mean - self.mean.view(-1, 1)) / self.deviation.view(-1, 1)

    def decode(self, latents: Tensor, samples: int) -> Tensor:
        """Return sound `[B, samples]` of normalised latents `[B, C, n]`."""
        plain = latents * self.deviation.view(-1, 1) + self.mean.view(-1, 1)
        magnitude = (self.decoded(plain) * 2).exp().sub(_FLOOR).clamp(min=0)
        return self._sound(F.pad(magnitude, (0, 1)))[:, :samples].clamp(-1, 1)

    def _sound(self, magnitude: Tensor) -> Tensor:
        """Find phases that agree with a magnitude `[B, bins, F]`; return the sound `[B, S]`."""
        dice = torch.Generator().manual_seed(0)
        turn = torch.rand(magnitude.shape, generator=dice).to(magnitude.device)
        phase = torch.polar(torch.ones_like(turn), turn * 6.2831853)
        for _ in range(_PHASE_ROUNDS):
            sound = torch.istft(magnitude * phase, _WINDOW, HOP, window=_window(magnitude))
            again = torch.stft(sound, _WINDOW, HOP, window=_window(magnitude), return_complex=True)
            phase = again / again.abs().clamp(min=1e-8)
        return torch.istft(magnitude * phase, _WINDOW, HOP, window=_window(magnitude))


def _window(like: Tensor) -> Tensor:
    return torch.hann_window(_WINDOW, device=like.device)


def latent_count(seconds: float) -> int:
    """Return how many latents cover a sound of that length."""
    samples = round(seconds * SAMPLE_RATE)
    return -(-samples // (HOP * _GROUP))
