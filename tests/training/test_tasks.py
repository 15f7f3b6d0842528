import dataclasses
import json

import pytest
import torch

from aiprod_studio.media.video import probe
from aiprod_studio.media.writer import write_video
from aiprod_studio.training.clips import ClipFolder, Shelf
from aiprod_studio.training.data import count, seeded
from aiprod_studio.training.family import build_networks
from aiprod_studio.training.lexicon import NOUN_KINDS, PHRASE_KINDS
from aiprod_studio.training.losses import SAID, Pupil
from aiprod_studio.training.samples import to_frames
from aiprod_studio.training.scenes import make_scenes
from aiprod_studio.training.source import Ground
from aiprod_studio.training.tasks import (
    audio_task,
    backbone_task,
    decoder_task,
    finisher_task,
    layout_task,
    sketch_task,
    text_task,
    video_task,
)
from aiprod_studio.training.teachers import Teachers
from aiprod_studio.training.world import ABSENT


@pytest.fixture
def networks(tiny):
    return build_networks(tiny)


@pytest.fixture
def tasks(tiny, networks, tmp_path):
    """Return a function that makes all tasks, of scenes or of clips."""
    teachers = Teachers(
        networks.video_vae, networks.audio_vae, networks.text_encoder, networks.sketcher
    )

    def make(clips=None):
        def ground(name):
            return Ground(tiny, tiny.phases[0], name, tmp_path / "samples", clips)

        return {
            "text_encoder": text_task(ground("text_encoder"), networks.text_encoder),
            "layout": layout_task(ground("layout"), networks.layout, teachers),
            "sketcher": sketch_task(ground("sketcher"), networks.sketcher, teachers),
            "audio_vae": audio_task(ground("audio_vae"), networks.audio_vae),
            "video_vae": video_task(ground("video_vae"), networks.video_vae),
            "backbone": backbone_task(ground("backbone"), Pupil(networks.backbone), teachers),
            "decoder": decoder_task(
                ground("decoder"), networks.video_vae.decoder, teachers, networks.backbone
            ),
            "finisher": finisher_task(
                ground("finisher"), networks.finisher, teachers, networks.backbone
            ),
        }

    return make


@pytest.fixture
def clips(tiny, tmp_path):
    """Return a folder of three rendered scenes saved as captioned mp4."""
    folder = tmp_path / "videos"
    size = tiny.phases[0].size
    scenes = make_scenes(3, size, seeded("clips"))
    for number, (video, audio) in enumerate(zip(scenes.video, scenes.audio, strict=True)):
        sound = audio[None].numpy()
        write_video(folder / f"{number}.mp4", to_frames(video), size.fps, sound)
        (folder / f"{number}.json").write_text(json.dumps({"caption": f"number {number}"}))
    return ClipFolder(folder, Shelf(tmp_path / "cache"), size)


def same(rows, others):
    return rows.keys() == others.keys() and all(torch.equal(rows[n], others[n]) for n in rows)


def test_a_step_s_batch_depends_on_its_number_alone(tasks):
    first, second = tasks(), tasks()
    for name, task in first.items():
        for step in range(4):
            rows = task.draw(step)
        assert same(rows, second[name].draw(3)), name
        assert not any(same(rows, held) for held in task.held_out())
        assert count(rows) in (4, 8)


def test_some_captions_tell_little_but_a_relation_a_size_or_a_number(tasks):
    task = tasks()["text_encoder"]
    rows = [task.draw(step) for step in range(60)]
    said = {name: torch.cat([each[name] for each in rows]) for name in rows[0] if SAID in name}
    silent = torch.ones(len(said[SAID + "subjects"]), dtype=torch.bool)
    for kind in PHRASE_KINDS:
        silent &= said[SAID + kind] == ABSENT
    for kind in ("relations", *NOUN_KINDS):
        told = said[SAID + kind] != ABSENT
        assert (told & silent).any(), kind
        assert (told & ~silent).any(), kind


def test_some_steps_cut_their_clips_and_the_others_show_as_much_of_fewer(tiny, networks, tmp_path):
    teachers = Teachers(networks.video_vae, networks.audio_vae, networks.text_encoder)
    first = tiny.phases[0]
    narrow = dataclasses.replace(
        first.exercises["backbone"], window=16, windowed=0.5, batch=8, pictures=0.0
    )
    phase = dataclasses.replace(first, exercises={**first.exercises, "backbone": narrow})
    ground = Ground(tiny, phase, "backbone", tmp_path)
    task = backbone_task(ground, Pupil(networks.backbone), teachers)
    shapes = set()
    for step in range(12):
        rows = task.draw(step)
        assert ("window" in rows) == (rows["video"].shape[-1] == 1)
        assert task.loss(task.network, rows).isfinite()
        shapes.add((*rows["video"].shape, "audio" in rows))
    assert shapes == {(8, 24, 2, 1, 1, True), (2, 24, 2, 2, 2, True)}


def test_looks_write_clips_with_sound_and_pictures_for_the_page(tasks, tmp_path):
    made = tasks()
    told = {name: task.show(task.network, name) for name, task in made.items() if task.show}
    assert sorted(told) == ["audio_vae", "backbone", "decoder", "finisher", "video_vae"]
    samples = tmp_path / "samples"
    assert all((samples / one["file"]).is_file() for rows in told.values() for one in rows)
    assert len(told["backbone"]) == 4
    assert "·" in told["backbone"][0]["caption"]
    info = probe(samples / "backbone-0.mp4")
    assert (info.width, info.height, info.frames, info.has_audio) == (32, 32, 5, True)
    assert probe(samples / "video_vae-0.mp4").width == 64


def test_real_clips_take_the_place_of_scenes(tasks, clips, networks):
    made = tasks(clips)
    for name in ("audio_vae", "video_vae", "backbone", "decoder"):
        task = made[name]
        for step in range(2):
            value = task.loss(task.network, task.draw(step))
            assert value.isfinite(), name
        assert len(task.held_out()) == (2 if name in ("backbone", "decoder") else 1)
    shapes = {made["decoder"].draw(step)["pixels"].shape[2] for step in range(2)}
    assert shapes == {1, 5}, "pictures are one frame of the clips"
    rows = made["backbone"].draw(0)
    assert rows["video"].shape[2] == 2
    assert "surface" not in rows
    assert made["backbone"].draw(1)["video"].shape[2] == 1
    captions = {one["caption"] for one in made["backbone"].show(made["backbone"].network, "real")}
    assert captions == {"number 0"}
    assert same(rows, tasks(clips)["backbone"].draw(0))
