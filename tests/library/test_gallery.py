"""The gallery: scanned from real files, searched, emptied into the trash and filled again."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from aiprod_studio.errors import BadRequest, StudioError
from aiprod_studio.library.gallery import DRAFTS, Gallery, Query, since_days
from aiprod_studio.library.provenance import save_clip
from aiprod_studio.media.clip import Clip
from aiprod_studio.media.writer import write_video
from aiprod_studio.types import Plan, Request

PLAN = Plan("cpu", "float32", 64, 64, 5, 1, 0, {"load": 1}, 1.0, ("a reason",))


def make_clip(path: Path, prompt: str, **wishes: object) -> Path:
    """Save a real clip of five frames with its settings inside."""
    path.parent.mkdir(parents=True, exist_ok=True)
    frames = np.full((5, 32, 48, 3), 90, np.uint8)
    values = {"width": 48, "height": 32, "seconds": 0.6, "seed": 7, **wishes}
    request = Request.from_json({"prompt": prompt, **values})
    save_clip(path, Clip(frames, 8.0, None, 0), request, PLAN)
    return path


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    return tmp_path / "outputs"


@pytest.fixture
def gallery(outputs: Path, tmp_path: Path) -> Iterator[Gallery]:
    gallery = Gallery(outputs, tmp_path / "home")
    yield gallery
    gallery.close()


def test_a_scan_reads_what_is_new_and_only_that(gallery: Gallery, outputs: Path) -> None:
    assert gallery.scan() == 0
    make_clip(outputs / "dog.mp4", "A brown Dog", seed=3)
    (outputs / "foreign.mp4").write_bytes(b"no video")
    (outputs / ".hidden").mkdir()
    make_clip(outputs / ".hidden" / "half.mp4", "half")
    assert gallery.scan() == 2
    assert gallery.scan() == 0
    [entry], total = gallery.find(Query())
    assert (entry.name, entry.prompt, entry.seed, total) == ("dog.mp4", "A brown Dog", 3, 1)
    assert entry.settings["plan"]["because"] == ["a reason"]
    (outputs / "dog.mp4").unlink()
    gallery.scan()
    assert gallery.find(Query()) == ([], 0)


def test_what_a_files_settings_say_never_stops_the_scan(gallery: Gallery, outputs: Path) -> None:
    odd = {"prompt": "a \ud800 dog", "engine": "other", "width": "wide", "seed": 2**80}
    odd |= {"seconds": [2]}
    inside = {"app": "AIPROD Studio", "version": "9", "plan": {}, "request": odd}
    outputs.mkdir()
    frames = np.full((5, 32, 48, 3), 90, np.uint8)
    write_video(outputs / "odd.mp4", frames, 8.0, metadata={"comment": json.dumps(inside)})
    with suppress(OSError):  # macOS and Windows have no such names
        Path(os.fsdecode(os.fsencode(outputs) + b"/\xff.mp4")).write_bytes(b"no video")
    make_clip(outputs / "dog.mp4", "a dog")
    assert gallery.scan() == 2
    entries, _ = gallery.find(Query(words="dog"))
    assert sorted(entry.name for entry in entries) == ["dog.mp4", "odd.mp4"]
    [entry] = gallery.find(Query(engine="other"))[0]
    assert (entry.prompt, entry.width, entry.seconds, entry.seed) == ("a ? dog", None, None, None)


def test_words_engine_date_and_drafts_narrow_the_search(gallery: Gallery, outputs: Path) -> None:
    make_clip(outputs / "a.mp4", "Ein Hund am Strand, 100% echt")
    old = make_clip(outputs / "b.mp4", "a cat", engine="other")
    make_clip(outputs / DRAFTS / "one" / "seed7.mp4", "ein Hund")
    os.utime(old, (time.time() - 5 * 86400,) * 2)
    gallery.scan()

    def names(**query: object) -> list[str]:
        return [entry.name for entry in gallery.find(Query(**query))[0]]  # type: ignore[arg-type]

    assert names() == ["a.mp4", "b.mp4"]
    assert names(words="HUND strand") == ["a.mp4"]
    assert names(words="hund", drafts=None) == ["drafts/one/seed7.mp4", "a.mp4"]
    assert names(words="100%") == ["a.mp4"]
    assert names(words="%") == ["a.mp4"]
    assert names(engine="other") == ["b.mp4"]
    assert names(since=since_days(1)) == ["a.mp4"]
    assert gallery.engines() == ["other", "starter"]


def test_a_visitors_drafts_are_drafts_to_the_owner_too(gallery: Gallery, outputs: Path) -> None:
    theirs = outputs / "visitors" / "anna"
    make_clip(theirs / DRAFTS / "two" / "seed8.mp4", "a house")
    make_clip(theirs / f"{DRAFTS}.mp4", "a boat")
    gallery.scan()
    found = {
        drafts: [entry.name for entry in gallery.find(Query(drafts=drafts))[0]]
        for drafts in (True, False)
    }
    assert found == {
        True: ["visitors/anna/drafts/two/seed8.mp4"],
        False: ["visitors/anna/drafts.mp4"],
    }


def test_what_is_deleted_comes_back(gallery: Gallery, outputs: Path) -> None:
    path = make_clip(outputs / "a.mp4", "a dog")
    content = path.read_bytes()
    gallery.scan()
    token = gallery.discard("a.mp4")
    assert not path.exists()
    assert gallery.trash.tokens() == [token]
    assert gallery.find(Query())[1] == 0
    make_clip(path, "another dog")
    assert gallery.restore(token) == outputs / "a-2.mp4"
    assert (outputs / "a-2.mp4").read_bytes() == content
    assert gallery.trash.tokens() == []
    assert gallery.find(Query())[1] == 2
    with pytest.raises(BadRequest, match="not in the trash"):
        gallery.restore("../../etc")
    gallery.discard("a.mp4")
    gallery.trash.empty()
    assert gallery.trash.tokens() == []


def test_a_thumbnail_is_made_once(gallery: Gallery, outputs: Path) -> None:
    path = make_clip(outputs / "a.mp4", "a dog")
    made = gallery.thumbnail(path)
    assert made is not None
    before = made.stat().st_mtime_ns
    assert gallery.thumbnail(path) == made
    assert made.stat().st_mtime_ns == before
    (outputs / "broken.mp4").write_bytes(b"no video")
    assert gallery.thumbnail(outputs / "broken.mp4") is None


def test_an_export_overwrites_nothing(gallery: Gallery, outputs: Path, tmp_path: Path) -> None:
    make_clip(outputs / "a.mp4", "a dog")
    gallery.scan()
    folder = tmp_path / "elsewhere"
    first = gallery.export(["a.mp4"], folder)
    second = gallery.export(["a.mp4"], folder)
    assert [path.name for path in first + second] == ["a.mp4", "a-2.mp4"]
    with pytest.raises(BadRequest, match="not in the library"):
        gallery.export(["gone.mp4"], folder)


def test_an_index_that_cannot_be_opened_is_a_sentence_and_stays(
    outputs: Path, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    home.write_text("a file in the way")
    with pytest.raises(StudioError, match="cannot be opened"):
        Gallery(outputs, home)
    assert home.read_text() == "a file in the way"


def test_a_damaged_index_is_made_anew(gallery: Gallery, outputs: Path, tmp_path: Path) -> None:
    make_clip(outputs / "a.mp4", "a dog")
    gallery.scan()
    gallery.close()
    for left in (tmp_path / "home").glob("gallery.db*"):
        left.unlink()
    (tmp_path / "home" / "gallery.db").write_bytes(b"this is no database" * 100)
    again = Gallery(outputs, tmp_path / "home")
    assert again.scan() == 1
    again.close()
