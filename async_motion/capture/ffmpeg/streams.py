"""Opening with PyAV, and what its errors mean for a camera.

FFmpeg's own texts hold the address with its password, so none of them is passed on: every error becomes a
sentence of ours about the redacted address. PyAV's log is off by default and stays so.

FFmpeg never reaches the network by itself: RTSP goes through `rtsp_proxy`, HTTP comes from `http.body`. Only
RTP over UDP comes to FFmpeg directly, from the camera's address alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, Final, NamedTuple, cast

import av
import av.error
from av.container import InputContainer
from av.video.stream import VideoStream

from async_motion.capture.address import Address, Attempt, SourceKind, attempt_of, transport_of
from async_motion.capture.clock import PtsClock
from async_motion.capture.display import aspect_of
from async_motion.capture.ffmpeg.decoding import VideoPacket, pts_of
from async_motion.capture.ffmpeg.rtsp_proxy import RtspProxy
from async_motion.capture.http.body import Body, open_body
from async_motion.capture.http.connection import Waiting
from async_motion.capture.meter import ByteMeter
from async_motion.capture.spec import CaptureSpec
from async_motion.errors import CameraRefused, CameraUnavailable

LENIENT: Final[dict[str, Any]] = (
    {} if int(av.__version__.partition(".")[0]) >= 19 else {"metadata_errors": "replace"}
)
"""A title that is not UTF-8 is no reason to refuse a stream. PyAV takes it by itself since 19."""

REFUSALS: tuple[tuple[type[Exception], str], ...] = (
    (av.error.HTTPUnauthorizedError, "wrong user or password (401)"),
    (av.error.HTTPForbiddenError, "this user may not see the stream (403)"),
    (av.error.HTTPNotFoundError, "no such stream (404)"),
    (av.error.HTTPBadRequestError, "the camera does not understand the request (400)"),
    (av.error.HTTPOtherClientError, "the camera refuses the request (4xx)"),
    (av.error.FileNotFoundError, "no such file"),
    (av.error.IsADirectoryError, "is a folder, not a file"),
    (av.error.PermissionError, "no right to read it"),
    (av.error.ProtocolNotFoundError, "leads to a protocol that is not allowed"),
    (av.error.DecoderNotFoundError, "is encoded in a way that cannot be decoded here"),
    (av.error.InvalidDataError, "is not a video that can be read"),
    # What FFmpeg says of a container that is not on the list.
    (av.error.ArgumentError, "is not a video that can be read"),
)
"""What a person must act on."""

TROUBLE: tuple[tuple[type[Exception], str], ...] = (
    (av.error.ExitError, "timed out"),
    (av.error.TimeoutError, "timed out"),
    (av.error.ConnectionRefusedError, "nothing listens there (connection refused)"),
    (av.error.ConnectionResetError, "closed the connection"),
    (av.error.BrokenPipeError, "closed the connection"),
    (av.error.HTTPTooManyRequestsError, "asks for fewer requests (429)"),
    (av.error.HTTPServerError, "has an error of its own (5xx)"),
    (av.error.EOFError, "closed the stream"),
    (av.error.MemoryError, "needs more memory than there is"),
)
"""What may pass by itself."""


MAX_FPS = 1000.0
"""A stream that claims more than this has not said its rate, but its clock's."""

MAX_FRAME_S = 60.0
"""No frame stands for longer, whatever a file claims."""

TRACK_WAIT_S = 1.0
"""How long the first video track of several may be silent once another one sends."""

MAX_HELD = 256
"""Packets that are held while a track is chosen, or until the opening burst is over."""

BURST_GAP_S = 0.01
"""A packet that took longer than this to come was not lying there already."""


class Arrival(NamedTuple):
    """A packet of a live stream, and the monotonic time at which its frame was captured.

    `late`: it comes in a burst, later than it was captured.
    """

    packet: VideoPacket
    at: float
    late: bool


@dataclass(slots=True)
class OpenStream:
    """An open source with the video track that sends. Its owner closes it."""

    container: InputContainer
    stream: VideoStream
    shown: str
    timeless: bool
    """Whether its frames have no times but those of their arrival: MJPEG over HTTP; FFmpeg would invent
    them."""
    _packets: Iterator[VideoPacket]
    _meter: ByteMeter
    _raise_problem: Callable[[], None]
    """Raises what went wrong between FFmpeg and the camera, which FFmpeg took for the stream's end."""
    _body: Body | None

    @property
    def aspect(self) -> float:
        """The pixel aspect ratio that the container names, 1.0 where it names none."""
        return aspect_of(self.stream.sample_aspect_ratio)

    @property
    def frame_s(self) -> float:
        """How long one frame stands, in seconds, as far as the stream says."""
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
        """Yield each packet of a live stream as it comes; tell the clock, and `arrived` of each new one.

        `lock` is held while the clock is used, where other threads use it too.
        """
        lock = lock or nullcontext()
        newest = -self.frame_s

        def told() -> Iterator[tuple[VideoPacket, float]]:
            nonlocal newest
            before: VideoPacket | None = None
            for packet in self.packets():
                known = time.monotonic() if self.timeless else pts_of(packet)
                # The first packets of an RTSP stream may come without a time.
                newest = newest + self.frame_s if known is None else known
                with lock:
                    clock.arrived(newest)
                # PTS that stand still are one mistake; a hung camera also sends one frame over and over.
                if before is None or packet.pts != before.pts or bytes(packet) != bytes(before):
                    arrived()
                before = packet
                yield packet, newest

        for packet, pts, late in _settled(told()):
            with lock:
                at = clock.time_of(pts)
            yield Arrival(packet, at, late)

    def close(self) -> None:
        """Close all of it."""
        self.container.close()
        if self._body is not None:
            self._body.close()


class _BodyFile:
    """A body as a file for FFmpeg, to which an error is the end: PyAV keeps one exception only."""

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
        """Raise what ended the body."""
        if self._error is not None:
            raise self._error


def translate(exc: av.FFmpegError, shown: str, *, timed_out: bool = False) -> CameraUnavailable:
    """Return our error for FFmpeg's. `timed_out`: the time for the call was over when it came."""
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

    Blocks for at most twice `open_timeout_s` (FFmpeg opens, then looks into the stream). `waiting` is how the
    reader waits; `damaged` hears of JPEGs that were dropped before FFmpeg saw them. Raises CameraUnavailable,
    CameraRefused, and Stopped when the reader is to stop.
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
    # It ends with FFmpeg's connection to it.
    proxy = RtspProxy(address, spec, meter)
    # FFmpeg takes up to twice of this: half of the time at least, so that it is twice the time in all.
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
        # On a stalled server FFmpeg says "invalid data" too: only the clock tells them apart.
        timed_out = isinstance(exc, av.error.InvalidDataError) and (
            time.monotonic() - started >= spec.open_timeout_s
        )
        raise translate(exc, address.shown, timed_out=timed_out) from None
    try:
        stream, packets = _sending(container, address)
        timeless = address.kind is SourceKind.HTTP and stream.codec_context.name == "mjpeg"
        return OpenStream(container, stream, address.shown, timeless, packets, meter, check, body)
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
    # PyAV has no context for a codec that FFmpeg cannot decode, whatever its stubs say.
    readable = [one for one in tracks if getattr(one, "codec_context", None) is not None]
    if not readable:
        raise CameraRefused(f"{address.shown}: is encoded in a way that cannot be decoded here")
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
    """Yield the tracks' packets, without the empty ones: those that end a track, and a camera's mistakes."""
    # It is a generator, whatever the stubs say; closed before the container, since it owns buffers.
    with closing(cast("Generator[VideoPacket]", container.demux(*tracks))) as packets:
        yield from (packet for packet in packets if packet.size)


def _settled(
    arrivals: Iterator[tuple[VideoPacket, float]],
) -> Iterator[tuple[VideoPacket, float, bool]]:
    """Yield (packet, PTS, part of the opening burst).

    What piled up while the stream was opened (or a server's whole last GOP) comes at once. It is held until
    the first packet that had to be waited for, so that the clock knows the true delay before it stamps.
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
