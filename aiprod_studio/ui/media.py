"""Media: the clips and pictures that the page shows, each served to those who may see it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Route

from aiprod_studio.settings import settings

if TYPE_CHECKING:
    from aiprod_studio.ui.bench import Bench

TYPES = {
    ".mp4": "video/mp4",
    ".webp": "image/webp",
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
}


def media_url(path: Path) -> str:
    """Return the address under which the page loads a clip or a thumbnail."""
    for kind, root in _roots().items():
        if path.is_relative_to(root):
            return f"media/{kind}/{quote(path.relative_to(root).as_posix())}"
    # A clip that was sent elsewhere is not served; the page shows an empty player.
    return f"media/clips/{quote(path.name)}"


def media_route(bench: Bench) -> Route:
    """Return the route that serves to each who asks the clips and thumbnails of their own bench."""

    def answer(request: Request) -> Response:
        own = bench.of(request.scope)
        root = _roots().get(request.path_params["kind"])
        path = root and locate(root, request.path_params["name"])
        folders = (own.gallery.outputs.resolve(), own.gallery.thumbnails.resolve())
        if not path or not any(path.is_relative_to(folder) for folder in folders):
            return PlainTextResponse("There is no such file.\n", 404)
        return send_file(path)

    return Route("/media/{kind}/{name:path}", answer)


def send_file(path: Path) -> Response:
    """Return a clip or picture as the answer to a request; any other file is only downloaded."""
    kind = TYPES.get(path.suffix.lower())
    headers = {"Cache-Control": "private, max-age=3600", "X-Content-Type-Options": "nosniff"}
    if kind is None:
        headers["Content-Disposition"] = "attachment"
    return FileResponse(path, media_type=kind or "application/octet-stream", headers=headers)


def locate(root: Path, name: str) -> Path | None:
    """Return the real path of a file below `root` by its name with slashes, or None.

    A name that could lead elsewhere, or to what is hidden, is refused before the disk is touched:
    on Windows a look at a network path alone would already send the user's credentials there.
    """
    parts = name.split("/")
    if any(not part or part.startswith(".") for part in parts) or set(name) & set("\\:\0"):
        return None
    try:
        path = root.joinpath(*parts).resolve(strict=True)
    except (OSError, RuntimeError, ValueError):
        return None
    return path if path.is_file() and path.is_relative_to(root.resolve()) else None


def locate_absolute(root: Path, text: str) -> Path | None:
    """Return the real path of a file below `root` by its absolute path, or None."""
    start = f"{root}{os.sep}"
    return locate(root, text[len(start) :].replace(os.sep, "/")) if text.startswith(start) else None


def _roots() -> dict[str, Path]:
    """Return the folders that addresses start from."""
    return {"clips": settings().outputs, "small": settings().home}
