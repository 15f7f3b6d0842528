"""A curriculum of tiny networks on tiny scenes, that tests can train within seconds."""

import pytest

from aiprod_studio.training.curriculum import read_curriculum

TINY = """
description = "tiny"
family = "starter"
seed = 3

[changes.text_encoder]
width = 16
out_width = 32
layers = 1
heads = 2
buckets = 64
longest = 48

[changes.layout]
frames = 5
width = 32
heads = 2
layers = 1

[changes.sketcher]
size = 8
width = 16

[changes.finisher]
width = 8
blocks = 1

[changes.audio_vae]
latent_channels = 4
width = 16
blocks = 1

[changes.video_vae]
latent_channels = 24
fine_width = 8
coarse_width = 16
sharp_width = 8
decoder_blocks = [1, 1, 1]
heads = 2

[changes.upscaler]
width = 8
blocks = 1

[changes.backbone]
video_channels = 24
audio_channels = 4
text_width = 32
width = 32
heads = 2

[[phases]]
name = "one subject"
subjects = ["ball", "dog"]
motions = ["still", "bounce"]
cameras = ["still"]
frames = 5
height = 32
width = 32

[phases.text_encoder]
steps = 2
share = 0.1
batch = 8
rate = 1e-3
whole_world = 1.0

[phases.layout]
steps = 2
share = 0.1
batch = 8
rate = 1e-3
whole_world = 1.0

[phases.sketcher]
steps = 2
share = 0.1
batch = 8
rate = 1e-3

[phases.audio_vae]
steps = 2
share = 0.1
batch = 4
rate = 1e-3
room = 8

[phases.video_vae]
steps = 2
share = 0.1
batch = 4
rate = 1e-3
window = 16
room = 8

[phases.backbone]
steps = 4
share = 0.2
batch = 4
rate = 1e-3
pictures = 0.5
picture_batch = 4
room = 8

[phases.upscaler]
steps = 2
share = 0.1
batch = 4
rate = 1e-3
frames = 1
window = 32
room = 8

[phases.finisher]
steps = 2
share = 0.1
batch = 4
rate = 1e-3
room = 8

[phases.decoder]
steps = 2
share = 0.1
batch = 4
rate = 1e-3
pictures = 0.5
picture_batch = 4
room = 8

[[phases]]
name = "a mix"
review = 0.5
subjects = ["ball"]
frames = 5
height = 32
width = 32

[phases.backbone]
steps = 4
share = 0.2
batch = 4
rate = 1e-3
room = 8
"""


@pytest.fixture
def tiny_file(tmp_path):
    """Return the file of the tiny curriculum."""
    path = tmp_path / "tiny.toml"
    path.write_text(TINY, encoding="utf-8")
    return path


@pytest.fixture
def tiny(tiny_file):
    """Return the tiny curriculum."""
    return read_curriculum(tiny_file)
