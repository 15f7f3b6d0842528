"""The endpoints, asked by the Gradio client of the studio as a person starts it."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError, AuthenticationError

from aiprod_studio.errors import BadRequest
from aiprod_studio.library.provenance import save_clip
from aiprod_studio.media.clip import Clip
from aiprod_studio.media.images import write_image
from aiprod_studio.media.video import probe
from aiprod_studio.types import Request
from aiprod_studio.ui.api import read, tell_request
from aiprod_studio.ui.bench import Bench
from aiprod_studio.ui.limits import Limits
from tests.ui.conftest import Served, Shared
from tests.ui.test_share_abuse import PLAN, Visit, enter, put_clip

MANUAL = Path(__file__).parents[2] / "docs" / "api.md"
NAMES = {"/render", "/plan", "/jobs", "/library", "/models"}
SMALL = {"seconds": 0.6, "steps": 2, "width": 64, "height": 64, "seed": 4}
LONG = {**SMALL, "prompt": "a dog", "steps": 200}


def connect(address: str, visit: Visit | None = None) -> Client:
    """Return a client of a page, as a visitor if one is given."""
    headers = {"Cookie": visit.cookie} if visit else None
    return Client(address, headers=headers, verbose=False, analytics_enabled=False)


def settle(client: Client) -> Client:
    """Return the client once the studio knows its machine, which it looks at after the start."""
    for _ in range(300):
        if client.predict({"prompt": "a"}, api_name="/plan")["kind"] != "unknown":
            break
        time.sleep(0.2)
    return client


def examples() -> list[str]:
    """Return the programs of the manual."""
    return re.findall(r"```python\n(.*?)```", MANUAL.read_text(encoding="utf-8"), re.DOTALL)


def run(program: str, folder: Path) -> str:
    """Return what a program prints."""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def wait(client: Client, job: dict[str, Any]) -> dict[str, Any]:
    """Return a job once it has ended."""
    for _ in range(600):
        [job] = [each for each in client.predict(api_name="/jobs") if each["id"] == job["id"]]
        if job["state"] not in ("queued", "running"):
            break
        time.sleep(0.2)
    return job


def make_clip(path: Path, **asked: Any) -> Path:
    """Return a short clip with its settings inside."""
    frames = np.full((5, 32, 48, 3), 90, np.uint8)
    save_clip(path, Clip(frames, 8.0, None, 0), Request("a secret dog", **asked), PLAN)
    return path


def test_the_manuals_example_runs(served: Served, tmp_path: Path) -> None:
    program = examples()[0].replace("http://127.0.0.1:7860/", served.address)
    assert served.address in program
    settle(connect(served.address))
    told = run(program, tmp_path).splitlines()
    assert told[0].startswith("fits")
    assert told[-2:] == ["done 100 %", "fits"]
    assert probe(tmp_path / "balloon.mp4").frames == 5


def test_nothing_else_of_the_page_has_a_name(served: Served) -> None:
    info = connect(served.address).view_api(return_format="dict", print_info=False)
    assert set(info["named_endpoints"]) == NAMES
    assert info["unnamed_endpoints"] == {}


def test_a_request_comes_back_in_the_same_words_with_its_files(
    served: Served, tmp_path: Path
) -> None:
    client = settle(connect(served.address))
    write_image(tmp_path / "a.png", np.full((64, 64, 3), 200, np.uint8))
    file = handle_file(str(tmp_path / "a.png"))
    asked = {**SMALL, "prompt": "a dog", "image": file, "last_image": file}
    told = client.predict(asked, api_name="/plan")
    assert Request.from_json(told["request"]).steps == 2
    assert told["kind"] == "fits"
    assert re.fullmatch(r"[0-9a-f]{24}\.png", told["request"]["image"])
    assert told["request"]["last_image"] == told["request"]["image"]
    job = wait(client, client.predict(told["request"], api_name="/render"))
    assert (job["state"], job["percent"], job["error"]) == ("done", 100, None)
    assert job["request"] == told["request"]
    [clip] = client.predict("a dog", api_name="/library")["clips"]
    assert (clip["clip"], clip["url"]) == (job["clip"], job["url"])
    assert clip["request"] == job["request"]
    longer = {**SMALL, "prompt": "on", "width": None, "height": None, "extend": job["clip"]}
    job = wait(client, client.predict(longer, api_name="/render"))
    assert job["state"] == "done"
    assert (job["request"]["width"], job["request"]["fps"]) == (64, 8.0)
    assert probe(served.home / "outputs" / job["clip"]).frames == 9


def test_jobs_are_steered_by_name(served: Served) -> None:
    client = connect(served.address)
    job = client.predict(LONG, api_name="/render")
    client.predict("cancel", job["id"], api_name="/jobs")
    assert wait(client, job)["state"] == "cancelled"
    left = client.predict("forget", job["id"], api_name="/jobs")
    assert job["id"] not in [each["id"] for each in left]


def test_models_say_what_they_make_in_the_words_of_a_request(served: Served) -> None:
    client = connect(served.address)
    models = {each["request"]["engine"]: each for each in client.predict(api_name="/models")}
    starter = models["starter"]
    assert {"image", "keyframes"} <= set(starter["tasks"])
    assert "upscale" in models["ltx-2"]["tasks"]
    plan = client.predict({**starter["request"], "prompt": "a dog"}, api_name="/plan")
    assert plan["request"].items() >= starter["request"].items()
    assert models["wan2.2-5b"]["weights"]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"seed": 1}, "prompt is missing"),
        ({"prompt": "a", "colour": "red"}, "Unknown setting 'colour'"),
        ({"prompt": "a", "width": 17}, "multiples of 16"),
        ({"prompt": "a", "image": "/etc/passwd"}, "Send it along"),
        ({"prompt": "a", "last_image": "/etc/passwd"}, "Send it along"),
        ({"prompt": "a", "image": {"path": "/etc/passwd"}}, "no file that was dropped here"),
        ({"prompt": "a", "stages": 2}, "engine that can: ltx-2"),
        ({"prompt": "a", "extend": "../studio.db"}, "not in the library"),
        (["a"], "no request"),
    ],
)
def test_what_cannot_be_done_is_a_sentence(served: Served, asked: Any, said: str) -> None:
    with pytest.raises(AppError, match=said):
        connect(served.address).predict(asked, api_name="/render")


def test_files_of_the_studio_go_by_their_names(bench: Bench) -> None:
    made = make_clip(bench.gallery.outputs / "clip.mp4")
    bench.gallery.scan()
    asked = read({"prompt": "on", "extend": "clip.mp4"}, bench)
    assert asked.extend is not None
    assert Path(asked.extend).read_bytes() == made.read_bytes()
    told = tell_request(asked.to_json(), bench)
    assert told["extend"] == Path(asked.extend).name
    assert read(told, bench) == asked
    assert read({"prompt": "on", "reference": "clip.mp4"}, bench).reference == asked.extend
    with pytest.raises(BadRequest, match="Send it along"):
        read({"prompt": "on", "image": str(made)}, bench)


# --- visitors ------------------------------------------------------------------------------------


def test_no_file_of_a_visitors_lora_is_looked_at(bench: Bench) -> None:
    """Not even to plan with it; the owner's is."""
    asked = {"prompt": "a", "engine": "wan2.1-1.3b", "loras": ["/etc/passwd"]}
    assert read(asked, bench).loras == ("/etc/passwd",)
    with pytest.raises(BadRequest, match="shares no LoRAs"):
        read(asked, dataclasses.replace(bench, limits=Limits()))


def test_the_manuals_visitor_signs_in(shared: Shared, tmp_path: Path) -> None:
    program = examples()[1].replace("http://192.168.0.7:7861/", shared.link.partition("#")[0])
    assert run(program.replace('"..."', repr(shared.password)), tmp_path) == "0\n"


def test_visitors_find_their_own_and_keep_the_limits(shared: Shared, tmp_path: Path) -> None:
    visit, other = enter(shared), enter(shared)
    address = shared.link.partition("#")[0]
    mine, theirs = settle(connect(address, visit)), connect(address, other)
    assert set(mine.view_api(return_format="dict", print_info=False)["named_endpoints"]) == NAMES
    put_clip(shared, other)
    assert theirs.predict(api_name="/library")["total"] == 1
    assert mine.predict(api_name="/library") == {"total": 0, "clips": []}
    write_image(tmp_path / "a.png", np.full((64, 64, 3), 200, np.uint8))
    asked = {**LONG, "image": handle_file(str(tmp_path / "a.png"))}
    job = mine.predict(asked, api_name="/render")
    assert mine.predict({**LONG, **job["request"]}, api_name="/plan")["kind"] == "fits"
    assert theirs.predict(api_name="/jobs") == []
    home = str(shared.owner.home)
    assert home not in str([mine.predict(api_name="/jobs"), theirs.predict(api_name="/models")])
    refused = [
        (theirs, ("cancel", job["id"]), "/jobs", "no such job"),
        (theirs, (job["request"],), "/render", "Send it along"),
        (mine, ({**LONG, "extend": "clip.mp4"},), "/render", "not in the library"),
        (mine, ({**LONG, "width": 1296},), "/render", "at most 1280 pixels"),
        (mine, ({**LONG, "prompt": "a", "loras": ["a/b"]},), "/render", "LoRA"),
    ]
    for client, values, name, said in refused:
        with pytest.raises(AppError, match=said):
            client.predict(*values, api_name=name)
    for _ in range(4):
        mine.predict(LONG, api_name="/render")
    with pytest.raises(AppError, match="5 clips in the queue"):
        mine.predict(LONG, api_name="/render")
    visit.ask("POST", "/logout")
    with pytest.raises(AuthenticationError, match="login"):
        connect(address, visit)


def test_a_clip_to_extend_counts_with_its_own_length(shared: Shared, tmp_path: Path) -> None:
    frames = np.full((76, 32, 32, 3), 90, np.uint8)
    save_clip(tmp_path / "b.mp4", Clip(frames, 8.0, None, 0), Request("a dog"), PLAN)
    client = connect(shared.link.partition("#")[0], enter(shared))
    asked = {"prompt": "on", "extend": handle_file(str(tmp_path / "b.mp4")), "seconds": 0.6}
    with pytest.raises(AppError, match="at most 10 seconds"):
        client.predict(asked, api_name="/render")
