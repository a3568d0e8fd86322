"""The full-resolution stream beside the watched one: received, and decoded only for pictures that are kept.

A thread of its own receives packets into a ring; it reconnects by itself, and while it is away pictures come
from the stream that is watched. `image_at` decodes from the ring's keyframe up to the wanted time; asked
for the next still of the same group it goes on from where it was. Both streams are tied to our monotonic
clock by the smallest delay seen, so they match to within the difference of those delays, in practice a
picture or two.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from async_motion.capture.address import Address
from async_motion.capture.clock import Floor, PtsClock
from async_motion.capture.ffmpeg.decoding import Decoder, decoder_of, time_base
from async_motion.capture.ffmpeg.frames import to_bgr
from async_motion.capture.ffmpeg.streams import arrivals, open_stream
from async_motion.capture.selective.gop_buffer import BufferedPacket, Gop, GopBuffer
from async_motion.capture.spec import CaptureSpec
from async_motion.core.model import Image
from async_motion.errors import CameraRefused, CameraUnavailable

log = logging.getLogger(__name__)

WAIT_S = 1.0
"""How long a kept picture waits for its packets: the larger stream often comes a little later."""

NEAR_S = 0.5
"""A picture that is further away in time than this is not the one that was asked for."""

RETRY_S = (1.0, 2.0, 5.0, 10.0, 30.0)
MAX_LEFT = 3
IDLE_S = 30.0
"""A decoder that nobody has asked for so long gives its memory back."""


@dataclass(slots=True)
class _Cursor:
    """A decoder in the middle of a group."""

    decoder: Decoder
    group: Gop
    fed: int = 0
    latest: tuple[float, VideoFrame] | None = None


class MainStream:
    """Keeps one stream's packets, and finds pictures in them by time."""

    def __init__(self, address: Address, spec: CaptureSpec) -> None:
        self._address = address
        self._spec = spec
        self._arrived = threading.Condition()
        """Guards the ring, the clock and the thread's state."""
        self._ring = GopBuffer(max_bytes=spec.ring_bytes, max_seconds=spec.ring_seconds)
        self._clock: PtsClock | None = None
        self._stream: VideoStream | None = None
        self._thread: threading.Thread | None = None
        self._left: list[threading.Thread] = []
        self._stop = threading.Event()
        self._deadline = 0.0
        self._said: str | None = None
        self._decoding = threading.Lock()
        """Guards the cursor: one picture at a time."""
        self._cursor: _Cursor | None = None
        self._used = 0.0

    @property
    def nbytes(self) -> int:
        """What the kept packets take."""
        return self._ring.nbytes

    def start(self) -> bool:
        """Begin to receive, unless it already does.

        Return whether this replaced a thread that hangs in the video library. At most `MAX_LEFT` are left
        behind.
        """
        with self._arrived:
            thread = self._thread
            if thread is not None and thread.is_alive():
                self._left = [one for one in self._left if one.is_alive()]
                if self._spec.monotonic() < self._deadline or len(self._left) >= MAX_LEFT:
                    return False
                self._left.append(thread)
            self._stop.set()
            self._stop = threading.Event()
            self._expect(self._spec.open_timeout_s * 2)
            name = f"record[{self._spec.camera}]"
            self._thread = threading.Thread(target=self._run, args=(self._stop,), name=name, daemon=True)
            self._thread.start()
            return bool(self._left) and self._left[-1] is thread

    def stop(self) -> None:
        """Tell the thread to end, and let the packets go; does not wait."""
        with self._arrived:
            self._stop.set()
            self._thread = None
            self._ring.clear()
            self._arrived.notify_all()

    def image_at(self, monotonic: float) -> Image | None:
        """Return the picture filmed at `monotonic`, None where there is none. Blocks, decodes.

        Raises CameraUnavailable when there is no memory for it.
        """
        with self._decoding:
            self._used = self._spec.monotonic()
            found = self._locate(monotonic)
            if found is None:
                return None
            pts, group, packets, stream = found
            try:
                frame = self._seek(pts, group, packets, stream)
                return None if frame is None else to_bgr(frame)
            except CameraRefused as exc:
                self._say(str(exc), self._stop)
                return None

    def _locate(self, monotonic: float) -> tuple[float, Gop, list[BufferedPacket], VideoStream] | None:
        """Return (PTS, its group, the group's packets so far, the stream); waits a little for them."""
        with self._arrived:
            self._arrived.wait_for(
                lambda: (
                    self._stop.is_set() or self._clock is None or self._ring.newest >= self._pts(monotonic)
                ),
                WAIT_S,
            )
            if self._clock is None or self._stream is None:
                return None
            pts = self._pts(monotonic)
            group = self._ring.group_of(pts)
            return None if group is None else (pts, group, list(group.packets), self._stream)

    def _pts(self, monotonic: float) -> float:
        return monotonic - self._clock.due(0.0) if self._clock is not None else float("-inf")

    def _seek(
        self, pts: float, group: Gop, packets: list[BufferedPacket], stream: VideoStream
    ) -> VideoFrame | None:
        """Return the picture of `group` that is nearest to `pts`."""
        cursor = self._cursor
        if cursor is None or cursor.group is not group or (cursor.latest and cursor.latest[0] > pts):
            cursor = self._cursor = _Cursor(
                Decoder(decoder_of(stream, self._spec), time_base(stream), _ignore), group
            )
        best = cursor.latest
        for kept in packets[cursor.fed :]:
            if best is not None and best[0] >= pts:
                break
            cursor.fed += 1
            for own, frame in cursor.decoder.decode(kept.packet):
                cursor.latest = (kept.pts if own is None else own, frame)
                if best is None or abs(cursor.latest[0] - pts) <= abs(best[0] - pts):
                    best = cursor.latest
        return best[1] if best is not None and abs(best[0] - pts) <= NEAR_S else None

    # The thread.

    def _run(self, stop: threading.Event) -> None:
        failures = 0
        while not stop.is_set():
            try:
                self._receive(stop)
            except CameraUnavailable as exc:
                if stop.is_set():
                    return
                self._say(str(exc), stop)
            failures = 0 if self._said is None else failures + 1
            pause = RETRY_S[min(failures, len(RETRY_S) - 1)]
            self._expect(pause + self._spec.open_timeout_s * 2)
            stop.wait(pause)

    def _receive(self, stop: threading.Event) -> None:
        spec = self._spec
        container, stream = open_stream(self._address, spec)
        try:
            clock = PtsClock(monotonic=spec.monotonic, wall=spec.wall, floor=Floor())
            for packet, pts in arrivals(container, stream, self._address, spec):
                if stop.is_set():
                    return
                with self._arrived:
                    if self._clock is not clock:
                        self._ring.clear()
                        self._clock, self._stream = clock, stream
                    if clock.arrived(pts):
                        self._expect(spec.stall_timeout_s)
                    if packet.size:
                        self._ring.add(pts, packet)
                    self._arrived.notify_all()
                self._say(None, stop)
                self._rest()
        finally:
            with self._arrived:
                if not stop.is_set():
                    self._clock = self._stream = None
                    self._ring.clear()
                    self._arrived.notify_all()
            container.close()
        raise CameraUnavailable(f"{self._address.shown}: closed the stream")

    def _expect(self, within_s: float) -> None:
        # A thread that is past this hangs in the library, whose own time-outs are shorter.
        self._deadline = self._spec.monotonic() + within_s + self._spec.stall_timeout_s

    def _rest(self) -> None:
        """Give the decoder's memory back when nobody has asked for a picture for long."""
        if self._cursor is None or self._spec.monotonic() - self._used < IDLE_S:
            return
        if self._decoding.acquire(blocking=False):
            self._cursor = None
            self._decoding.release()

    def _say(self, problem: str | None, stop: threading.Event) -> None:
        """Log a change of the stream's state, once."""
        if stop.is_set() or (problem is None) == (self._said is None):
            return
        self._said = problem
        camera, shown = self._spec.camera, self._address.shown
        if problem is None:
            log.info("%s: %s is back: stills have its resolution again", camera, shown)
        else:
            log.warning("%s: %s: stills come from the watched stream until it is back", camera, problem)


class StillSource(Protocol):
    """A full-resolution stream, here or in the process that reads the camera."""

    @property
    def nbytes(self) -> int:
        """What the kept packets take here."""

    def start(self) -> bool:
        """Begin to receive, unless it already does; say whether this replaced a thread that hangs."""

    def stop(self) -> None:
        """Let the packets go; does not wait."""

    def image_at(self, monotonic: float) -> Image | None:
        """Return the picture filmed at `monotonic`, None where there is none. Blocks."""


class MainStreamImage:
    """The `bgr` of a watched frame: the full-resolution picture of its time, or the frame's own colours."""

    __slots__ = ("_monotonic", "_own", "_record")

    def __init__(self, record: StillSource, monotonic: float, own: Callable[[], Image]) -> None:
        self._record = record
        self._monotonic = monotonic
        self._own = own

    def __call__(self) -> Image:
        try:
            picture = self._record.image_at(self._monotonic)
        except CameraUnavailable as exc:  # no memory to decode a large picture
            log.warning("a still has the watched stream's resolution: %s", exc)
            picture = None
        return self._own() if picture is None else picture


def _ignore() -> None:
    """Leave out a damaged frame of the ring: it is not the watched stream's, whose frame stands in."""
