"""Images of the main stream while its connection ends. `integration/test_capture_record.py` has the rest."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from types import SimpleNamespace

import pytest

from async_motion.capture import main_stream
from async_motion.capture.address import parse
from async_motion.capture.clock import PtsClock
from async_motion.capture.ffmpeg.decoding import VideoPacket, pts_of
from async_motion.capture.ffmpeg.streams import Arrival, OpenStream, open_stream
from async_motion.capture.main_stream import MainStream
from async_motion.capture.spec import CaptureSpec
from tests.support.video import scene, write_clip


class Patient:
    stopping = False

    def reader_wait(self, _seconds: float) -> bool:
        return True


class JustClosed:
    """A stream whose packets have come, and of which FFmpeg has freed all but what a decoder copies."""

    timeless = False

    def __init__(self, source: OpenStream, packets: list[VideoPacket]) -> None:
        self.stream = SimpleNamespace(codec_context=source.stream.codec_context)
        self.display, self.time_base = source.display, source.time_base
        self.packets = packets
        self.newest = 0.0
        self.arrived, self.over = threading.Event(), threading.Event()

    def arrivals(
        self, clock: PtsClock, _arrived: Callable[[], None], *, lock: AbstractContextManager[object]
    ) -> Iterator[Arrival]:
        for packet in self.packets:
            with lock:
                clock.arrived(pts_of(packet) or 0.0)
                self.newest = clock.time_of(pts_of(packet) or 0.0)
            yield Arrival(packet, self.newest, late=True)
        self.arrived.set()
        self.over.wait()

    def close(self) -> None: ...


def test_an_image_is_decoded_though_the_stream_has_just_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading the stream's own time base would be a use after free."""
    clip = write_clip(tmp_path / "clip.mp4", scene(seconds=1, fps=10, size=(64, 48)), gop=10)
    spec = CaptureSpec(camera="porch", source=str(clip))
    source = open_stream(parse(str(clip)), spec, Patient())
    closed = JustClosed(source, list(source.packets()))
    source.close()
    monkeypatch.setattr(main_stream, "open_stream", lambda *_: closed)
    main = MainStream(parse("rtsp://192.0.2.1/main"), spec)
    main.start()
    try:
        assert closed.arrived.wait(30)
        image = main.image_at(closed.newest)
        assert image is not None
        assert image.shape == (48, 64, 3)
    finally:
        main.stop()
        closed.over.set()
