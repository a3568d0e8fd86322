"""The process that reads one camera for the service: `python -m async_motion.capture.worker.child NAME`.

    stdin, a socket   ─▶ settings (with two handles), then `read`, `stop`, `taken`, `judged`
                      ◀─ `ready`, then `opened`, `progress`, `waits`, `corrupt`, `abandoned`, `frame`, `log`
                         and, for each `read`, `ended`
    first handle      ─▶ the time of a kept frame  ◀─ its image from the main stream
    second handle     the lifeline: the kernel kills this process when the service has closed it

The readers are those of `isolation: thread`, run on the main thread; `ChildSink` replaces the `Handover`.
Other threads read the sockets.
"""

from __future__ import annotations

import fcntl
import gc
import json
import logging
import os
import queue
import resource
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from async_motion.capture import is_live, main_stream_of, reader_of
from async_motion.capture.clock import Floor, PtsClock
from async_motion.capture.handover import DEPTH
from async_motion.capture.main_stream import MainStream
from async_motion.capture.selective.activity import DetectorFeedback
from async_motion.capture.spec import CaptureSpec
from async_motion.capture.worker.parent import MAX_BYTES, OUT_OF_MEMORY, close
from async_motion.capture.worker.shm import Message, pack, share
from async_motion.core.model import Frame
from async_motion.errors import CameraRefused, CameraUnavailable

log = logging.getLogger("async_motion.capture.worker.child")

COLLECT_AT = (100, 5, 2)
"""Thresholds of the garbage collector. A closed container and its streams refer to each other, with 20 MiB of
decoder: by default, a file that is read again and again would fill `process_memory` with them."""

MAX_QUIET_S = 0.2
"""Shortest time between progress messages, each of which wakes the service. A stall may be reported this much
too soon."""

OOM_SCORE = 500
"""When the machine runs out of memory, the kernel should kill a decoder before the service."""


class ChildSink:
    """One connection's hand-over to the service, as the reader's sink."""

    def __init__(
        self, control: socket.socket, spec: CaptureSpec, record: MainStream | None, floor: Floor
    ) -> None:
        self.clock = PtsClock(monotonic=spec.monotonic, wall=spec.wall, floor=floor)
        self.lossless = not is_live(spec)
        self._control = control
        self._record = record
        self._quiet_s = min(MAX_QUIET_S, spec.stall_timeout_s / 10)
        self._said = float("-inf")
        self._stop = threading.Event()
        self._room = threading.Condition()
        self._untaken = 0

    @property
    def stopping(self) -> bool:
        """Whether the reader should close what it holds and return."""
        return self._stop.is_set()

    def reader_wait(self, seconds: float) -> bool:
        """Wait on purpose, without this counting as a stall. Return whether the reader should go on."""
        if seconds > self._quiet_s:
            tell(self._control, {"is": "waits", "seconds": seconds})
        return not self._stop.wait(max(0.0, seconds))

    def reader_opened(self) -> None:
        """Report that the source is open and as expected."""
        tell(self._control, {"is": "opened"})

    def reader_progress(self) -> None:
        """Report progress: the source has delivered something newer than before."""
        now = time.monotonic()
        if now - self._said >= self._quiet_s:
            self._said = now
            tell(self._control, {"is": "progress"})

    def reader_corrupt(self) -> None:
        """Count a frame or packet that was damaged and is dropped."""
        tell(self._control, {"is": "corrupt"})

    def reader_offer(self, frame: Frame, *, patient: bool = False) -> bool:
        """Hand a frame over. Return whether the reader should go on.

        Waits until the service has taken the previous frames; the service decides which frame to drop.
        """
        if self._record is not None and self._record.start():
            tell(self._control, {"is": "abandoned"})
        with self._room:
            self._room.wait_for(lambda: self._untaken < DEPTH or self.stopping)
            if self.stopping:
                return False
            self._untaken += 1
        message, handle = pack(frame)
        try:
            tell(self._control, {"is": "frame", "patient": patient, **message}, handle)
        finally:
            close(handle)
        return True

    def taken(self) -> None:
        """Make room for another frame."""
        with self._room:
            self._untaken -= 1
            self._room.notify()

    def stop(self) -> None:
        """Tell the reader to return."""
        self._stop.set()
        with self._room:
            self._room.notify_all()


def main() -> None:
    """Read the camera that the service names over standard input, until the service is gone."""
    for number in (signal.SIGINT, signal.SIGTERM):
        # The service gets the signal too, and tells when to stop.
        signal.signal(number, signal.SIG_IGN)
    threading.excepthook = lambda args: die(args.exc_value)
    control = socket.socket(fileno=0)
    data, (answers, lifeline), _, _ = socket.recv_fds(control, MAX_BYTES, 2, socket.MSG_CMSG_CLOEXEC)
    hold_on(lifeline)
    logging.getLogger("async_motion").addHandler(Telling(control))
    logging.getLogger("async_motion").setLevel(logging.INFO)
    try:
        spec = CaptureSpec(**json.loads(data))
        bound(spec.process_memory)
        gc.freeze()
        gc.set_threshold(*COLLECT_AT)
        serve(control, socket.socket(fileno=answers), spec)
    except BaseException as exc:  # noqa: BLE001  # the end of this process: the service is told why
        die(exc)


def serve(control: socket.socket, answers: socket.socket, spec: CaptureSpec) -> NoReturn:
    """Read one connection after the other, on the service's request."""
    feedback = DetectorFeedback()
    reader, record = reader_of(spec, feedback), main_stream_of(spec)
    sinks: queue.SimpleQueue[ChildSink] = queue.SimpleQueue()

    def obey() -> None:
        sink: ChildSink | None = None
        while data := control.recv(MAX_BYTES):
            message = json.loads(data)
            match message["do"]:
                case "read":
                    floor = (float("-inf") if at is None else at for at in message["floor"])
                    sink = ChildSink(control, spec, record, Floor(*floor))
                    sinks.put(sink)
                case "stop" if sink is not None:
                    sink.stop()
                case "taken" if sink is not None:
                    sink.taken()
                case "judged":
                    feedback.heard = message["heard"]
                    if (latest := message["latest"]) is not None:
                        feedback.latest = latest
        os._exit(0)

    threading.Thread(target=obey, name="obey", daemon=True).start()
    if record is not None:
        threading.Thread(target=answer, args=(answers, record), name="answer", daemon=True).start()
    tell(control, {"is": "ready"})
    while True:
        sink = sinks.get()
        if record is not None and record.start():
            tell(control, {"is": "abandoned"})
        tell(control, {"is": "ended", **read(reader, sink)})


def read(reader: Callable[[ChildSink, PtsClock], None], sink: ChildSink) -> Message:
    """Read one connection; return its outcome."""
    try:
        reader(sink, sink.clock)
    except CameraUnavailable as exc:
        if is_want_of_memory(exc):
            raise
        return {"error": "refused" if isinstance(exc, CameraRefused) else "unavailable", "text": str(exc)}
    return {"error": None, "text": None}


def answer(answers: socket.socket, record: MainStream) -> None:
    """Answer the service's requests for images of the main stream."""
    while data := answers.recv(MAX_BYTES):
        question = json.loads(data)
        image = record.image_at(question["monotonic"])
        if image is None:
            tell(answers, {"number": question["number"]})
            continue
        height, width = image.shape[:2]
        handle = share([image])
        try:
            tell(answers, {"number": question["number"], "height": height, "width": width}, handle)
        finally:
            close(handle)
        del image


class Telling(logging.Handler):
    """Forwards log lines to the service. Lines for which there is no room are dropped."""

    def __init__(self, control: socket.socket) -> None:
        super().__init__()
        self._control = control

    def emit(self, record: logging.LogRecord) -> None:
        """Send one line."""
        message = {"is": "log", "name": record.name, "level": record.levelno, "text": record.getMessage()}
        with suppress(OSError):
            self._control.send(json.dumps(message).encode(), socket.MSG_DONTWAIT)


def tell(end: socket.socket, message: Message, handle: int | None = None) -> None:
    """Send a message, with a handle. Waits for room; ends the process when the service is gone."""
    data = json.dumps(message).encode()
    try:
        if handle is None:
            end.send(data)
        else:
            socket.send_fds(end, [data], [handle])
    except OSError:
        os._exit(0)


def hold_on(lifeline: int) -> None:
    """Ask the kernel to kill this process as soon as the other end of a pipe closes."""
    fcntl.fcntl(lifeline, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(lifeline, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(lifeline, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)
    watch = select.poll()
    watch.register(lifeline, select.POLLHUP)
    if watch.poll(0):
        os._exit(0)  # it was closed before the kernel began to watch


def bound(memory: int) -> None:
    """Limit the process's private memory to `memory` bytes; write no core dump: it would hold passwords."""
    # RLIMIT_DATA: private writable memory. RLIMIT_AS would also count libraries and shared frames.
    resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(OSError), Path("/proc/self/oom_score_adj").open("w", encoding="ascii") as score:
        score.write(str(OOM_SCORE))


def is_want_of_memory(error: BaseException | None) -> bool:
    """Return whether an error, or its cause, is a failed allocation."""
    return isinstance(error, MemoryError) or (
        error is not None and isinstance(error.__context__, MemoryError)
    )


def die(error: BaseException | None) -> NoReturn:
    """Exit at once, with the exit code that tells the service why."""
    if is_want_of_memory(error):
        os._exit(OUT_OF_MEMORY)
    if error is not None:
        at = error.__traceback__
        while at is not None and at.tb_next is not None:
            at = at.tb_next
        # Without the error's text: a library's may hold the address with its password.
        where = f" at {Path(at.tb_frame.f_code.co_filename).name}:{at.tb_lineno}" if at else ""
        log.error("%s: a bug in capture: %s%s", sys.argv[-1], type(error).__name__, where)
    os._exit(1)


if __name__ == "__main__":
    main()
