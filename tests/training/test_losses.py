"""Every network learns: after a few steps its loss on batches it never saw is lower."""

import pytest
import torch
import torch.nn.functional as F

from aiprod_studio.models.backbone import Backbone, BackboneConfig
from aiprod_studio.models.layout import ALIKE, FIGURE, SLOTS, VIEW
from aiprod_studio.models.sketches import ANIMATIC_FEATURES
from aiprod_studio.models.upscaler import FACTOR, Upscaler, UpscalerConfig
from aiprod_studio.training.curriculum import Phase
from aiprod_studio.training.data import seeded
from aiprod_studio.training.family import build_networks
from aiprod_studio.training.losses import (
    Pupil,
    audio_vae_loss,
    fit_audio_scale,
    fit_latent_scale,
    fit_track_scale,
    lay_out,
    peak_ratio,
    start_from_animatics,
    start_from_components,
    start_from_least_squares,
)
from aiprod_studio.training.scenes import EVERYTHING, draw_labels, make_scenes
from aiprod_studio.training.source import Ground
from aiprod_studio.training.stage import SceneSize, set_stage, track
from aiprod_studio.training.tasks import (
    audio_task,
    backbone_task,
    finisher_task,
    layout_task,
    sketch_task,
    text_task,
    video_task,
)
from aiprod_studio.training.teachers import Teachers

SIZE = SceneSize(frames=5, height=32, width=32)


@pytest.fixture
def networks(tiny):
    return build_networks(tiny)


@pytest.fixture
def ground(tiny, tmp_path):
    def stand(name: str, phase: Phase | None = None) -> Ground:
        return Ground(tiny, phase or tiny.phases[0], name, tmp_path / "samples")

    return stand


def learns(task, steps: int = 24, rate: float = 3e-3) -> bool:
    """Return whether training lowers the loss on what is held out."""

    def judge() -> float:
        with torch.no_grad():
            return sum(task.loss(task.network, rows).item() for rows in task.held_out())

    before = judge()
    optimiser = torch.optim.AdamW(task.network.parameters(), lr=rate)
    for step in range(steps):
        value = task.loss(task.network, task.draw(step))
        optimiser.zero_grad()
        value.backward()
        torch.nn.utils.clip_grad_norm_(task.network.parameters(), 1.0)
        optimiser.step()
    return judge() < 0.97 * before


def test_components_give_the_video_vae_a_good_start_and_scales_normalise_it(networks):
    vae = networks.video_vae
    start_from_components(vae, make_scenes(48, SIZE, seeded(1)).video)
    fit_latent_scale(vae, [make_scenes(16, SIZE, seeded(2)).video])
    scenes = make_scenes(8, SIZE, seeded(3))
    with torch.no_grad():
        latents = vae.encode(scenes.video)
        seen = vae.decode(latents)
    assert peak_ratio(seen, scenes.video, torch.ones_like(scenes.video[:, :1])) > 18
    assert 0.5 < latents.std() < 2


def test_the_video_vae_learns(networks, ground):
    assert learns(video_task(ground("video_vae"), networks.video_vae), 40, 1e-3)


def test_the_audio_vae_learns(networks, ground):
    assert learns(audio_task(ground("audio_vae"), networks.audio_vae))
    fit_audio_scale(networks.audio_vae, make_scenes(4, SIZE, seeded(1)).audio)
    assert (networks.audio_vae.deviation > 0).all()


def test_the_layout_planner_learns(networks, ground):
    teachers = Teachers(networks.video_vae, networks.audio_vae, networks.text_encoder)
    assert learns(layout_task(ground("layout"), networks.layout, teachers))


def test_the_waves_of_all_who_are_there_get_unit_scale(networks):
    size = SceneSize(5, 64, 64)
    dice = seeded(2)
    labels = draw_labels(256, dice, EVERYTHING)
    tracks = track(set_stage(labels, size, dice), labels, size)
    planner = networks.layout
    fit_track_scale(planner, tracks)
    waves = planner.to_waves(tracks)
    figures = waves[..., : SLOTS * len(FIGURE)].unflatten(2, (SLOTS, -1))
    there = figures[:, 0, :, 0] > 0
    for slot in (0, 1, ALIKE):
        size = figures[there[:, slot], :, slot].square().mean(dim=0).sqrt()
        assert size.max() < 1.01
        assert size[:2, 1:4].min() > 0.99, "x, y and how tall they seem, where they are and go"
    assert (waves[..., -VIEW:].square().mean(dim=0).sqrt() < 1.01).all()


def test_the_sketcher_learns(networks, ground):
    teachers = Teachers(networks.video_vae, networks.audio_vae, networks.text_encoder)
    assert learns(sketch_task(ground("sketcher"), networks.sketcher, teachers))


def test_the_finisher_learns_and_begins_as_the_identity(networks, ground):
    teachers = Teachers(
        networks.video_vae, networks.audio_vae, networks.text_encoder, networks.sketcher
    )
    frames, animatic = torch.randn(3, 3, 8, 16), torch.rand(3, 4, 8, 16)
    assert (networks.finisher(frames, animatic) == frames).all()
    task = finisher_task(ground("finisher"), networks.finisher, teachers, networks.backbone)
    assert learns(task)
    assert (networks.finisher(frames, animatic) != frames).any()
    assert all(weight.grad is None for weight in networks.video_vae.parameters())


def test_animatics_are_read_by_their_components():
    torch.manual_seed(1)
    backbone = Backbone(BackboneConfig(8, 4, 16, 32, 2, 1, 0.0, True, 6))
    few = torch.randn(4, ANIMATIC_FEATURES) * torch.tensor([9.0, 5.0, 2.0, 0.1]).view(4, 1)
    animatic = (torch.randn(3, 2, 4, 4, 4) @ few) * (torch.rand(3, 2, 4, 4, 1) < 0.5)
    start_from_animatics(backbone, animatic)
    axes = backbone.animatic.weight / backbone.animatic.weight.norm(dim=1, keepdim=True)
    told = animatic @ axes.T @ axes
    assert (told - animatic).norm() < 0.01 * animatic.norm()
    rows = animatic.flatten(0, 3)
    size = (rows[rows.any(dim=1)] @ backbone.animatic.weight.T).square().mean(dim=0).sqrt()
    assert size[0] > size[1] > size[2] > size[3]
    assert size[1] / size[0] > 0.7, "what is fainter is raised"


def test_a_layout_is_cut_as_the_latents_are_and_untold_where_it_is_not_laid():
    scenes = make_scenes(2, SceneSize(5, 64, 64), seeded(4))
    rows = {"tracks": scenes.tracks, "laid": torch.tensor([True, False])}
    whole = rows | {"video": torch.zeros(2, 4, 2, 4, 4), "audio": torch.zeros(2, 4, 8)}
    whole["sketches"] = rows["sketches"] = torch.rand(2, 3, 4, 8, 8)
    laid = lay_out(whole, 8.0)
    cells, sounds = laid.cells, laid.sounds
    assert cells.shape[:4] == (2, 2, 4, 4)
    assert sounds.shape[:2] == (2, 8)
    for each in (cells, laid.animatic):
        assert each[0].any()
        assert not each[1].any()
    assert not sounds[1].any()
    window = torch.tensor([[1, 2, 4, 4]] * 2)
    part = lay_out(rows | {"video": torch.zeros(2, 4, 2, 2, 2), "window": window}, 8.0)
    assert torch.equal(part.cells, cells[:, :, 1:3, 2:4])
    assert torch.equal(part.animatic, laid.animatic[:, :, 1:3, 2:4])
    assert part.sounds.shape[1] == 0
    del whole["sketches"]
    assert lay_out(whole, 8.0).animatic is None
    assert lay_out({"video": whole["video"]}, 8.0) is None


def test_low_sounds_weigh_as_much_as_high_ones(networks):
    time = torch.arange(16_000) / 16_000
    low, high = (0.5 * torch.sin(6.2832 * hertz * time)[None] for hertz in (100, 5000))
    vae, noise = networks.audio_vae, torch.zeros(1, 4, 13)
    with torch.no_grad():
        silent = audio_vae_loss(vae, {"audio": 0 * low, "noise": noise})
        missed = [audio_vae_loss(vae, {"audio": one, "noise": noise}) for one in (low, high)]
    assert missed[0] - silent > 4 * (missed[1] - silent)


def test_the_text_encoder_learns(networks, ground):
    assert learns(text_task(ground("text_encoder"), networks.text_encoder))


def test_the_backbone_learns_from_pictures_and_from_clips_with_sound(networks, ground):
    vae = networks.video_vae
    start_from_components(vae, make_scenes(48, SIZE, seeded(1)).video)
    fit_latent_scale(vae, [make_scenes(16, SIZE, seeded(2)).video])
    teachers = Teachers(vae, networks.audio_vae, networks.text_encoder)
    task = backbone_task(ground("backbone"), Pupil(networks.backbone), teachers)
    assert len(task.held_out()) == 2
    assert learns(task, 60)


def test_linear_filters_begin_better_than_interpolation():
    video = make_scenes(48, SIZE, seeded(1)).video
    unseen = make_scenes(8, SIZE, seeded(2)).video[:, :, 0]
    upscaler = Upscaler(UpscalerConfig(width=8, blocks=1))
    start_from_least_squares(upscaler, video)
    half = F.avg_pool2d(unseen, FACTOR)
    smooth = F.interpolate(half, scale_factor=FACTOR, mode="bicubic", align_corners=False)
    with torch.no_grad():
        errors = [(seen - unseen).square().mean() for seen in (upscaler(half), smooth)]
    assert errors[0] < 0.9 * errors[1]
    assert torch.allclose(
        upscaler.short.weight.sum(dim=(1, 2, 3)), torch.ones(FACTOR**2), atol=0.02
    )
