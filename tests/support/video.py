"""Small clips as cameras make them: a box moving over a textured background, encoded with PyAV."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import cv2
import numpy as np
from av.video.stream import VideoStream
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Place = tuple[int, int, int, int]
"""(left, top, width, height) in pixels."""

BOX = (40, 220, 240)
"""The box's colour: blue, green, red."""


def ground(width: int, height: int, *, seed: int = 7) -> Image:
    """Return a textured (height, width, 3) image that compresses about as well as a real scene."""
    draw = np.random.default_rng(seed)
    coarse = draw.integers(60, 190, (max(2, height // 16), max(2, width // 16), 3)).astype(np.float32)
    fine = draw.normal(0, 6, (height, width, 1))
    image = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC) + fine
    return np.clip(image, 0, 255).astype(np.uint8)


def scene(
    *,
    seconds: float,
    fps: int,
    size: tuple[int, int],
    box: Callable[[float], Place | None] = lambda _at: None,
    noise: float = 0.0,
    seed: int = 7,
) -> Iterator[Image]:
    """Yield the images of a scene; `box` returns the box's place at each time in seconds."""
    width, height = size
    back = ground(width, height, seed=seed)
    draw = np.random.default_rng(seed + 1)
    for number in range(round(seconds * fps)):
        image = back.copy()
        if (place := box(number / fps)) is not None:
            x, y, w, h = place
            cv2.rectangle(image, (x, y), (x + w, y + h), BOX, -1)
        if noise:
            grain = draw.normal(0, noise, (height, width, 1))
            image = np.clip(image + grain, 0, 255).astype(np.uint8)
        yield image


def crossing(
    size: tuple[int, int], *, start_s: float, length_s: float, share: float = 0.2
) -> Callable[[float], Place | None]:
    """Return a box that crosses the image from left to right, from `start_s` for `length_s`."""
    width, height = size
    side = int(height * share)

    def place(at_s: float) -> Place | None:
        along = (at_s - start_s) / length_s
        if not 0 <= along < 1:
            return None
        return (int(along * (width - side)), (height - side) // 2, side, side)

    return place


def write_clip(
    path: Path,
    images: Iterable[Image],
    *,
    fps: int = 10,
    gop: int = 20,
    codec: str = "libx264",
    pixels: str = "yuv420p",
    options: dict[str, str] | None = None,
    bit_rate: int | None = None,
    sar: tuple[int, int] | None = None,
) -> Path:
    """Encode `images` as `path`, as a camera does: fixed GOP, no scene cuts, by default no B-frames."""
    settings = (
        {"preset": "ultrafast", "tune": "zerolatency", "sc_threshold": "0"} if codec == "libx264" else {}
    )
    settings.update(options or {})
    with av.open(str(path), "w") as container:
        stream: VideoStream | None = None
        for number, image in enumerate(images):
            if stream is None:
                stream = cast(VideoStream, container.add_stream(codec, rate=fps, options=settings))
                stream.width, stream.height, stream.pix_fmt = image.shape[1], image.shape[0], pixels
                stream.codec_context.gop_size = gop
                stream.codec_context.thread_count = 1
                if sar:
                    stream.codec_context.sample_aspect_ratio = Fraction(*sar)
                if bit_rate:
                    stream.codec_context.bit_rate = bit_rate
            frame = av.VideoFrame.from_ndarray(image, format="bgr24")
            frame.pts, frame.time_base = number, Fraction(1, fps)
            container.mux(stream.encode(frame))
        if stream is None:
            raise ValueError("a clip needs at least one picture")
        container.mux(stream.encode(None))
    return path


def make_clip(
    path: Path,
    *,
    seconds: float = 4.0,
    fps: int = 10,
    size: tuple[int, int] = (320, 240),
    gop: int = 20,
    start_s: float = 1.5,
    length_s: float = 1.5,
    noise: float = 0.0,
    options: dict[str, str] | None = None,
    bit_rate: int | None = None,
) -> Path:
    """Write the default clip: quiet, then a box crosses, then quiet."""
    box = crossing(size, start_s=start_s, length_s=length_s)
    images = scene(seconds=seconds, fps=fps, size=size, box=box, noise=noise)
    return write_clip(path, images, fps=fps, gop=gop, options=options, bit_rate=bit_rate)


def remuxed(
    clip: Path,
    path: Path,
    change: Callable[[Any], None] = lambda _stream: None,
    *,
    pts: Callable[[float], float] = lambda at: at,
) -> Path:
    """Copy a clip's packets; `change` edits the new stream, `pts` maps each PTS in seconds."""
    with av.open(str(clip)) as source, av.open(str(path), "w") as target:
        stream = source.streams.video[0]
        copy = target.add_stream_from_template(stream)
        change(copy)
        for packet in source.demux(stream):
            if packet.pts is None or packet.dts is None:
                continue
            at = float(packet.pts * packet.time_base)
            shift = round((pts(at) - at) / packet.time_base)
            packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
            packet.stream = copy
            target.mux(packet)
    return path
