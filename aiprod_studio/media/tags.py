"""Text inside media files: reading tags of any file, adding XMP where no library can."""

from __future__ import annotations

import struct
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from aiprod_studio.errors import MediaError
from aiprod_studio.media.containers import open_media
from aiprod_studio.media.images import check_readable

# Adobe, XMP Specification Part 3: the identifier of a top-level box in ISO media files.
_XMP_BOX = bytes.fromhex("BE7ACFCB97A942E89C71999491E3AFAC")
# The same document: bytes that lead a gif reader which knows no XMP to the end of the packet.
_XMP_TRAILER = bytes([1, *range(255, -1, -1), 0])


def read_tags(path: Path) -> dict[str, str]:
    """Return the text tags of a video, sound, png or gif file under lower-case names.

    Raises `MediaError` for a file that is missing, foreign or damaged.
    """
    check_readable(path)
    if path.suffix.lower() in (".png", ".gif"):
        try:
            with Image.open(path) as image:
                return {
                    str(name).lower(): _text(value)
                    for name, value in image.info.items()
                    if isinstance(value, str | bytes)
                }
        except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
            raise MediaError(
                f"{path.name} is not a picture that can be read, or it is damaged. "
                "Save or download it again."
            ) from error
    with open_media(path) as container:
        return {name.lower(): value for name, value in container.metadata.items()}


def add_mp4_xmp(path: Path, xmp: bytes) -> None:
    """Append an XMP packet to an mp4 file, as the top-level `uuid` box that readers look for."""
    with path.open("ab") as file:
        file.write(struct.pack(">I", 24 + len(xmp)) + b"uuid" + _XMP_BOX + xmp)


def add_gif_tags(path: Path, comment: str, xmp: bytes) -> None:
    """Put a comment and an XMP packet before the first picture of a gif file."""
    data = memoryview(path.read_bytes())
    colours = 3 * 2 ** ((data[10] & 7) + 1) if data[10] & 0x80 else 0
    start = 13 + colours
    text = comment.encode()
    with path.open("wb") as file:
        file.write(data[:start])
        file.write(b"\x21\xfe")
        for begin in range(0, len(text), 255):
            block = text[begin : begin + 255]
            file.write(bytes([len(block)]) + block)
        file.write(b"\0\x21\xff\x0bXMP DataXMP" + xmp + _XMP_TRAILER)
        file.write(data[start:])


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode("utf-8", "replace")
