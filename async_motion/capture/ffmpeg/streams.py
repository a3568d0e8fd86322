"""Opening with PyAV, and what its errors mean for a camera.

FFmpeg's own texts hold the address with its password, so none of them is passed on: every error becomes a
sentence of ours about the redacted address. PyAV's log is off by default and stays so.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any, Final, cast

import av
import av.error
from av.container import InputContainer
from av.video.stream import VideoStream

from async_motion.capture.address import Address, Attempt, SourceKind, attempts, transport_of
from async_motion.capture.ffmpeg.decoding import VideoPacket, pts_of
from async_motion.capture.ffmpeg.rtsp_proxy import RtspProxy
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


def open_stream(address: Address, spec: CaptureSpec) -> tuple[InputContainer, VideoStream]:
    """Open a source and return it with its video stream, not yet decoding; the caller closes it.

    Blocks for at most twice `open_timeout_s` (FFmpeg opens, then looks into the stream).
    Raises CameraUnavailable or CameraRefused.
    """
    if address.kind is not SourceKind.RTSP:
        return _open_at(address, spec)
    started = time.monotonic()
    spec = replace(spec, transport=transport_of(address, spec))
    # It ends with FFmpeg's connection to it.
    relay = RtspProxy(address, spec)
    # FFmpeg takes up to twice of this: half of the time at least, so that it is twice the time in all.
    left_s = max(spec.open_timeout_s / 2, spec.open_timeout_s - (time.monotonic() - started))
    try:
        return _open_at(replace(address, url=relay.url), replace(spec, open_timeout_s=left_s))
    except CameraUnavailable:
        relay.close()
        if relay.problem is not None:
            raise CameraRefused(f"{address.shown}: {relay.problem}") from None
        raise


def _open_at(address: Address, spec: CaptureSpec) -> tuple[InputContainer, VideoStream]:
    started = time.monotonic()
    container: InputContainer | None = None
    ways = attempts(address, spec)
    for attempt in ways:
        try:
            container = _open(attempt, spec)
            break
        except av.error.InvalidDataError as exc:
            # On a stalled server FFmpeg says "invalid data" too: only the clock tells them apart.
            timed_out = time.monotonic() - started >= spec.open_timeout_s
            if timed_out or attempt is ways[-1]:
                raise translate(exc, address.shown, timed_out=timed_out) from None
        except av.FFmpegError as exc:
            raise translate(exc, address.shown) from None
    assert container is not None  # the last way either opened or raised
    if not container.streams.video:
        container.close()
        raise CameraRefused(f"{address.shown}: holds no video")
    stream = container.streams.video[0]
    if stream.codec_context is None:
        container.close()
        raise CameraRefused(f"{address.shown}: is encoded in a way that cannot be decoded here")
    return container, stream


def _open(attempt: Attempt, spec: CaptureSpec) -> InputContainer:
    container: InputContainer = av.open(
        attempt.url,
        mode="r",
        format=attempt.container,
        options={**attempt.options, "max_pixels": str(spec.max_pixels)},
        timeout=(spec.open_timeout_s, spec.stall_timeout_s),
        **LENIENT,
    )
    return container


def frame_duration(stream: VideoStream) -> float:
    """Return how long one picture stands, in seconds, as far as the stream says."""
    rate = float(stream.average_rate or stream.guessed_rate or 0)
    return 1.0 / rate if 0 < rate < MAX_FPS else 1.0 / 25


def packets_of(container: InputContainer, stream: VideoStream, shown: str) -> Iterator[VideoPacket]:
    """Yield the packets of `stream`, the last one empty; translate FFmpeg's errors."""
    try:
        # It is a generator, whatever the stubs say; closed before the container, since it owns buffers.
        with closing(cast("Generator[VideoPacket]", container.demux(stream))) as packets:
            yield from packets
    except av.FFmpegError as exc:
        raise translate(exc, shown) from None


def arrivals(
    container: InputContainer, stream: VideoStream, address: Address, spec: CaptureSpec
) -> Iterator[tuple[VideoPacket, float]]:
    """Yield each packet of a live stream as it comes, with its PTS in seconds."""
    length = frame_duration(stream)
    latest = -length
    timeless = is_timeless(address, stream)
    for packet in packets_of(container, stream, address.shown):
        known = spec.monotonic() if timeless else pts_of(packet)
        # The first packets of an RTSP stream may come without a time.
        latest = latest + length if known is None else known
        yield packet, latest


def is_timeless(address: Address, stream: VideoStream) -> bool:
    """Return whether the stream has no times: MJPEG over HTTP, for which FFmpeg would invent them."""
    return address.kind is SourceKind.HTTP and stream.codec_context.name == "mjpeg"
