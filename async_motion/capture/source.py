"""One camera's source: successive connections, each read by its own thread."""

from __future__ import annotations

import logging
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import replace

from async_motion.capture.clock import Floor, PtsClock
from async_motion.capture.handover import CaptureCounters, Handover
from async_motion.capture.main_stream import MainStreamImage, StillSource
from async_motion.capture.selective.activity import DetectorFeedback
from async_motion.capture.spec import CaptureSpec
from async_motion.core.model import Detection, Frame
from async_motion.errors import CameraUnavailable

log = logging.getLogger(__name__)

CLOSE_GRACE_S = 1.0
"""How long to wait on closing for a healthy reader, so that it can close its camera."""

MAX_STUCK = 4
"""No further thread is started while this many of one camera's hang in the video library."""

Reader = Callable[[Handover, PtsClock], None]
"""Reads one connection on the calling thread until the source ends or `handover.stopping`; blocks.

Those of `capture.readers`, which say what a reader must provide, take any `FrameSink`.

Raises CameraUnavailable or CameraRefused, with texts that carry no secret. Closes all that it has opened.
"""


class CameraSource:
    """A pipeline's source of frames; it lives across reconnects. Use it from one event loop.

    `counters` counts its frames and failures.
    """

    def __init__(
        self,
        spec: CaptureSpec,
        reader: Reader,
        *,
        live: bool,
        record: StillSource | None = None,
        feedback: DetectorFeedback | None = None,
        release: Callable[[], Awaitable[None]] | None = None,
        is_free: Callable[[], bool] | None = None,
    ) -> None:
        """`release` frees what `reader` holds between connections; with it, the reader must never hang.

        `is_free` cuts what `reader` holds besides sockets, and returns whether the camera is free. It is
        called from any thread, and must not wait.
        """
        self.camera = spec.camera
        self._live = live
        self._late = False
        self._feedback = feedback or DetectorFeedback()
        self._record = record
        self.counters = CaptureCounters()
        self._spec = spec
        self._reader = reader
        self._release = release
        self._is_free = is_free
        self._floor = Floor()
        self._handover: Handover | None = None
        self._left: list[threading.Thread] = []
        self._hanging: list[threading.Thread] = []
        self._kind: tuple[object, ...] | None = None
        """Shape and codec of the last frame."""
        self._closed = False

    @property
    def live(self) -> bool:
        """Whether the newest frame wins. False: every frame counts and the reader waits for its consumer.

        A file at full speed is not live. A camera is not live while frames arrive in a burst, later than they
        were captured (`decode: auto` was woken, or a server sends the last seconds at once).
        """
        return self._live and not self._late

    def judged(self, monotonic: float, detection: Detection) -> None:
        """Report a detector's verdict on the frame captured at `monotonic`, for `decode: auto`.

        Without reports, `auto` uses only its own, more sensitive evidence, and idles less.
        """
        self._feedback.tell(monotonic, detection)

    @property
    def stuck(self) -> int:
        """The number of this camera's threads that hang in a library call."""
        self._hanging = [thread for thread in self._hanging if thread.is_alive()]
        return len(self._hanging)

    async def frames(self) -> AsyncGenerator[Frame, None]:
        """Open the source and yield its frames until it ends.

        One call is one connection. Ends when a file has ended. Raises CameraUnavailable when the source
        cannot be opened, stalls or breaks off, CameraRefused when an operator must act.
        """
        if self._closed:
            raise RuntimeError(f"{self.camera}: this source is closed")
        if self._handover is not None:  # an iterator that its consumer did not close
            self._handover.stop()
        self._count_hanging()
        spec = self._spec
        handover = self._handover = Handover(
            counters=self.counters,
            lossless=not self._live,
            open_timeout_s=spec.open_timeout_s,
            stall_timeout_s=spec.stall_timeout_s,
            monotonic=spec.monotonic,
        )
        clock = PtsClock(monotonic=spec.monotonic, wall=spec.wall, floor=replace(self._floor))
        thread = threading.Thread(
            target=self._read, args=(handover, clock), name=f"capture[{self.camera}]", daemon=True
        )
        overdue = False
        record = self._record
        if record is not None:
            record.start()
        try:
            thread.start()
            while (frame := await handover.get()) is not None:
                self._late = handover.late
                self._floor = Floor(frame.monotonic, frame.captured_at.timestamp())
                kind = (frame.luma.shape, frame.codec)
                self.counters.changed += self._kind not in (None, kind)
                self._kind = kind
                yield frame if record is None else self._recorded(frame, record)
        except CameraUnavailable:
            # Do not wait for a thread that hangs. A process that hangs is killed, and its reader returns.
            overdue = not await handover.finished(0 if self._release is None else CLOSE_GRACE_S)
            raise
        finally:
            handover.stop()
            if self._handover is handover:
                self._handover = None
            # Remember the thread until it has returned: this wait may be cancelled too.
            self._left.append(thread)
            if not overdue and await handover.finished(CLOSE_GRACE_S):
                self._left.remove(thread)

    def cut(self) -> bool:
        """End the connections to the camera at once and for good; return whether the camera is free.

        From any thread; never waits. A reader that hangs is left to itself. Call it again where False.
        """
        self._spec.sockets.cut()
        return self._is_free is None or self._is_free()

    async def aclose(self) -> None:
        """Stop reading. Returns within twice `CLOSE_GRACE_S`, even if the video library hangs."""
        self._closed = True
        if self._record is not None:
            self._record.stop()
        if (handover := self._handover) is not None:
            handover.stop()
            await handover.finished(CLOSE_GRACE_S)
        self.cut()
        if self._release is not None:
            await self._release()

    def _recorded(self, frame: Frame, record: StillSource) -> Frame:
        """Return the frame with the main stream's image as its `bgr`; restart that stream if it hangs."""
        if record.start():
            self.counters.abandoned += 1
        return replace(frame, bgr=MainStreamImage(record, frame.monotonic, frame.bgr), preview=frame.bgr)

    def _count_hanging(self) -> None:
        """Count the threads that have not returned. Raises CameraUnavailable when there are too many."""
        hanging = [thread for thread in self._left if thread.is_alive()]
        self._left.clear()
        self._hanging.extend(hanging)
        if hanging:
            self.counters.abandoned += len(hanging)
            log.warning("%s: the last connection hangs in the video library and is abandoned", self.camera)
        if (stuck := self.stuck) >= MAX_STUCK:
            raise CameraUnavailable(f"{stuck} connections hang in the video library; waiting for one to end")

    def _read(self, handover: Handover, clock: PtsClock) -> None:
        error: BaseException | None = None
        try:
            self._reader(handover, clock)
        except BaseException as exc:  # noqa: BLE001  # a thread's end: the loop raises what it met
            error = exc
        handover.reader_ended(error)
