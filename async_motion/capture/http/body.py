"""What FFmpeg reads from an HTTP camera: whole JPEGs in a clean multipart stream, or a container's bytes.

    multipart/x-mixed-replace      JPEGs as they arrive
    image/jpeg                     one JPEG for each request, polled at `fps`
    a SOI near the beginning       as multipart; polled if the answer ends after one JPEG
    anything else                  the container's bytes

FFmpeg's own multipart demuxer stops at an empty part, needs an initial boundary and a correct length, and
allocates as much memory as a length claims.
"""

from __future__ import annotations

import http.client
import time
from collections.abc import Callable, Iterator
from typing import Protocol

from async_motion.capture.address import Address
from async_motion.capture.http.connection import HttpConnection, Response, Stopped, Waiting
from async_motion.capture.http.content import not_decodable, not_video
from async_motion.capture.http.jpeg_scanner import SOI, JpegScanner, TooLong
from async_motion.capture.meter import MAX_FRAME_BYTES, ByteMeter
from async_motion.capture.spec import CaptureSpec
from async_motion.errors import CameraRefused, CameraUnavailable

PEEK_BYTES = 1024
"""A SOI within this many first bytes means MJPEG, for any Content-Type."""

JPEG_TYPES = frozenset({"image/jpeg", "image/jpg", "image/pjpeg"})

MIN_POLL_S = 0.05
DEFAULT_FPS = 5.0
"""The polling rate for `fps: inf`."""

BLIND_S = 20.0
"""The connection is given up after this long without a whole JPEG, although bytes arrive."""

MAX_DAMAGED = 100
"""The maximum number of damaged JPEGs in a row."""


Damaged = Callable[[], None]
"""Called for each damaged JPEG."""


class Body(Protocol):
    """What FFmpeg reads."""

    container: str | None
    """The container that is forced; None: FFmpeg detects it."""

    def read(self, size: int) -> bytes:
        """Return at most `size` bytes, empty at the end. Raises CameraUnavailable, CameraRefused, Stopped."""

    def close(self) -> None:
        """Close the connection."""


def open_body(
    address: Address, spec: CaptureSpec, waiting: Waiting, meter: ByteMeter, damaged: Damaged
) -> Body:
    """Send a request; return the answer's body. Raises CameraUnavailable, CameraRefused, Stopped."""
    connection = HttpConnection(address, spec, waiting)
    try:
        answer = connection.get()
        kind = answer.header("Content-Type").partition(";")[0].strip().lower()
        jpegs = JpegBody(address, connection, answer, damaged, max_pixels=spec.max_pixels)
        if kind.startswith("multipart/"):
            return jpegs
        first = b""
        while len(first) < PEEK_BYTES and SOI not in first and (more := _read(answer, address)):
            first += more
        if not first:
            raise CameraUnavailable(f"{address.shown}: sends nothing")
        if problem := not_video(first):
            raise CameraRefused(f"{address.shown}: sends {problem}, expected JPEG images or video")
        if kind in JPEG_TYPES or SOI in first[:PEEK_BYTES]:
            jpegs.begin(first, Pace(spec.fps, waiting), always=kind in JPEG_TYPES)
            return jpegs
        return ContainerBody(address, connection, answer, meter, first)
    except BaseException:
        connection.close()
        raise


class Pace:
    """The pace at which JPEGs are requested."""

    def __init__(self, fps: float, waiting: Waiting) -> None:
        self._step = max(MIN_POLL_S, 1.0 / (DEFAULT_FPS if fps == float("inf") else fps))
        self._waiting = waiting
        self._due = time.monotonic()

    def wait(self) -> None:
        """Wait until the next request is due. Raises Stopped."""
        now = time.monotonic()
        self._due = max(self._due + self._step, now)
        if not self._waiting.reader_wait(self._due - now):
            raise Stopped


class JpegBody:
    """Whole JPEGs as a clean multipart stream, each part in one piece."""

    container: str | None = "mpjpeg"

    def __init__(
        self,
        address: Address,
        connection: HttpConnection,
        answer: Response,
        damaged: Damaged,
        *,
        max_pixels: int,
    ) -> None:
        self._address = address
        self._connection = connection
        self._answer: Response = answer
        self._damaged = damaged
        self._max_pixels = max_pixels
        self._poll: Pace | None = None
        self._always = False
        self._parts = self._framed(b"")
        self._left = memoryview(b"")

    def begin(self, first: bytes, poll: Pace, *, always: bool) -> None:
        """Start with the bytes `first`; at the end of an answer, request the next one at the pace `poll`.

        Without `always` this happens only after an answer of exactly one JPEG.
        """
        self._poll, self._always = poll, always
        self._parts = self._framed(first)

    def read(self, size: int) -> bytes:
        """Return at most `size` bytes, empty at the end. Raises CameraUnavailable, CameraRefused, Stopped."""
        while not self._left:
            part = next(self._parts, None)
            if part is None:
                return b""
            self._left = memoryview(part)
        data, self._left = bytes(self._left[:size]), self._left[size:]
        return data

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _framed(self, first: bytes) -> Iterator[bytes]:
        for number, jpeg in enumerate(self._jpegs(first)):
            if not number and (problem := not_decodable(jpeg, self._max_pixels)):
                raise CameraRefused(f"{self._address.shown}: sends {problem}")
            head = b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(jpeg)
            yield head + jpeg + b"\r\n"

    def _jpegs(self, data: bytes) -> Iterator[bytes]:
        scanner = JpegScanner()
        whole_at = time.monotonic()
        in_a_row = whole = 0
        while True:
            try:
                for jpeg in scanner.feed(data):
                    if jpeg is None:
                        in_a_row += 1
                        self._damaged()
                    else:
                        in_a_row = 0
                        whole += 1
                        yield jpeg
                        # Do not count the time that FFmpeg and the decoder take.
                        whole_at = time.monotonic()
            except TooLong:
                raise CameraUnavailable(
                    f"{self._address.shown}: sends more than {MAX_FRAME_BYTES >> 20} MiB without a whole JPEG"
                ) from None
            if time.monotonic() - whole_at > BLIND_S or in_a_row > MAX_DAMAGED:
                raise CameraUnavailable(f"{self._address.shown}: sends data, but no whole JPEG")
            data = _read(self._answer, self._address)
            if not data:
                if self._poll is None or not (self._always or (whole == 1 and not scanner.inside)):
                    return
                if scanner.inside:
                    in_a_row += 1
                    self._damaged()
                    scanner = JpegScanner()
                whole = 0
                data = self._ask_again(self._poll)

    def _ask_again(self, poll: Pace) -> bytes:
        if not self._answer.reusable:
            self._connection.close()
        poll.wait()
        self._answer = self._connection.get()
        return _read(self._answer, self._address)


class ContainerBody:
    """The bytes of a container, counted."""

    container: str | None = None

    def __init__(
        self,
        address: Address,
        connection: HttpConnection,
        answer: Response,
        meter: ByteMeter,
        first: bytes,
    ) -> None:
        self._address = address
        self._connection = connection
        self._answer = answer
        self._meter = meter
        self._left = first

    def read(self, size: int) -> bytes:
        """Return at most `size` bytes, empty at the end. Raises CameraUnavailable, CameraRefused, Stopped."""
        if not self._left:
            self._left = _read(self._answer, self._address)
        data, self._left = self._left[:size], self._left[size:]
        if not self._meter.count(len(data)):
            raise CameraRefused(f"{self._address.shown}: {self._meter.problem}")
        return data

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def _read(answer: Response, address: Address) -> bytes:
    """Return the next bytes of an answer. Raises CameraUnavailable, Stopped."""
    try:
        return answer.read()
    except TimeoutError:
        raise CameraUnavailable(f"{address.shown}: timed out") from None
    except (OSError, http.client.HTTPException):
        raise CameraUnavailable(f"{address.shown}: closed the connection") from None
