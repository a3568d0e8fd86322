"""One camera's source: connections, one after the other, each read by a thread of its own."""

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
"""How long a healthy reader is waited for on closing: time for it to close its camera."""

MAX_STUCK = 4
"""With so many threads of one camera hanging in the video library, no further one is started."""

Reader = Callable[[Handover, PtsClock], None]
"""Reads one connection on the calling thread until the source ends or `handover.stopping`; blocks.

Raises CameraUnavailable or CameraRefused, with texts that carry no secret. Closes all that it has opened.
"""


class CameraSource:
    """What a pipeline reads frames from; it lives across reconnects. Use it from one event loop.

    `counters` says how it goes.
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
    ) -> None:
        """`release`: lets go of what `reader` holds between connections, which also cannot hang then."""
        self.camera = spec.camera
        self._live = live
        self._late = False
        self._feedback = feedback or DetectorFeedback()
        self._record = record
        self.counters = CaptureCounters()
        self._spec = spec
        self._reader = reader
        self._release = release
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

        A file at full speed is not live. A camera is not for as long as frames come in a burst, all of them
        captured earlier (`decode: auto` was woken, or a server sends the last seconds at once).
        """
        return self._live and not self._late

    def judged(self, monotonic: float, detection: Detection) -> None:
        """Hear what a detector made of the frame of time `monotonic`; `decode: auto` goes by it.

        Without it, `auto` judges by its own, more sensitive evidence alone, and idles less.
        """
        self._feedback.tell(monotonic, detection)

    @property
    def stuck(self) -> int:
        """How many threads of this camera hang in a library call that has not come back."""
        self._hanging = [thread for thread in self._hanging if thread.is_alive()]
        return len(self._hanging)

    async def frames(self) -> AsyncGenerator[Frame, None]:
        """Open the source and yield its frames until it ends.

        One call is one connection. Ends when a file has ended. Raises CameraUnavailable when the source
        cannot be opened, stalls or breaks off, CameraRefused when a person must act.
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
            # A thread that hangs is not waited for. A process that hangs is killed, and its reader returns.
            overdue = not await handover.finished(0 if self._release is None else CLOSE_GRACE_S)
            raise
        finally:
            handover.stop()
            if self._handover is handover:
                self._handover = None
            # Left behind until it has returned: this wait may be cancelled too.
            self._left.append(thread)
            if not overdue and await handover.finished(CLOSE_GRACE_S):
                self._left.remove(thread)

    async def aclose(self) -> None:
        """Stop reading. Returns within twice `CLOSE_GRACE_S`, whatever the video library does."""
        self._closed = True
        if self._record is not None:
            self._record.stop()
        if (handover := self._handover) is not None:
            handover.stop()
            await handover.finished(CLOSE_GRACE_S)
        if self._release is not None:
            await self._release()

    def _recorded(self, frame: Frame, record: StillSource) -> Frame:
        """Return the frame with the colours of the full-resolution stream; look after that stream."""
        if record.start():
            self.counters.abandoned += 1
        return replace(frame, bgr=MainStreamImage(record, frame.monotonic, frame.bgr), preview=frame.bgr)

    def _count_hanging(self) -> None:
        """Count the threads that did not come back; raise CameraUnavailable when they are too many."""
        hanging = [thread for thread in self._left if thread.is_alive()]
        self._left.clear()
        self._hanging.extend(hanging)
        if hanging:
            self.counters.abandoned += len(hanging)
            log.warning("%s: the last connection hangs in the video library and is left behind", self.camera)
        if (stuck := self.stuck) >= MAX_STUCK:
            raise CameraUnavailable(f"{stuck} connections hang in the video library; waiting for one to end")

    def _read(self, handover: Handover, clock: PtsClock) -> None:
        error: BaseException | None = None
        try:
            self._reader(handover, clock)
        except BaseException as exc:  # noqa: BLE001  # a thread's end: the loop raises what it met
            error = exc
        handover.reader_ended(error)
