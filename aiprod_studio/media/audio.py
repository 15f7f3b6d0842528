"""Sound: reading any file, writing wav, changing the sample rate."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt

from aiprod_studio.errors import MediaError
from aiprod_studio.media.containers import decodable, open_media
from aiprod_studio.media.files import write_bytes

Sound = npt.NDArray[np.float32]

_INFO_TAGS = {"comment": "ICMT", "description": "ISBJ", "title": "INAM", "copyright": "ICOP"}


def read_audio(path: Path, sample_rate: int) -> Sound:
    """Return the first sound track of a file as float32 `[C, S]` at `sample_rate` Hz.

    C is 1 or 2; more channels are mixed to two. Raises `MediaError` for a file that is missing,
    foreign, damaged or silent.
    """
    with open_media(path) as container:
        if not decodable(container.streams.audio):
            raise MediaError(f"{path.name} has no sound. Choose a file with a sound track.")
        return decode_audio(container, sample_rate)[0]


def decode_audio(container: av.container.InputContainer, sample_rate: int) -> tuple[Sound, float]:
    """Return the first sound track `[C, S]` of an open file and its start in seconds."""
    stream = decodable(container.streams.audio)[0]
    layout = "mono" if stream.channels == 1 else "stereo"
    resampler = av.AudioResampler("fltp", layout, sample_rate)
    start: float | None = None
    parts: list[Sound] = []
    for frame in container.decode(stream):
        if start is None:
            start = frame.time or 0.0
        frame.pts = None
        parts += _arrays(resampler.resample(frame))
    if start is None:
        return np.zeros((1 if layout == "mono" else 2, 0), np.float32), 0.0
    parts += _arrays(resampler.resample(None))
    sound = np.concatenate(parts, axis=1)
    if "mp4" in container.format.name and stream.duration and stream.time_base:
        # The last AAC packet is padded; the length in the header is the true one.
        end = float((stream.start_time or 0) + stream.duration) * float(stream.time_base)
        sound = sound[:, : max(0, round((end - start) * sample_rate))]
    return np.ascontiguousarray(sound, np.float32), start


def resample(audio: Sound, sample_rate: int, target_rate: int) -> Sound:
    """Return sound float32 `[C, S]` at `target_rate` Hz, S scaled and rounded."""
    if sample_rate == target_rate or not audio.size:
        return audio
    layout = "mono" if len(audio) == 1 else "stereo"
    resampler = av.AudioResampler("fltp", layout, target_rate)
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(audio, np.float32), "fltp", layout)
    frame.sample_rate = sample_rate
    parts = _arrays(resampler.resample(frame)) + _arrays(resampler.resample(None))
    sound = np.concatenate(parts, axis=1)
    length = round(audio.shape[1] * target_rate / sample_rate)
    return fitted(sound, length)


def fitted(audio: Sound, length: int) -> Sound:
    """Return sound `[C, length]`: cut, or followed by silence."""
    audio = audio[:, :length]
    return np.pad(audio, ((0, 0), (0, length - audio.shape[1])))


def clean(audio: Sound) -> Sound:
    """Return sound as finite float32 `[C, S]` in -1…1, C of 1 or 2.

    Raises `MediaError` for any other shape.
    """
    if audio.ndim != 2 or audio.shape[0] not in (1, 2):
        raise MediaError(
            f"The sound has the shape {list(audio.shape)}. Give one or two channels, [C, S]."
        )
    finite = np.nan_to_num(audio.astype(np.float32), nan=0.0, posinf=1.0, neginf=-1.0)
    return np.clip(finite, -1.0, 1.0)


def write_wav(
    path: Path,
    audio: Sound,
    sample_rate: int,
    metadata: Mapping[str, str] | None = None,
    xmp: bytes = b"",
) -> None:
    """Write sound float32 `[C, S]` as a 16 bit wav file, whole or not at all.

    Of `metadata`, comment, description, title and copyright are kept; `xmp` is an XMP packet.
    Raises as `files.replacing` does.
    """
    sound = clean(audio)
    pcm = (sound.T * 32767).round().astype("<i2").tobytes()
    step = 2 * len(sound)
    form = struct.pack("<HHIIHH", 1, len(sound), sample_rate, sample_rate * step, step, 16)
    tags = b"".join(
        _chunk(_INFO_TAGS[key], value.encode() + b"\0")
        for key, value in (metadata or {}).items()
        if key in _INFO_TAGS
    )
    body = b"WAVE" + _chunk("fmt ", form) + _chunk("data", pcm)
    body += _chunk("LIST", b"INFO" + tags) if tags else b""
    body += _chunk("_PMX", xmp) if xmp else b""
    if len(body) >= 2**32:
        raise MediaError("The sound is too long for a wav file. Save it in parts.")
    write_bytes(path, _chunk("RIFF", body))


def _chunk(name: str, data: bytes) -> bytes:
    return name.encode() + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)


def _arrays(frames: Iterable[av.AudioFrame]) -> list[Sound]:
    return [frame.to_ndarray().astype(np.float32, copy=False) for frame in frames]
