"""Open sources with PyAV, and translate its errors.

FFmpeg's error texts hold the address with its password, so none of them is passed on: every error becomes our
own text with the redacted address. PyAV's log is off by default and stays off.

FFmpeg never reaches the network by itself: RTSP goes through `rtsp_proxy`, its media by UDP through
`media_relay`, and HTTP comes from `http.body`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import chain
from typing import Any, Final, NamedTuple, cast

import av
import av.error
from av.container import InputContainer
from av.video.stream import VideoStream

from async_motion.capture.address import Address, Attempt, SourceKind, attempt_of, transport_of
from async_motion.capture.clock import PtsClock
from async_motion.capture.display import Display, aspect_of
from async_motion.capture.ffmpeg.container_display import container_display
from async_motion.capture.ffmpeg.decoding import VideoPacket, pts_of, time_base
from async_motion.capture.ffmpeg.rtsp_proxy import RtspProxy
from async_motion.capture.http.body import Body, open_body
from async_motion.capture.http.connection import Waiting
from async_motion.capture.meter import ByteMeter
from async_motion.capture.spec import CaptureSpec
from async_motion.errors import CameraRefused, CameraUnavailable

LENIENT: Final[dict[str, Any]] = (
    {} if int(av.__version__.partition(".")[0]) >= 19 else {"metadata_errors": "replace"}
)
"""Accept a stream whose metadata is not UTF-8. PyAV does so by itself since 19."""

REFUSALS: tuple[tuple[type[Exception], str], ...] = (
    (av.error.HTTPUnauthorizedError, "wrong user or password (401)"),
    (av.error.HTTPForbiddenError, "this user may not see the stream (403)"),
    (av.error.HTTPNotFoundError, "no such stream (404)"),
    (av.error.HTTPBadRequestError, "the camera does not understand the request (400)"),
    (av.error.HTTPOtherClientError, "the camera refuses the request (4xx)"),
    (av.error.FileNotFoundError, "no such file"),
    (av.error.IsADirectoryError, "is a folder, not a file"),
    (av.error.PermissionError, "no permission to read it"),
    (av.error.ProtocolNotFoundError, "leads to a protocol that is not allowed"),
    (av.error.DecoderNotFoundError, "has a codec that cannot be decoded here"),
    (av.error.InvalidDataError, "is not a video that can be read"),
    # FFmpeg's error for a container that is not on the list.
    (av.error.ArgumentError, "is not a video that can be read"),
)
"""Errors on which an operator must act, with our texts."""

TROUBLE: tuple[tuple[type[Exception], str], ...] = (
    (av.error.ExitError, "timed out"),
    (av.error.TimeoutError, "timed out"),
    (av.error.ConnectionRefusedError, "nothing listens there (connection refused)"),
    (av.error.ConnectionResetError, "closed the connection"),
    (av.error.BrokenPipeError, "closed the connection"),
    (av.error.HTTPTooManyRequestsError, "gets too many requests (429)"),
    (av.error.HTTPServerError, "has an internal error (5xx)"),
    (av.error.EOFError, "closed the stream"),
    (av.error.MemoryError, "needs more memory than is available"),
)
"""Errors that may end by themselves, with our texts."""


MAX_FPS = 1000.0
"""A higher frame rate is the rate of the stream's clock, not of its frames."""

MAX_FRAME_S = 60.0
"""Maximum duration of a frame, even if a file claims more."""

TRACK_WAIT_S = 1.0
"""How long the first of several video tracks may stay silent once another one sends."""

MAX_HELD = 256
"""Maximum packets that are held while a track is chosen, or until the opening burst is over."""

BURST_GAP_S = 0.01
"""A packet that took longer than this to arrive is not part of the opening burst."""


class Arrival(NamedTuple):
    """A packet of a live stream, and the monotonic time at which its frame was captured.

    `late`: it arrived in a burst, later than it was captured.
    """

    packet: VideoPacket
    at: float
    late: bool


@dataclass(slots=True)
class OpenStream:
    """An open source and the video track that sends. The owner closes it."""

    container: InputContainer
    stream: VideoStream
    shown: str
    timeless: bool
    """Whether its frames have only their arrival times: FFmpeg invents the PTS of MJPEG over HTTP."""
    display: Display
    """The container's display parameters."""
    time_base: Fraction
    """The unit of its PTS, in seconds. FFmpeg frees its own on closing; other threads may still decode."""
    _packets: Iterator[VideoPacket]
    _meter: ByteMeter
    _raise_problem: Callable[[], None]
    """Raises the error between FFmpeg and the camera, which FFmpeg saw as the end of the stream."""
    _body: Body | None

    @property
    def frame_s(self) -> float:
        """The duration of one frame, in seconds; 1/25 if the stream gives no plausible rate."""
        rate = float(self.stream.average_rate or self.stream.guessed_rate or 0)
        return min(1.0 / rate, MAX_FRAME_S) if 0 < rate < MAX_FPS else 1.0 / 25

    def packets(self) -> Iterator[VideoPacket]:
        """Yield the packets until the stream ends. Raises CameraUnavailable, CameraRefused."""
        try:
            for packet in self._packets:
                self._meter.reset()
                yield packet
        except av.FFmpegError as exc:
            self._raise_problem()
            raise translate(exc, self.shown) from None
        self._raise_problem()

    def arrivals(
        self,
        clock: PtsClock,
        arrived: Callable[[], None],
        *,
        lock: AbstractContextManager[object] | None = None,
    ) -> Iterator[Arrival]:
        """Yield each packet of a live stream as it arrives, and update the clock.

        `arrived` is called for each new packet, not for a repeated one. `lock` is held while the clock is
        used; pass one if other threads use it too. Raises CameraUnavailable, CameraRefused.
        """
        lock = lock or nullcontext()
        newest = -self.frame_s

        def stamped() -> Iterator[tuple[VideoPacket, float]]:
            nonlocal newest
            before: VideoPacket | None = None
            for packet in self.packets():
                known = time.monotonic() if self.timeless else pts_of(packet)
                # The first packets of an RTSP stream may have no PTS.
                newest = newest + self.frame_s if known is None else known
                with lock:
                    clock.arrived(newest)
                # A camera may repeat a PTS by mistake; a hung camera also repeats the bytes.
                if before is None or packet.pts != before.pts or bytes(packet) != bytes(before):
                    arrived()
                before = packet
                yield packet, newest

        for packet, pts, late in _settled(stamped()):
            with lock:
                at = clock.time_of(pts)
            yield Arrival(packet, at, late)

    def close(self) -> None:
        """Close the container and the connection."""
        self.container.close()
        if self._body is not None:
            self._body.close()


class _BodyFile:
    """A body as a file for FFmpeg. An error is kept and reads as the end: PyAV keeps only one exception."""

    def __init__(self, body: Body) -> None:
        self._body = body
        self._error: Exception | None = None

    def read(self, size: int) -> bytes:
        """Return at most `size` bytes, empty at the end."""
        if self._error is not None:
            return b""
        try:
            return self._body.read(size)
        except Exception as exc:  # noqa: BLE001 - raised again by `check`, on the reader's side of FFmpeg
            self._error = exc
            return b""

    def check(self) -> None:
        """Raise the error that ended the body, if any."""
        if self._error is not None:
            raise self._error


def translate(exc: av.FFmpegError, shown: str, *, timed_out: bool = False) -> CameraUnavailable:
    """Return our error for FFmpeg's. `timed_out`: the call's time-out had passed when it came."""
    if timed_out:
        return CameraUnavailable(f"{shown}: timed out")
    for kind, text in TROUBLE:
        if isinstance(exc, kind):
            return CameraUnavailable(f"{shown}: {text}")
    for kind, text in REFUSALS:
        if isinstance(exc, kind):
            return CameraRefused(f"{shown}: {text}")
    # The symbol of the error number, never FFmpeg's text.
    name = type(exc).__name__ if type(exc) is not av.FFmpegError else "unknown error"
    return CameraUnavailable(f"{shown}: cannot be reached or read ({name}, {exc.errno})")


def open_stream(
    address: Address, spec: CaptureSpec, waiting: Waiting, damaged: Callable[[], None] = lambda: None
) -> OpenStream:
    """Open a source and find its video track; the caller closes it.

    Blocks for at most twice `open_timeout_s` (FFmpeg opens, then probes the stream). `waiting` is how the
    reader waits; `damaged` is called for each JPEG that is dropped before FFmpeg. Raises CameraUnavailable,
    CameraRefused, and Stopped when the reader must stop.
    """
    meter = ByteMeter()
    match address.kind:
        case SourceKind.RTSP:
            return _open_rtsp(address, spec, meter)
        case SourceKind.HTTP:
            body = open_body(address, spec, waiting, meter, damaged)
            try:
                return _open(address, spec, attempt_of(address, spec), meter, body=body)
            except BaseException:
                body.close()
                raise
        case _:
            return _open(address, spec, attempt_of(address, spec), meter)


def _open_rtsp(address: Address, spec: CaptureSpec, meter: ByteMeter) -> OpenStream:
    started = time.monotonic()
    spec = replace(spec, transport=transport_of(address, spec))
    # The proxy ends with FFmpeg's connection to it.
    proxy = RtspProxy(address, spec, meter)
    # FFmpeg takes up to `2 * left_s`; with the connection, that is at most twice `open_timeout_s`.
    left_s = max(spec.open_timeout_s / 2, spec.open_timeout_s - (time.monotonic() - started))
    spec = replace(spec, open_timeout_s=left_s)

    def check() -> None:
        if proxy.problem is not None:
            raise CameraRefused(f"{address.shown}: {proxy.problem}")

    attempt = attempt_of(replace(address, url=proxy.url), spec)
    try:
        return _open(address, spec, attempt, meter, check=check)
    except CameraUnavailable:
        proxy.close()
        raise


def _open(
    address: Address,
    spec: CaptureSpec,
    attempt: Attempt,
    meter: ByteMeter,
    *,
    body: Body | None = None,
    check: Callable[[], None] = lambda: None,
) -> OpenStream:
    started = time.monotonic()
    file = None if body is None else _BodyFile(body)
    check = check if file is None else file.check
    try:
        container: InputContainer = av.open(
            attempt.url if file is None else file,
            mode="r",
            format=attempt.container if body is None else body.container,
            options={**attempt.options, "max_pixels": str(spec.max_pixels)},
            timeout=(spec.open_timeout_s, spec.stall_timeout_s),
            **LENIENT,
        )
    except av.FFmpegError as exc:
        check()
        # On a stalled server FFmpeg also says "invalid data", or fails with -1, which reads as EPERM: only
        # the clock tells them apart.
        vague = isinstance(exc, av.error.InvalidDataError | av.error.PermissionError)
        timed_out = vague and time.monotonic() - started >= spec.open_timeout_s
        if isinstance(exc, av.error.PermissionError) and address.live and not timed_out:
            raise CameraUnavailable(f"{address.shown}: does not answer as expected") from None
        raise translate(exc, address.shown, timed_out=timed_out) from None
    try:
        stream, packets = _sending(container, address)
        timeless = address.kind is SourceKind.HTTP and stream.codec_context.name == "mjpeg"
        if address.kind is SourceKind.RTSP:  # no container
            display = Display(aspect=aspect_of(stream.sample_aspect_ratio))
        else:
            display = container_display(stream)
        unit = time_base(stream)
        return OpenStream(
            container, stream, address.shown, timeless, display, unit, packets, meter, check, body
        )
    except av.FFmpegError as exc:
        container.close()
        check()
        raise translate(exc, address.shown) from None
    except BaseException:
        container.close()
        raise


def _sending(container: InputContainer, address: Address) -> tuple[VideoStream, Iterator[VideoPacket]]:
    """Return the first video track that sends, with its packets. Raises CameraRefused."""
    tracks = container.streams.video
    if not tracks:
        raise CameraRefused(f"{address.shown}: holds no video")
    # Despite its stubs, PyAV has no context for a codec that FFmpeg cannot decode.
    readable = [one for one in tracks if getattr(one, "codec_context", None) is not None]
    if not readable:
        raise CameraRefused(f"{address.shown}: has a codec that cannot be decoded here")
    packets = _demuxed(container, readable)
    if len(readable) == 1 or not address.live:
        chosen = readable[0]
        return chosen, (packet for packet in packets if packet.stream_index == chosen.index)
    held: list[VideoPacket] = []
    since = None
    chosen = readable[0]
    for packet in packets:
        held.append(packet)
        since = since or time.monotonic()
        if packet.stream_index == readable[0].index:
            break
        if time.monotonic() - since > TRACK_WAIT_S or len(held) >= MAX_HELD:
            indexes = {one.stream_index for one in held}
            chosen = next(one for one in readable if one.index in indexes)
            break
    return chosen, (packet for packet in chain(held, packets) if packet.stream_index == chosen.index)


def _demuxed(container: InputContainer, tracks: list[VideoStream]) -> Iterator[VideoPacket]:
    """Yield the tracks' packets, without empty ones: these end a track, or are a camera's mistake."""
    # Despite the stubs it is a generator. It owns buffers, so close it before the container.
    with closing(cast("Generator[VideoPacket]", container.demux(*tracks))) as packets:
        yield from (packet for packet in packets if packet.size)


def _settled(
    arrivals: Iterator[tuple[VideoPacket, float]],
) -> Iterator[tuple[VideoPacket, float, bool]]:
    """Yield (packet, PTS, part of the opening burst).

    Packets that queued up while the stream was opened (or a server's whole last GOP) arrive at once. They are
    held until the first packet that takes time to arrive, so that the clock knows the true delay before it
    stamps.
    """
    held: list[tuple[VideoPacket, float]] = []
    before = time.monotonic()
    for arrival in arrivals:
        held.append(arrival)
        now = time.monotonic()
        if now - before > BURST_GAP_S or len(held) >= MAX_HELD:
            break
        before = now
    for packet, pts in held:
        yield packet, pts, len(held) > 1
    for packet, pts in arrivals:
        yield packet, pts, False
