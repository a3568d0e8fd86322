"""A folder of still images, read in the order of their names at `fps` images a second.

With `loop` the folder is listed again for each pass, so added images appear in the next one; it is not
watched. An image that cannot be decoded is skipped, counted and named in the log.
"""

from __future__ import annotations

import logging
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import NamedTuple, cast

import av
from av.codec import CodecContext
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame

from async_motion.capture.clock import PtsClock
from async_motion.capture.display import Display
from async_motion.capture.ffmpeg.decoding import Decoder, VideoPacket, prepare
from async_motion.capture.ffmpeg.frames import frame_of
from async_motion.capture.handover import FrameSink
from async_motion.capture.http.jpeg_scanner import JpegScanner
from async_motion.capture.spec import CaptureSpec
from async_motion.errors import CameraRefused, CameraUnavailable

log = logging.getLogger(__name__)

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp"})
MAGIC = ((b"\xff\xd8\xff", "mjpeg"), (b"\x89PNG", "png"), (b"BM", "bmp"), (b"RIFF", "webp"))
MAX_BYTES = 128 * 1024 * 1024
DEFAULT_FPS = 25.0
"""The rate for `fps: inf`: a folder has no rate of its own."""

TIME_BASE = Fraction(1, 1000)
"""A decoder needs a time base, although a still has no PTS."""


class _Still(NamedTuple):
    """A decoded image and its display parameters."""

    frame: VideoFrame
    display: Display


class StillsReader:
    """Reads a folder's images, in a loop if `spec.loop`."""

    def __init__(self, folder: Path, spec: CaptureSpec) -> None:
        self._folder = folder
        self._spec = spec

    def __call__(self, sink: FrameSink, clock: PtsClock) -> None:
        """Read until the folder's end or `sink.stopping`. Raises CameraRefused."""
        spec = self._spec
        step = 1.0 / (spec.fps if spec.fps != float("inf") else DEFAULT_FPS)
        played = 0.0
        shown = 0
        while True:
            paths = self._list()
            if not shown:
                sink.reader_opened()
                clock.anchor(0.0)
            shown = 0
            for path in paths:
                if sink.stopping:
                    return
                decoded = self._decode(path, sink)
                sink.reader_progress()
                if decoded is None:
                    continue
                if not sink.lossless:
                    ahead = clock.due(played) - spec.monotonic()
                    if ahead < -1.0:
                        clock.anchor(played)
                    elif ahead > 0 and not sink.reader_wait(ahead):
                        return
                shown += 1
                frame = frame_of(
                    spec.camera,
                    clock.stamp(clock.due(played)),
                    decoded.frame,
                    max_pixels=spec.max_pixels,
                    display=decoded.display,
                )
                offered = sink.reader_offer(frame)
                played += step
                if not offered:
                    return
            if not shown:
                raise CameraRefused(f"{self._folder}: holds no image that can be read")
            if not spec.loop:
                return

    def _list(self) -> list[Path]:
        try:
            return sorted(path for path in self._folder.iterdir() if path.suffix.lower() in SUFFIXES)
        except OSError as exc:
            raise CameraRefused(f"{self._folder}: {exc.strerror}") from exc

    def _decode(self, path: Path, sink: FrameSink) -> _Still | None:
        """Return the image in `path`; None, with a warning, if it cannot be decoded."""
        try:
            if not path.is_file():  # opening a pipe would wait for its writer
                raise ValueError("not a file")
            if path.stat().st_size > MAX_BYTES:
                raise ValueError("too large")
            data = path.read_bytes()
            codec = next((name for magic, name in MAGIC if data.startswith(magic)), None)
            if codec is None:
                raise ValueError("neither JPEG, PNG, BMP nor WebP")
            if codec == "mjpeg" and next(JpegScanner(MAX_BYTES).feed(data), None) is None:
                raise ValueError("damaged")
            context = CodecContext.create(codec, "r")
            assert isinstance(context, VideoCodecContext)
            damaged: list[bool] = []
            decoder = Decoder(prepare(context, self._spec), TIME_BASE, lambda: damaged.append(True))
            packet = cast(VideoPacket, Packet(data))
            frames = [frame for _, frame in chain(decoder.decode(packet), decoder.decode(None))]
            if not frames or damaged:
                raise ValueError("damaged")
        except (OSError, ValueError, CameraUnavailable, av.FFmpegError) as exc:
            sink.reader_corrupt()
            reason = type(exc).__name__ if isinstance(exc, av.FFmpegError) else exc
            log.warning("%s: %s skipped: %s", self._spec.camera, path.name, reason)
            return None
        return _Still(frames[0], decoder.display_of(frames[0]))
