import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from aiprod_studio import __version__
from aiprod_studio.errors import MediaError
from aiprod_studio.library.provenance import (
    PICTURES,
    SOURCE_TYPE,
    find_files,
    read_request,
    read_settings,
    save_clip,
)
from aiprod_studio.media.clip import Clip
from aiprod_studio.media.images import read_image, write_image
from aiprod_studio.media.writer import write_video
from aiprod_studio.settings import settings
from aiprod_studio.types import Plan, Request

REQUEST = Request("قطة على الشاطئ 🐱 <&> \udc80 \x00 " + "很长" * 400, seed=2**63 - 1, fps=23.976)
PLAN = Plan("cpu", "float32", 64, 48, 5, 1, 0, {"denoise": 10**12}, 3.25, ("it fits", "“so”"))
CLIP = Clip(
    np.random.default_rng(0).integers(0, 255, (5, 48, 64, 3), np.uint8),
    23.976,
    np.zeros((1, 4_000), np.float32),
)


@pytest.mark.parametrize("name", ["a.mp4", "a.webm", "a.gif", "a_%d.png", "a.wav"])
def test_settings_and_mark_survive_in_every_format(tmp_path: Path, name: str) -> None:
    files = []
    for folder in ("one", "two"):
        save_clip(tmp_path / folder / name, CLIP, REQUEST, PLAN)
        files.append(tmp_path / folder / (name % 4 if "%" in name else name))
    assert read_request(files[0]) == REQUEST
    settings = read_settings(files[0])
    assert settings["plan"] == json.loads(json.dumps(PLAN.to_json()))
    assert settings["version"] == __version__
    assert SOURCE_TYPE in files[0].read_bytes().decode("latin-1")
    assert files[0].read_bytes() == files[1].read_bytes()


@pytest.mark.parametrize("name", ["a.mp4", "a.gif", "a_%d.png", "a.wav"])
def test_the_xmp_packet_is_inside(tmp_path: Path, name: str) -> None:
    save_clip(tmp_path / name, CLIP, REQUEST, PLAN)
    data = next(tmp_path.iterdir()).read_bytes()
    packet = data[data.index(b"<x:xmpmeta") : data.index(b"</x:xmpmeta>")].decode()
    assert f'Iptc4xmpExt:DigitalSourceType="{SOURCE_TYPE}"' in packet


def test_the_mp4_box_has_adobes_identifier(tmp_path: Path) -> None:
    save_clip(tmp_path / "a.mp4", CLIP, REQUEST, PLAN)
    data = (tmp_path / "a.mp4").read_bytes()
    at = data.index(b"uuid" + bytes.fromhex("BE7ACFCB97A942E89C71999491E3AFAC")) - 4
    assert at + int.from_bytes(data[at : at + 4], "big") == len(data)


def test_one_frame_may_be_one_picture(tmp_path: Path) -> None:
    still = Clip(CLIP.frames[:1], 24)
    save_clip(tmp_path / "a.png", still, REQUEST, PLAN)
    assert np.array_equal(read_image(tmp_path / "a.png"), CLIP.frames[0])
    assert read_request(tmp_path / "a.png") == REQUEST
    with pytest.raises(MediaError, match="pattern"):
        save_clip(tmp_path / "b.png", CLIP, REQUEST, PLAN)
    with pytest.raises(MediaError, match="no sound"):
        save_clip(tmp_path / "b.wav", still, REQUEST, PLAN)


def test_files_of_others_are_refused_kindly(tmp_path: Path) -> None:
    write_video(tmp_path / "plain.mp4", CLIP.frames, 24)
    write_video(tmp_path / "other.mp4", CLIP.frames, 24, metadata={"comment": '{"seed": 5}'})
    write_video(tmp_path / "list.mp4", CLIP.frames, 24, metadata={"comment": "[1]"})
    write_image(tmp_path / "plain.png", CLIP.frames[0])
    for name in ("plain.mp4", "other.mp4", "list.mp4", "plain.png"):
        with pytest.raises(MediaError, match="carries no settings"):
            read_settings(tmp_path / name)


def test_settings_of_a_newer_version_ask_for_an_update(tmp_path: Path) -> None:
    comment = {"app": "AIPROD Studio", "version": "99", "plan": {}, "request": {"new": 1}}
    tags = {"comment": json.dumps(comment)}
    write_video(tmp_path / "a.mp4", CLIP.frames, 24, metadata=tags)
    assert read_settings(tmp_path / "a.mp4")["version"] == "99"
    with pytest.raises(MediaError, match="version 99"):
        read_request(tmp_path / "a.mp4")


def test_what_the_studio_keeps_goes_by_its_name_and_is_found_again(tmp_path: Path) -> None:
    kept, own = settings().home / PICTURES / "cafe.png", tmp_path / PICTURES / "own.png"
    for file in (kept, own):
        file.parent.mkdir(parents=True)
        file.write_bytes(b"picture")
    request = dataclasses.replace(REQUEST, image=str(kept), last_image=str(own))
    save_clip(tmp_path / "a.mp4", CLIP, request, PLAN)
    assert str(settings().home).encode() not in (tmp_path / "a.mp4").read_bytes()
    told = read_settings(tmp_path / "a.mp4")["request"]
    assert (told["image"], told["last_image"]) == ("cafe.png", str(own))
    assert read_request(tmp_path / "a.mp4") == request
    kept.unlink()
    assert read_request(tmp_path / "a.mp4").image == "cafe.png"


@pytest.mark.parametrize("told", ["../secret.png", "/etc/passwd", "folder/a.png", "..", ""])
def test_only_a_bare_name_is_looked_for(tmp_path: Path, told: str) -> None:
    (tmp_path / "secret.png").write_bytes(b"secret")
    (tmp_path / "kept" / "folder").mkdir(parents=True)
    (tmp_path / "kept" / "folder" / "a.png").write_bytes(b"picture")
    request = dataclasses.replace(REQUEST, image=told)
    assert find_files(request, tmp_path / "kept") == request
