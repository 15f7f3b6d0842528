"""The starter's own renders, killed in every phase: they go on, and the clip is the same."""

import io
import time

from PIL import Image

from aiprod_studio.jobs.queue import Queue
from aiprod_studio.media.video import read_clip
from aiprod_studio.types import Request

LEASE = 0.5
SMALL = {"width": 64, "height": 64, "seconds": 0.6, "steps": 4}

KILLS = (("a cat", "load"), ("a cat", "denoise"), ("a dog", "decode"), ("a dog", "save"))
NONE = ("", "")


def test_renders_killed_in_every_phase_go_on_to_the_same_clips(queue, warm_crew, tmp_path):
    requests = [Request(prompt, seed=3, **SMALL) for prompt in ("a cat", "a dog")]
    whole_place = tmp_path / "whole"
    whole = Queue(str(whole_place / "q.db"))
    for number, request in enumerate(requests):
        whole.add(request, whole_place / f"{number}.mp4")
        queue.add(request, tmp_path / "clips" / f"{number}.mp4")
    undisturbed = warm_crew.start("work", whole_place, kill=NONE)
    for kill in KILLS:
        warm_crew.join(warm_crew.start("work", tmp_path, kill=kill, lease=LEASE))
        time.sleep(LEASE)
    warm_crew.join(warm_crew.start("work", tmp_path, kill=NONE))
    warm_crew.join(undisturbed)

    pairs = list(zip(queue.jobs(), whole.jobs(), strict=True))
    whole.database.close()
    for job, other in pairs:
        assert (job.state, other.state) == ("done", "done")
        assert job.path.read_bytes() == other.path.read_bytes()
        assert read_clip(job.path).frames.shape == (5, 64, 64, 3)
        assert other.timings.keys() == {"load", "encode", "denoise", "decode", "save"}
        picture = Image.open(io.BytesIO(queue.preview(job.id)))
        assert 0 < max(picture.size) <= 256
        assert job.attempts == 2
    steps = (tmp_path / "steps.txt").read_text(encoding="utf-8").splitlines()
    assert steps.count("denoise 1") == len(requests)
    # Who goes on tells first where that is, which was 2 and 4; no step is done twice.
    assert steps.count("denoise 3") == len(requests)
    assert sorted(path.name for path in (tmp_path / "clips").iterdir()) == ["0.mp4", "1.mp4"]
    assert list(tmp_path.glob("jobs/*")) == []
