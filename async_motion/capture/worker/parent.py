"""A camera read by a separate process, so that a crash or a leak there affects no other camera.

    CameraSource ─ Handover ─ IsolatedReader ═══ control ══▶ child: ChildSink ─ the same reader as in a thread
                           (its thread)  ◀══ frames ════          │
    MainStreamImage ──── IsolatedMainStream ═════ images ═══▶          └─ MainStream, DetectorFeedback

The process is one more `Reader`: source, handover, stall watch, counters and clocks are those of a thread.
`child` runs the same readers behind a `ChildSink`, which sends a message where a thread calls its `Handover`.
One process serves a camera for its whole life, one connection after the other: a reconnect costs no start,
the learned background stays, and so does the main stream's buffer. It is replaced when it dies or hangs.

Frames are planes in shared memory, each in an anonymous file of its own (see `shm`). A ring of slots would
not do: pre-roll and the encoder's queue hold frames for any time, so that a slot would have to be copied or
reference-counted. Colour is converted here from the planes, so that a kept frame outlives its process. At
most `handover.DEPTH` frames are in flight.

The child is not trusted: it speaks JSON, never pickle; frames are checked before they are mapped and cannot
change afterwards; its log lines are repeated as text. It gets the settings over its socket, so that neither
the process list nor its environment (a few names, see `core.children`) holds a secret.

It does not outlive us: the kernel kills it when the lifeline, a pipe that only we hold, is closed. That works
even if the child is stopped or hangs, and even if we are killed.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, suppress
from dataclasses import fields
from typing import Any

from async_motion.capture.address import SourceKind, parse
from async_motion.capture.clock import PtsClock
from async_motion.capture.handover import Handover
from async_motion.capture.selective.activity import DetectorFeedback
from async_motion.capture.spec import CaptureSpec
from async_motion.capture.worker.shm import Message, attach, unpack
from async_motion.core.children import child_environment
from async_motion.core.model import Detection, Image
from async_motion.errors import CameraRefused, CameraUnavailable

log = logging.getLogger(__name__)

TICK_S = 0.2
"""How soon a reader notices a stop."""

START_WITHIN_S = 30.0
"""How long a child may take to load its libraries on a busy machine; the time-out for opening starts then."""

STOP_GRACE_S = 0.5
"""How long a child may take to close its camera before it is killed."""

EXIT_GRACE_S = 1.0
"""How long a child whose socket has closed may take to end by itself."""

MAX_LAST_WORDS = 100
"""Messages of a dead child that are still read."""

IMAGE_WAIT_S = 10.0
"""How long to wait for an image of the main stream: its GOP may have to be decoded."""

OUT_OF_MEMORY = 77
"""The exit code of a child that reached its memory limit."""

MAX_BYTES = 65536
"""The longest message, in bytes."""

MAX_TEXT = 1000
"""The longest log line or outcome of a connection, in characters."""

AHEAD_S = 5.0
"""How far a live frame may be ahead of our clock: the frames of a burst are at least a millisecond apart."""

MAX_WAIT_S = 600.0
"""The longest wait of a file's reader: no frame of a file lasts longer."""

NOT_SENT = frozenset({"monotonic", "wall", "sockets"})
"""All processes of one machine share the system's clocks; the child's sockets end with the child."""

NONSENSE = (ValueError, LookupError, TypeError, OverflowError)
"""The errors that a malformed message raises."""


class Gone(Exception):
    """The other side has closed its socket."""


class Channel:
    """One end of a socket that carries JSON messages, each with at most one handle.

    Any thread may send; one at a time receives.
    """

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(False)
        self._end = end
        self._open = threading.Lock()
        """Held while sending: no other file may reuse the handle's number meanwhile."""
        self._poll = select.poll()
        self._poll.register(end, select.POLLIN)

    def send(self, message: Message) -> bool:
        """Send without waiting; return whether there was room. Raises Gone."""
        try:
            with self._open:
                self._end.send(json.dumps(message).encode(), socket.MSG_NOSIGNAL)
        except BlockingIOError:
            return False
        except OSError as exc:
            raise Gone from exc
        return True

    def receive(self, within_s: float) -> tuple[Message, int | None] | None:
        """Return (message, handle), None when nothing came in time. Raises Gone, and ValueError on nonsense.

        The caller closes the handle.
        """
        try:
            if not self._poll.poll(within_s * 1000):
                return None
            data, handles, _, _ = socket.recv_fds(self._end, MAX_BYTES, 1, socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            return None
        except OSError as exc:
            raise Gone from exc
        for surplus in handles[1:]:
            os.close(surplus)
        handle = handles[0] if handles else None
        message: Any = None
        with suppress(ValueError, RecursionError):
            message = json.loads(data) if data else None
        if not isinstance(message, dict):
            close(handle)
            raise ValueError("not a message") if data else Gone
        return message, handle

    def close(self) -> None:
        """Close; later calls raise Gone."""
        with self._open:
            self._end.close()


class Child:
    """A process that reads one camera. Started and ended by one thread at a time."""

    def __init__(self, spec: CaptureSpec) -> None:
        try:
            (ours, theirs), (asked, answers), (lifeline, self._lifeline) = _ends()
        except OSError as exc:
            raise _no_start(exc) from None
        self.control = Channel(ours)
        self._images = Channel(asked)
        self._asking = threading.Lock()
        """Guards `_images`: one request at a time."""
        self._asked = 0
        process: subprocess.Popen[bytes] | None = None
        try:
            self.process = process = subprocess.Popen(  # noqa: S603  # our own module; the name has no spaces
                [sys.executable, "-m", "async_motion.capture.worker.child", spec.camera],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                env=_environment(),
            )
            settings = {
                item.name: getattr(spec, item.name) for item in fields(spec) if item.name not in NOT_SENT
            }
            socket.send_fds(ours, [json.dumps(settings).encode()], [answers.fileno(), lifeline])
        except OSError as exc:
            if process is not None:
                process.kill()
                process.wait()
            self._let_go()
            raise _no_start(exc) from None
        finally:
            theirs.close()
            answers.close()
            os.close(lifeline)

    def ask(self, monotonic: float, max_pixels: int) -> Image | None:
        """Return the main stream's (H, W, 3) BGR image of this time, None if there is none. Blocks.

        Raises Gone, MemoryError, and `NONSENSE` for a malformed answer.
        """
        with self._asking:
            self._asked += 1
            deadline = time.monotonic() + IMAGE_WAIT_S
            if not self._images.send({"number": self._asked, "monotonic": monotonic}):
                return None
            while (left_s := deadline - time.monotonic()) > 0:
                got = self._images.receive(left_s)
                if got is None:
                    continue
                message, handle = got
                try:
                    if message["number"] != self._asked:
                        continue  # the answer to an earlier request that timed out
                    if handle is None:
                        return None
                    height, width = int(message["height"]), int(message["width"])
                    if not (height > 0 and 0 < height * width <= max_pixels):
                        raise ValueError("an image of impossible size")
                    return attach(handle, height * width * 3).reshape(height, width, 3)
                finally:
                    close(handle)
        return None

    def end(self, within_s: float) -> int:
        """Wait this long for the process to exit, then kill it; return its exit code. Closes everything."""
        try:
            self.process.wait(within_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._let_go()
        return self.process.returncode

    def _let_go(self) -> None:
        self.control.close()
        with self._asking:  # the reader is about to find the process gone
            self._images.close()
        os.close(self._lifeline)


class IsolatedReader:
    """A `Reader` for `CameraSource`: a child reads one connection after the other."""

    def __init__(self, spec: CaptureSpec) -> None:
        self._spec = spec
        self._kind = parse(spec.source).kind
        self._child: Child | None = None
        self._busy = threading.Lock()
        """Held for a connection: the next one starts when the child has ended the one before."""
        self._closed = False

    def __call__(self, handover: Handover, clock: PtsClock) -> None:
        """Read until the source ends or `handover.stopping`. Raises what the child's reader raised."""
        with self._busy:
            if handover.stopping:
                return
            handover.reader_begins()
            child = self._child
            if child is not None and child.process.poll() is not None:
                # It died between two connections: this attempt reports it.
                self._raise_death(child, handover)
            if child is None:
                handover.reader_expects(START_WITHIN_S)
                child = self._child = Child(self._spec)
            try:
                if not self._closed:
                    self._read(child, handover, clock)
            except Gone:
                self._raise_death(child, handover)
            except NONSENSE as exc:
                self._bury(child, 0.0)
                handover.counters.crashed += 1
                raise CameraUnavailable(
                    f"the capture process sent a malformed message ({type(exc).__name__}); replacing it"
                ) from None
            except MemoryError:
                self._bury(child, 0.0)
                raise CameraUnavailable("there is no memory for its frames") from None
            finally:
                # Closed while the child was starting: no other code has a reference to it.
                if self._closed and self._child is not None:
                    self._bury(self._child, 0.0)

    def _read(self, child: Child, handover: Handover, clock: PtsClock) -> None:
        floor = clock.floor
        child.control.send({"do": "read", "floor": [_finite(floor.monotonic), _finite(floor.wall)]})
        while not handover.stopping:
            got = child.control.receive(TICK_S)
            if got is not None and self._take(*got, child, handover):
                return
        child.control.send({"do": "stop"})
        deadline = time.monotonic() + STOP_GRACE_S
        while (left_s := deadline - time.monotonic()) > 0:
            got = child.control.receive(left_s)
            if got is None:
                continue
            message, handle = got
            close(handle)
            if message["is"] == "ended":
                return
        self._bury(child, 0.0)
        if handover.overdue:
            handover.counters.abandoned += 1
            log.warning("%s: the capture process hangs in the video library: killed", self._spec.camera)

    def _take(self, message: Message, handle: int | None, child: Child, handover: Handover) -> bool:
        """Act on a message of the child; return whether its connection has ended."""
        try:
            match message["is"]:
                case "ready":
                    handover.reader_begins()
                case "opened":
                    handover.reader_opened()
                case "progress":
                    handover.reader_progress()
                case "waits":
                    self._expect(float(message["seconds"]), handover)
                case "corrupt":
                    handover.reader_corrupt()
                case "abandoned":
                    handover.counters.abandoned += 1
                case "frame":
                    if handle is None:
                        raise ValueError("a frame without its memfd")
                    spec = self._spec
                    frame = unpack(message, handle, camera=spec.camera, max_pixels=spec.max_pixels)
                    if not handover.lossless and frame.monotonic > time.monotonic() + AHEAD_S:
                        # Times only grow: every later frame would lie in the future too.
                        raise ValueError("a live frame from the future")
                    handover.reader_offer(frame, patient=bool(message["patient"]))
                    child.control.send({"do": "taken"})
                case "log":
                    _repeat(message)
                case "ended":
                    _raise(message)
                    return True
        finally:
            close(handle)
        return False

    def _expect(self, seconds: float, handover: Handover) -> None:
        """Allow a paced reader to wait. Refuse it for an RTSP stream: a wait would hide a stall."""
        match self._kind:
            case SourceKind.RTSP:
                max_s = 0.0
            case SourceKind.HTTP:
                max_s = 1.0 / self._spec.fps + TICK_S  # until the next JPEG is asked for
            case _:
                max_s = max(MAX_WAIT_S, 2.0 / self._spec.fps)
        if not 0 <= seconds <= max_s:
            raise ValueError("a wait of impossible length")
        handover.reader_expects(seconds)

    def _raise_death(self, child: Child, handover: Handover) -> None:
        """Raise CameraUnavailable for a child that is no longer there."""
        _hear_last_words(child.control)
        code = self._bury(child, EXIT_GRACE_S)
        handover.counters.crashed += 1
        raise CameraUnavailable(f"the capture process {_death(code, self._spec.process_memory)}") from None

    def _bury(self, child: Child, within_s: float) -> int:
        self._child = None
        return child.end(within_s)

    def judged(self, heard: float, latest: float) -> None:
        """Tell the child the times of the newest frames judged and of interest. Never waits."""
        if (child := self._child) is not None:
            with suppress(
                Gone
            ):  # the reader finds a dead child; a message without room is superseded by the next
                child.control.send({"do": "judged", "heard": heard, "latest": _finite(latest)})

    def image_at(self, monotonic: float) -> Image | None:
        """Return the main stream's (H, W, 3) BGR image of this time, None if there is none. Blocks."""
        child = self._child
        if child is None:
            return None
        try:
            return child.ask(monotonic, self._spec.max_pixels)
        except (Gone, MemoryError, *NONSENSE):
            return None  # the watched frame's own image is used instead

    def cut(self) -> bool:
        """Kill the child, and start no other; return whether it is gone. From any thread; never waits."""
        self._closed = True
        child = self._child
        if child is None:
            return True
        child.process.kill()
        return child.process.poll() is not None

    async def aclose(self) -> None:
        """End the child. Returns within `EXIT_GRACE_S`."""
        self.cut()
        child = self._child
        if child is None:
            return
        deadline = time.monotonic() + EXIT_GRACE_S
        while child.process.poll() is None and time.monotonic() < deadline:  # noqa: ASYNC110 - of another process
            await asyncio.sleep(0.01)
        if self._busy.acquire(blocking=False):
            # If the lock is held, the child's reader finds it gone.
            try:
                if self._child is child and child.process.poll() is not None:
                    self._bury(child, 0.0)
            finally:
                self._busy.release()


class IsolatedMainStream:
    """The main stream of a camera that a child reads. The child manages it."""

    def __init__(self, reader: IsolatedReader) -> None:
        self.image_at = reader.image_at

    @property
    def nbytes(self) -> int:
        """Return 0: the packets are in the child."""
        return 0

    def start(self) -> bool:
        """Do nothing: it starts with the first frame."""
        return False

    def stop(self) -> None:
        """Do nothing: it ends with the child."""


class IsolatedFeedback(DetectorFeedback):
    """Passes the detector's verdicts on to the child."""

    def __init__(self, reader: IsolatedReader) -> None:
        super().__init__()
        self._reader = reader

    def tell(self, monotonic: float, detection: Detection) -> None:
        """Record the verdict, and tell the child."""
        super().tell(monotonic, detection)
        self._reader.judged(self.heard, self.latest)


def _ends() -> tuple[tuple[socket.socket, ...], tuple[socket.socket, ...], tuple[int, int]]:
    """Return both ends of two sockets and of a pipe. On OSError nothing stays open."""
    with ExitStack() as opened:
        control, images = (
            tuple(map(opened.enter_context, socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)))
            for _ in range(2)
        )
        pipe = os.pipe()
        opened.pop_all()
    return control, images, pipe


def _no_start(exc: OSError) -> CameraUnavailable:
    return CameraUnavailable(f"the capture process cannot be started: {exc.strerror}")


def _environment() -> dict[str, str]:
    # The same import path as ours. Unused thread pools would only reserve memory.
    path = os.pathsep.join(entry for entry in sys.path if entry)
    return child_environment(os.environ) | {
        "PYTHONPATH": path,
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
    }


def _finite(seconds: float) -> float | None:
    """Return None for an infinity, which JSON does not have."""
    return seconds if abs(seconds) != float("inf") else None


def _death(code: int, bound: int) -> str:
    """Return how a process ended, in words."""
    if code == OUT_OF_MEMORY:
        return f"exceeded the {bound / 2**20:.0f} MiB that capture.process_memory allows"
    if code >= 0:
        return f"exited with code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"was killed by {name}" + (" (is the machine out of memory?)" if name == "SIGKILL" else "")


def _raise(message: Message) -> None:
    """Raise what the child's reader raised, if it did."""
    text = _plain(message["text"])
    match message["error"]:
        case "refused":
            raise CameraRefused(text)
        case "unavailable":
            raise CameraUnavailable(text)


def _hear_last_words(control: Channel) -> None:
    """Log the last lines of a dead child: they may tell why it died."""
    with suppress(Gone, *NONSENSE):
        for _ in range(MAX_LAST_WORDS):
            got = control.receive(0.0)
            if got is None:
                return
            message, handle = got
            close(handle)
            if message["is"] == "log":
                _repeat(message)


def _repeat(message: Message) -> None:
    """Log a line of the child under the name of a module of this package."""
    name = str(message["name"])
    logger = logging.getLogger(name) if name.startswith("async_motion.capture.") else log
    logger.log(int(message["level"]), "%s", _plain(message["text"]))


def _plain(text: object) -> str:
    """Return a child's text without line ends and control characters, cut to a maximum length."""
    return "".join(letter if letter.isprintable() else " " for letter in str(text)[:MAX_TEXT])


def close(handle: int | None) -> None:
    """Close a handle, if it is one."""
    if handle is not None:
        os.close(handle)
