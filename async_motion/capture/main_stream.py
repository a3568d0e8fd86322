"""The main stream beside the watched sub-stream: received, and decoded only for stills.

A separate thread buffers packets and reconnects by itself. While the main stream is down, stills come from
the watched stream. `image_at` decodes from the buffered keyframe up to the requested time; for the next still
of the same GOP it continues from there. Both streams are tied to our monotonic clock by the smallest delay
seen, so they match to within the difference of those delays, in practice a frame or two.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from av.video.frame import VideoFrame

from async_motion.capture.address import Address
from async_motion.capture.clock import Floor, PtsClock
from async_motion.capture.display import Display
from async_motion.capture.ffmpeg.decoding import Decoder, decoder_of
from async_motion.capture.ffmpeg.frames import DecodedImage
from async_motion.capture.ffmpeg.streams import OpenStream, open_stream
from async_motion.capture.http.connection import Stopped
from async_motion.capture.selective.gop_buffer import BufferedPacket, Gop, GopBuffer
from async_motion.capture.spec import CaptureSpec
from async_motion.core.model import Image
from async_motion.errors import CameraRefused, CameraUnavailable

log = logging.getLogger(__name__)

WAIT_S = 1.0
"""How long a still waits for its packets: the main stream often comes a little later."""

NEAR_S = 0.5
"""The maximum distance in time between a requested frame and the one returned."""

RETRY_S = (1.0, 2.0, 5.0, 10.0, 30.0)
MAX_LEFT = 3
IDLE_S = 30.0
"""A decoder that was not used for this long is released."""


class _Found(NamedTuple):
    """A frame of the main stream, the monotonic time of its capture, and its display parameters."""

    at: float
    frame: VideoFrame
    display: Display


@dataclass(slots=True)
class _Cursor:
    """A decoder in the middle of a GOP."""

    decoder: Decoder
    gop: Gop
    fed: int = 0
    latest: _Found | None = None


class _StopWaiting:
    """Lets the receiving thread wait until its event is set."""

    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop

    @property
    def stopping(self) -> bool:
        """Whether the thread must end."""
        return self._stop.is_set()

    def reader_wait(self, seconds: float) -> bool:
        """Wait; return whether to go on."""
        return not self._stop.wait(max(0.0, seconds))


class MainStream:
    """Buffers one stream's packets, and finds frames in them by time."""

    def __init__(self, address: Address, spec: CaptureSpec) -> None:
        self._address = address
        self._spec = spec
        self._arrived = threading.Condition()
        """Guards the buffer, the clock and the thread's state."""
        self._buffer = GopBuffer(max_bytes=spec.ring_bytes, max_seconds=spec.ring_seconds)
        self._clock: PtsClock | None = None
        self._source: OpenStream | None = None
        self._thread: threading.Thread | None = None
        self._left: list[threading.Thread] = []
        self._stop = threading.Event()
        self._deadline = 0.0
        self._said: str | None = None
        self._decoding = threading.Lock()
        """Guards the cursor: one image at a time."""
        self._cursor: _Cursor | None = None
        self._used = 0.0

    @property
    def nbytes(self) -> int:
        """The memory of the buffered packets, in bytes."""
        return self._buffer.nbytes

    def start(self) -> bool:
        """Start to receive, unless already receiving.

        Return whether this replaced a thread that hangs in the video library. At most `MAX_LEFT` such threads
        are abandoned.
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
            name = f"main_stream[{self._spec.camera}]"
            self._thread = threading.Thread(target=self._run, args=(self._stop,), name=name, daemon=True)
            self._thread.start()
            return bool(self._left) and self._left[-1] is thread

    def stop(self) -> None:
        """Tell the thread to end, and drop the packets; does not wait."""
        with self._arrived:
            self._stop.set()
            self._thread = None
            self._buffer.clear()
            self._arrived.notify_all()

    def image_at(self, monotonic: float) -> Image | None:
        """Return the (H, W, 3) BGR image captured at `monotonic`, None if there is none. Blocks, decodes.

        Raises CameraUnavailable when memory runs out.
        """
        with self._decoding:
            self._used = self._spec.monotonic()
            located = self._locate(monotonic)
            if located is None:
                return None
            try:
                found = self._seek(monotonic, *located)
                if found is None:
                    return None
                return DecodedImage(found.frame, found.display, self._spec.max_pixels)()
            except CameraRefused as exc:
                self._say(str(exc), self._stop)
                return None

    def _locate(self, at: float) -> tuple[Gop, list[BufferedPacket], OpenStream, PtsClock] | None:
        """Return the GOP of this time, its packets so far, and their stream; wait up to `WAIT_S` for them."""
        with self._arrived:
            self._arrived.wait_for(
                lambda: self._stop.is_set() or self._clock is None or self._buffer.newest >= at, WAIT_S
            )
            if self._clock is None or self._source is None:
                return None
            gop = self._buffer.gop_of(at)
            return None if gop is None else (gop, list(gop.packets), self._source, self._clock)

    def _seek(
        self, at: float, gop: Gop, packets: list[BufferedPacket], source: OpenStream, clock: PtsClock
    ) -> _Found | None:
        """Return the frame of `gop` that is nearest to `at`, None if it is further away than `NEAR_S`."""
        cursor = self._cursor
        if cursor is None or cursor.gop is not gop or (cursor.latest and cursor.latest.at > at):
            decoder = Decoder(
                decoder_of(source.stream, self._spec),
                source.time_base,
                _ignore,
                container=source.display,
            )
            cursor = self._cursor = _Cursor(decoder, gop)
        best = cursor.latest
        for buffered in packets[cursor.fed :]:
            if best is not None and best.at >= at:
                break
            cursor.fed += 1
            for own, frame in cursor.decoder.decode(buffered.packet):
                captured = buffered.at if own is None or source.timeless else self._time_of(clock, own)
                cursor.latest = _Found(captured, frame, cursor.decoder.display_of(frame))
                if best is None or abs(captured - at) <= abs(best.at - at):
                    best = cursor.latest
        return best if best is not None and abs(best.at - at) <= NEAR_S else None

    def _time_of(self, clock: PtsClock, pts: float) -> float:
        with self._arrived:
            return clock.time_of(pts)

    # The thread.

    def _run(self, stop: threading.Event) -> None:
        failures = 0
        while not stop.is_set():
            try:
                self._receive(stop)
            except Stopped:
                return
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
        source = open_stream(self._address, spec, _StopWaiting(stop))
        try:
            clock = PtsClock(monotonic=spec.monotonic, wall=spec.wall, floor=Floor())
            with self._arrived:
                if stop.is_set():
                    return
                self._buffer.clear()
                self._clock, self._source = clock, source
            for packet, at, _ in source.arrivals(
                clock, lambda: self._expect(spec.stall_timeout_s), lock=self._arrived
            ):
                if stop.is_set():
                    return
                with self._arrived:
                    self._buffer.add(at, packet)
                    self._arrived.notify_all()
                self._say(None, stop)
                self._rest()
        finally:
            with self._arrived:
                if not stop.is_set():
                    self._clock = self._source = None
                    self._buffer.clear()
                    self._arrived.notify_all()
            source.close()
        raise CameraUnavailable(f"{self._address.shown}: closed the stream")

    def _expect(self, within_s: float) -> None:
        # Past this deadline the thread hangs in the library, whose own time-outs are shorter.
        self._deadline = self._spec.monotonic() + within_s + self._spec.stall_timeout_s

    def _rest(self) -> None:
        """Release the decoder when no still was requested for `IDLE_S`."""
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
    """A main stream, in this process or in the capture process."""

    @property
    def nbytes(self) -> int:
        """The memory of its packets in this process, in bytes."""

    def start(self) -> bool:
        """Start to receive, unless already receiving; return whether this replaced a thread that hangs."""

    def stop(self) -> None:
        """Drop the packets; does not wait."""

    def image_at(self, monotonic: float) -> Image | None:
        """Return the (H, W, 3) BGR image captured at `monotonic`, None if there is none. Blocks."""


class MainStreamImage:
    """The `bgr` of a watched frame: the main stream's image of its time, or the frame's own."""

    __slots__ = ("_main_stream", "_monotonic", "_own")

    def __init__(self, main_stream: StillSource, monotonic: float, own: Callable[[], Image]) -> None:
        self._main_stream = main_stream
        self._monotonic = monotonic
        self._own = own

    def __call__(self) -> Image:
        try:
            image = self._main_stream.image_at(self._monotonic)
        except CameraUnavailable as exc:  # no memory to decode a large frame
            log.warning("a still has the watched stream's resolution: %s", exc)
            image = None
        return self._own() if image is None else image


def _ignore() -> None:
    """Ignore a damaged frame of the main stream: the watched frame's image replaces it."""
