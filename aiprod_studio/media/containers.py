"""Opening media files of any kind safely."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import av
from av.container import InputContainer
from av.stream import Stream

from aiprod_studio.errors import MediaError
from aiprod_studio.media.images import check_readable

# Playlists name further files and addresses, so a file from a stranger may be none of them.
_KINDS = (
    "mov,matroska,gif,apng,avi,mpegts,mpeg,ogg,flv,asf,image2,png_pipe,jpeg_pipe,webp_pipe,"
    "bmp_pipe,tiff_pipe,wav,mp3,flac,aac,aiff,caf,w64,amr"
)
_ALONE = {"format_whitelist": _KINDS, "protocol_whitelist": "file", "pattern_type": "none"}

_Kind = TypeVar("_Kind", bound=Stream)


@contextmanager
def open_media(path: Path) -> Iterator[InputContainer]:
    """Open a local video, picture or sound file for reading.

    Raises `MediaError` for a file that is missing, foreign or damaged, also while it is read in
    the body.
    """
    check_readable(path)
    try:
        with av.open(f"file:{path}", "r", options=_ALONE, metadata_errors="replace") as container:
            yield container
    except (av.FFmpegError, ValueError) as error:
        raise MediaError(
            f"{path.name} cannot be read: it is damaged, cut short or no media file. "
            "Save it as mp4, png or wav and try again."
        ) from error


def decodable(streams: tuple[_Kind, ...]) -> list[_Kind]:
    """Return the streams of an open file that FFmpeg has a decoder for."""
    return [stream for stream in streams if getattr(stream, "codec_context", None) is not None]
