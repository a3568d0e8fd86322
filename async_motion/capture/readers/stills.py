"""A folder of still pictures, shown in the order of their names, `fps` of them a second.

The folder is listed again for each round: with `loop`, added images are seen in the next one. It is not
watched. A picture that cannot be read is skipped, counted and named in the log.
"""

from __future__ import annotations

import logging
from pathlib import Path

import av
from av.codec import CodecContext
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame

from async_motion.capture.clock import PtsClock
from async_motion.capture.ffmpeg.decoding import prepare
from async_motion.capture.ffmpeg.frames import frame_of
from async_motion.capture.handover import FrameSink
from async_motion.capture.spec import CaptureSpec
from async_motion.errors import CameraRefused

log = logging.getLogger(__name__)

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp"})
MAGIC = ((b"\xff\xd8\xff", "mjpeg"), (b"\x89PNG", "png"), (b"BM", "bmp"), (b"RIFF", "webp"))
MAX_BYTES = 128 * 1024 * 1024
DEFAULT_FPS = 25.0
"""The pace where every picture is wanted (`fps: inf`) and a folder has none of its own."""


class StillsReader:
    """Shows a folder's pictures, once or over and over."""

    def __init__(self, folder: Path, spec: CaptureSpec) -> None:
        self._folder = folder
        self._spec = spec

    def __call__(self, sink: FrameSink, clock: PtsClock) -> None:
        """Read until the folder's end or `sink.stopping`."""
        spec = self._spec
        step = 1.0 / (spec.fps if spec.fps != float("inf") else DEFAULT_FPS)
        pts = 0.0
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
                frame = self._decode(path, sink)
                sink.reader_progress()
                if frame is None:
                    continue
                if not sink.lossless:
                    ahead = clock.due(pts) - spec.monotonic()
                    if ahead < -1.0:
                        clock.anchor(pts)
                    elif ahead > 0 and not sink.reader_wait(ahead):
                        return
                shown += 1
                offered = sink.reader_offer(frame_of(spec.camera, clock.stamp(pts), frame))
                pts += step
                if not offered:
                    return
            if not shown:
                raise CameraRefused(f"{self._folder}: holds no picture that can be read")
            if not spec.loop:
                return

    def _list(self) -> list[Path]:
        try:
            return sorted(path for path in self._folder.iterdir() if path.suffix.lower() in SUFFIXES)
        except OSError as exc:
            raise CameraRefused(f"{self._folder}: {exc.strerror}") from exc

    def _decode(self, path: Path, sink: FrameSink) -> VideoFrame | None:
        """Return the picture in `path`, None when there is none that we would read."""
        try:
            if path.stat().st_size > MAX_BYTES:
                raise ValueError("too large")
            data = path.read_bytes()
            codec = next((name for magic, name in MAGIC if data.startswith(magic)), None)
            if codec is None:
                raise ValueError("neither JPEG, PNG, BMP nor WebP")
            context = CodecContext.create(codec, "r")
            assert isinstance(context, VideoCodecContext)
            prepare(context, self._spec)
            frames = [*context.decode(Packet(data)), *context.decode(None)]
            if not frames or frames[0].is_corrupt:
                raise ValueError("damaged")
        except (OSError, ValueError, av.FFmpegError) as exc:
            sink.reader_corrupt()
            reason = type(exc).__name__ if isinstance(exc, av.FFmpegError) else exc
            log.warning("%s: %s skipped: %s", self._spec.camera, path.name, reason)
            return None
        return frames[0]
