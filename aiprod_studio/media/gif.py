"""Writing animated gifs with one good palette for the whole clip."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import IO

import av
import numpy as np
from av.codec.context import Flags as CodecFlags
from av.filter import Graph
from av.filter.context import FilterContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from aiprod_studio.errors import MediaError
from aiprod_studio.media.files import replacing
from aiprod_studio.media.images import Frame, check_frame

# Browsers slow down frames that are shorter than two hundredths of a second.
_FASTEST = 50


def write_gif(
    path: Path,
    frames: Iterable[Frame],
    fps: Fraction,
    finish: Callable[[Path], None] | None = None,
) -> int:
    """Write frames uint8 `[H, W, 3]` as an endless gif without sound; return the frames written.

    Above 50 fps frames are left out so that the speed stays right. The frames wait on the disk
    while the palette is found. Raises as `writer.write_video` does.
    """
    with replacing(path) as temporary, tempfile.TemporaryFile(dir=path.parent) as spool:
        shape, count = _spool(_at_most(frames, fps), spool)
        rate = min(fps, Fraction(_FASTEST))
        palette = _palette(_spooled(spool, shape), rate)
        _encode(temporary, _painted(_spooled(spool, shape), palette, rate), shape, rate)
        if finish is not None:
            finish(temporary)
    return count


def _at_most(frames: Iterable[Frame], fps: Fraction) -> Iterator[Frame]:
    """Yield all frames up to 50 fps, and an even choice of them above."""
    shown = -1
    for number, frame in enumerate(frames):
        slot = number if fps <= _FASTEST else int(number / fps * _FASTEST)
        if slot > shown:
            shown = slot
            yield frame


def _spool(frames: Iterable[Frame], spool: IO[bytes]) -> tuple[tuple[int, ...], int]:
    """Copy all frames to `spool`; return their shape and number."""
    shape: tuple[int, ...] = ()
    count = 0
    for frame in frames:
        check_frame(frame)
        if frame.shape != (shape := shape or frame.shape):
            raise MediaError(f"Frame {count} has another size. Resize all frames to one size.")
        spool.write(np.ascontiguousarray(frame).data)
        count += 1
    if not count:
        raise MediaError("There are no frames to write. Render at least one.")
    return shape, count


def _spooled(spool: IO[bytes], shape: tuple[int, ...]) -> Iterator[VideoFrame]:
    """Yield the frames of `spool` again, from its beginning."""
    spool.seek(0)
    size = int(np.prod(shape))
    while data := spool.read(size):
        yield VideoFrame.from_ndarray(np.frombuffer(data, np.uint8).reshape(shape), "rgb24")


def _palette(frames: Iterable[VideoFrame], fps: Fraction) -> VideoFrame:
    """Return the 256 colours that suit all frames, as FFmpeg's 16x16 picture."""
    graph: Graph | None = None
    for number, frame in enumerate(frames):
        frame.pts, frame.time_base = number, 1 / fps
        if graph is None:
            graph = Graph()
            makes = graph.add("palettegen", "reserve_transparent=0")
            graph.link_nodes(_source(graph, frame), makes, graph.add("buffersink")).configure()
        graph.push(frame)
    assert graph is not None
    graph.push(None)
    found = graph.pull()
    assert isinstance(found, VideoFrame)
    return found


def _painted(
    frames: Iterable[VideoFrame], palette: VideoFrame, fps: Fraction
) -> Iterator[VideoFrame]:
    """Yield the frames in the colours of `palette`, dithered only where something moves."""
    graph: Graph | None = None
    for number, frame in enumerate(frames):
        frame.pts, frame.time_base = number, 1 / fps
        if graph is None:
            graph = Graph()
            paints = graph.add("paletteuse", "dither=sierra2_4a:diff_mode=rectangle")
            _source(graph, frame).link_to(paints, 0, 0)
            palette.pts, palette.time_base = 0, 1 / fps
            _source(graph, palette).link_to(paints, 0, 1)
            paints.link_to(graph.add("buffersink"))
            graph.configure()
            graph.push(palette, at=1)
            graph.push(None, at=1)
        graph.push(frame, at=0)
        yield from _ready(graph)
    assert graph is not None
    graph.push(None, at=0)
    yield from _ready(graph)


def _source(graph: Graph, frame: VideoFrame) -> FilterContext:
    assert frame.time_base is not None
    return graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base
    )


def _ready(graph: Graph) -> Iterator[VideoFrame]:
    """Yield the frames that the graph has finished."""
    try:
        while True:
            frame = graph.pull()
            assert isinstance(frame, VideoFrame)
            yield frame
    except (av.BlockingIOError, av.EOFError):
        return


def _encode(
    path: Path, frames: Iterable[VideoFrame], shape: tuple[int, ...], fps: Fraction
) -> None:
    """Write frames in palette colours to `path`."""
    with av.open(f"file:{path}", "w", format="gif", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("gif", rate=fps)
        assert isinstance(stream, VideoStream)
        codec = stream.codec_context
        codec.height, codec.width, codec.pix_fmt = shape[0], shape[1], "pal8"
        codec.time_base = stream.time_base = 1 / fps
        codec.flags |= int(CodecFlags.bitexact)
        for number, frame in enumerate(frames):
            frame.pts, frame.time_base, frame.duration = number, 1 / fps, 1
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
