"""What every file says of itself: its complete settings, and that it was made by AI."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from aiprod_studio import __version__
from aiprod_studio.errors import BadRequest, MediaError
from aiprod_studio.media.audio import write_wav
from aiprod_studio.media.clip import Clip, Reel
from aiprod_studio.media.images import write_image
from aiprod_studio.media.tags import add_gif_tags, add_mp4_xmp, read_tags
from aiprod_studio.media.writer import write_video
from aiprod_studio.settings import settings
from aiprod_studio.types import FILES, Plan, Request

SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
"""The IPTC's name for "made by a trained model", which platforms look for."""

PICTURES = "pictures"
"""The folder of what jobs begin with, below the data of whoever asked for them."""

_APP = "AIPROD Studio"
_XMP = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
    '<x:xmpmeta xmlns:x="adobe:ns:meta/">'
    '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description rdf:about="" xmlns:xmp="http://ns.adobe.com/xap/1.0/"'
    ' xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"'
    f' xmp:CreatorTool="{_APP} {__version__}"'
    f' Iptc4xmpExt:DigitalSourceType="{SOURCE_TYPE}"/>'
    '</rdf:RDF></x:xmpmeta><?xpacket end="r"?>'
)


def save_clip(path: Path, clip: Clip | Reel, request: Request, plan: Plan) -> None:
    """Write a clip by its suffix, with its settings and the mark of AI inside, whole or not at all.

    .mp4, .webm, .gif, a pattern such as `name_%05d.png`, .png for a single frame, or .wav for
    the sound alone, for which no frame is taken. The same input gives the same bytes. Raises
    `MediaError` and `DoesNotFit` as `media.writer.write_video` does.
    """
    tags = _tags(request, plan)
    xmp = _XMP.encode()
    suffix = path.suffix.lower()
    if suffix == ".wav":
        if clip.audio is None:
            raise MediaError("This clip has no sound to save. Choose .mp4, or render with sound.")
        write_wav(path, clip.audio, clip.sample_rate, tags, xmp)
        return
    finish = None
    if suffix in (".mp4", ".m4v"):
        finish = lambda file: add_mp4_xmp(file, xmp)  # noqa: E731
    elif suffix == ".gif":
        finish = lambda file: add_gif_tags(file, tags["comment"], xmp)  # noqa: E731
    elif suffix == ".png":
        tags["XML:com.adobe.xmp"] = _XMP
        if clip.count == 1 and "%" not in path.name:
            [frame] = clip.frames
            write_image(path, frame, tags)
            return
    elif suffix == ".webm":
        tags["digital_source_type"] = SOURCE_TYPE
    write_video(path, clip.frames, clip.fps, clip.audio, clip.sample_rate, tags, finish=finish)


def read_settings(path: Path) -> dict[str, Any]:
    """Return the "request", "plan" and "version" that a file of this app carries.

    What the studio keeps of the files that a clip begins with goes by its name alone there.
    Raises `MediaError` for a file that cannot be read or was not made by this app.
    """
    try:
        inside = json.loads(read_tags(path).get("comment", ""))
        if inside["app"] != _APP:
            raise KeyError("app")
        return {name: inside[name] for name in ("request", "plan", "version")}
    except (ValueError, KeyError, TypeError) as error:
        raise MediaError(
            f"{path.name} carries no settings of {_APP}: another program made it, or a website "
            "removed them. Use the file as it was saved first."
        ) from error


def read_request(path: Path) -> Request:
    """Return the request that made a file; raises `MediaError` as `read_settings` does."""
    inside = read_settings(path)
    try:
        return find_files(Request.from_json(inside["request"]), settings().home / PICTURES)
    except (BadRequest, TypeError) as error:
        raise MediaError(
            f"The settings in {path.name} come from version {inside['version']} and do not fit "
            f"this one, {__version__}. Update {_APP}."
        ) from error


def find_files(request: Request, folder: Path) -> Request:
    """Return a request with the files that it names without a folder at their place in `folder`."""
    told = {name: getattr(request, name) for name in FILES}
    found: dict[str, Any] = {
        name: str(folder / file)
        for name, file in told.items()
        if file and Path(file).name == file and (folder / file).is_file()
    }
    return dataclasses.replace(request, **found)


def _tags(request: Request, plan: Plan) -> dict[str, str]:
    """Return the plain tags: settings as JSON in the comment, which every tool keeps."""
    inside = {
        "app": _APP,
        "version": __version__,
        "request": _without_home(request.to_json()),
        "plan": plan.to_json(),
    }
    text = json.dumps(inside, ensure_ascii=False, sort_keys=True)
    # Half a surrogate pair has no UTF-8, but its JSON escape has.
    text = text.encode("utf-8", "backslashreplace").decode()
    return {"comment": text, "description": f"Made with AI by {_APP}. {SOURCE_TYPE}"}


def _without_home(asked: dict[str, Any]) -> dict[str, Any]:
    """Return a request's JSON that names no folder of the studio's: clips go to other people."""
    kept = {
        name: Path(asked[name])
        for name in FILES
        if asked[name] and Path(asked[name]).parent.name == PICTURES
    }
    home = settings().home
    return asked | {name: file.name for name, file in kept.items() if file.is_relative_to(home)}
