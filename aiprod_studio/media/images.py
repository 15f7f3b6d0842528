"""Still pictures: reading any, writing whole files, resizing."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms, ImageOps, PngImagePlugin, UnidentifiedImageError

from aiprod_studio.errors import MediaError
from aiprod_studio.media.files import hidden_folder, replacing

Frame = npt.NDArray[np.uint8]

PIXEL_LIMIT = 50_000_000
_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
_TOO_LARGE = f"more than {PIXEL_LIMIT / 1e6:.0f} megapixels. Shrink it first."


def read_image(path: Path) -> Frame:
    """Return the first picture of a file as sRGB uint8 `[H, W, 3]`, upright, over white.

    Raises `MediaError` for a missing, foreign or damaged file, and for more than `PIXEL_LIMIT`
    pixels before any of them is decoded.
    """
    check_readable(path)
    try:
        with Image.open(path) as image:
            if image.width * image.height > PIXEL_LIMIT:
                raise MediaError(
                    f"{path.name} has {image.width}x{image.height} pixels, {_TOO_LARGE}"
                )
            image.load()
            return _opaque(_srgb(_eight_bit(ImageOps.exif_transpose(image))))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise MediaError(f"{path.name} has {_TOO_LARGE}") from error
    except UnidentifiedImageError as error:
        raise MediaError(
            f"{path.name} is not a picture that can be read. Save it as PNG or JPEG first."
        ) from error
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, ArithmeticError) as error:
        raise MediaError(
            f"{path.name} is damaged or cut short. Save or download it again."
        ) from error


def check_readable(path: Path) -> None:
    """Raise `MediaError` unless `path` is an ordinary file that may be read."""
    try:
        if path.is_dir():
            raise MediaError(f"{path} is a folder. Give the name of a file inside it.")
        if not path.is_file():
            raise MediaError(f"{path} does not exist. Check the name and the folder.")
        with path.open("rb") as file:
            if not file.read(1):
                raise MediaError(f"{path.name} is empty. Save or download it again.")
    except OSError as error:
        reason = error.strerror or "unknown reason"
        raise MediaError(
            f"{path} cannot be opened ({reason}). Check its name and permissions."
        ) from error


def write_image(path: Path, frame: Frame, metadata: Mapping[str, str] | None = None) -> None:
    """Write uint8 `[H, W, 3]` as .png, .jpg or .webp, whole or not at all.

    `metadata` becomes the text chunks (iTXt) of a png; the other formats carry none.
    Raises `MediaError` for another suffix or shape, and as `files.replacing` does.
    """
    kind = _FORMATS.get(path.suffix.lower())
    if kind is None:
        raise MediaError(
            f"{path.name} has no picture suffix that can be written. Use .png, .jpg or .webp."
        )
    check_frame(frame)
    with replacing(path) as temporary:
        _save(temporary, kind, frame, metadata or {})


def write_sequence(
    path: Path, frames: Iterable[Frame], metadata: Mapping[str, str] | None = None
) -> int:
    """Write frames uint8 `[H, W, 3]` as numbered png files and return how many.

    `path` is a pattern such as `name_%05d.png`, or a folder (new or empty) that gets
    `frame_%05d.png`; numbers start at 0. The files appear together when all are written.
    Raises `MediaError` for no frames or a bad pattern, and as `files.replacing` does.
    """
    numbered = bool(path.suffix)
    pattern = path.name if numbered else "frame_%05d.png"
    _check_pattern(pattern)
    if not numbered and os.path.lexists(path) and not (path.is_dir() and not any(path.iterdir())):
        raise MediaError(f"{path} exists already. Choose another name or remove it first.")
    names: list[str] = []
    with hidden_folder(path) as temporary:
        for frame in frames:
            check_frame(frame)
            names.append(pattern % len(names))
            _save(temporary / names[-1], "PNG", frame, metadata or {})
        if not names:
            raise MediaError("There are no frames to write. Render at least one.")
        folder = path.parent if numbered else path
        folder.mkdir(exist_ok=True)
        for name in names:
            (temporary / name).replace(folder / name)
    return len(names)


def check_frame(frame: Frame) -> None:
    """Raise `MediaError` unless `frame` is uint8 `[H, W, 3]` with at least one pixel."""
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or not frame.size:
        raise MediaError(
            f"A frame is {frame.dtype} {list(frame.shape)}; give uint8 pictures [H, W, 3]."
        )


def resize(frames: Frame, width: int, height: int) -> Frame:
    """Return frames uint8 `[T, H, W, 3]` scaled to `[T, height, width, 3]` with Lanczos."""
    if frames.shape[1:3] == (height, width):
        return frames
    out = np.empty((len(frames), height, width, 3), np.uint8)
    for number, frame in enumerate(frames):
        scaled = Image.fromarray(frame).resize((width, height), Image.Resampling.LANCZOS)
        out[number] = np.asarray(scaled)
    return out


def fit(image: Frame, width: int, height: int) -> Frame:
    """Return a picture `[H, W, 3]` cut at the centre and scaled to cover `[height, width, 3]`."""
    check_frame(image)
    if image.shape[:2] == (height, width):
        return image
    size, how = (width, height), Image.Resampling.LANCZOS
    return np.asarray(ImageOps.fit(Image.fromarray(image), size, how), np.uint8)


def _save(path: Path, kind: str, frame: Frame, metadata: Mapping[str, str]) -> None:
    image = Image.fromarray(np.ascontiguousarray(frame))
    if kind != "PNG":
        image.save(path, kind, quality=95)
        return
    info = PngImagePlugin.PngInfo()
    for key, value in metadata.items():
        info.add_itxt(key, value)
    image.save(path, kind, pnginfo=info)


def _check_pattern(pattern: str) -> None:
    """Raise `MediaError` unless `pattern` names a different .png for every number."""
    try:
        good = pattern % 1 != pattern % 2 and pattern.lower().endswith(".png")
    except (TypeError, ValueError):
        good = False
    if not good:
        raise MediaError(
            f"{pattern} cannot hold several pictures. Use a pattern such as name_%05d.png, "
            "a folder, or .mp4."
        )


def _eight_bit(image: Image.Image) -> Image.Image:
    """Return a picture of 16 or 32 bit grey as 8 bit; every other mode passes unchanged."""
    if not image.mode.startswith("I") and image.mode != "F":
        return image
    grey = np.asarray(image, np.float64)
    peak = grey.max(initial=0)
    scale = 1.0 if peak > 255 else 257.0
    if image.mode == "F" and peak <= 1:
        scale = 65_535.0
    elif image.mode.startswith("I;16"):
        scale = 1.0
    return Image.fromarray((grey * scale / 257).clip(0, 255).round().astype(np.uint8))


def _srgb(image: Image.Image) -> Image.Image:
    """Return the picture in sRGB where it carries the colour profile of another space."""
    profile = image.info.get("icc_profile")
    if not profile or image.mode not in ("RGB", "RGBA", "CMYK"):
        return image
    mode = "RGBA" if image.mode == "RGBA" else "RGB"
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        srgb = ImageCms.createProfile("sRGB")
        return ImageCms.profileToProfile(image, source, srgb, outputMode=mode) or image
    except (ImageCms.PyCMSError, OSError):
        return image


def _opaque(image: Image.Image) -> Frame:
    """Return a Pillow picture as uint8 `[H, W, 3]`, its transparent parts white."""
    if not image.has_transparency_data:
        return np.array(image.convert("RGB"))
    picture = image.convert("RGBA")
    white = Image.new("RGBA", picture.size, "white")
    return np.array(Image.alpha_composite(white, picture).convert("RGB"))
