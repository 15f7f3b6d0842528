import torch

from aiprod_studio.models.audio_vae import AudioVAE, AudioVAEConfig
from aiprod_studio.models.backbone import Backbone, BackboneConfig
from aiprod_studio.models.text_encoder import TextEncoder, TextEncoderConfig
from aiprod_studio.models.video_vae import VideoVAE, VideoVAEConfig
from aiprod_studio.training.losses import (
    LatentPool,
    Reader,
    ScenePool,
    Teachers,
    audio_vae_loss,
    backbone_loss,
    fit_audio_scale,
    fit_latent_scale,
    peak_ratio,
    start_from_components,
    text_loss,
    video_vae_loss,
)
from aiprod_studio.training.scenes import Lesson, SceneSize, make_scenes

SIZE = SceneSize(frames=5, height=32, width=32)
VAE = VideoVAEConfig(24, 8, 16, 8, (1, 1), (1, 1, 1), 2)


def learns(network: torch.nn.Module, loss, steps: int = 24, rate: float = 1e-3) -> bool:
    """Tell whether training lowers the loss on the same few batches."""

    def judge() -> float:
        dice = torch.Generator().manual_seed(7)
        with torch.no_grad():
            return sum(loss(dice).item() for _ in range(4))

    before = judge()
    optimiser = torch.optim.AdamW(network.parameters(), lr=rate)
    dice = torch.Generator().manual_seed(1)
    for _ in range(steps):
        value = loss(dice)
        optimiser.zero_grad()
        value.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
    after = judge()
    return after < 0.97 * before


def test_components_give_the_video_vae_a_good_start_and_scales_normalise_it():
    torch.manual_seed(0)
    vae = VideoVAE(VAE)
    start_from_components(vae, SIZE, torch.Generator().manual_seed(1))
    fit_latent_scale(vae, SIZE, torch.Generator().manual_seed(2))
    scenes = make_scenes(8, SIZE, torch.Generator().manual_seed(3))
    with torch.no_grad():
        latents = vae.encode(scenes.video)
        seen = vae.decode(latents)
    assert peak_ratio(seen, scenes.video, torch.ones_like(scenes.video[:, :1])) > 18
    assert 0.5 < latents.std() < 2


def test_the_video_vae_learns():
    torch.manual_seed(0)
    vae, pool = VideoVAE(VAE), ScenePool(SIZE, 4, 4)
    assert learns(vae, lambda dice: video_vae_loss(vae, pool, 4, 16, dice), 60)


def test_the_audio_vae_learns():
    torch.manual_seed(0)
    vae = AudioVAE(AudioVAEConfig(4, 16, 1))
    assert learns(vae, lambda dice: audio_vae_loss(vae, 4, dice))
    fit_audio_scale(vae, torch.Generator().manual_seed(1))
    assert (vae.deviation > 0).all()


def test_the_text_encoder_learns():
    torch.manual_seed(0)
    reader = Reader(TextEncoder(TextEncoderConfig(32, 32, 1, 2, 8, 64, 128)))
    assert learns(reader, lambda dice: text_loss(reader, 16, dice))


def test_the_backbone_learns_from_pictures_and_from_clips_with_sound():
    torch.manual_seed(0)
    teachers = Teachers(
        VideoVAE(VAE),
        AudioVAE(AudioVAEConfig(4, 16, 1)),
        TextEncoder(TextEncoderConfig(16, 16, 1, 2, 8, 64, 128)),
    )
    dice = torch.Generator().manual_seed(1)
    start_from_components(teachers.video_vae, SIZE, dice)
    fit_latent_scale(teachers.video_vae, SIZE, dice)
    for size in (SceneSize(1, 32, 32), SIZE):
        backbone = Backbone(BackboneConfig(24, 4, 16, 32, 2, 1))
        pool = LatentPool(teachers, size, 8, 8, Lesson())
        assert learns(backbone, lambda dice, b=backbone, p=pool: backbone_loss(b, p, 8, dice), 60)
