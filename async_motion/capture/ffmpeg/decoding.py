"""From packets to frames that can be trusted.

A frame that FFmpeg marks as corrupt, and those after it up to the next keyframe, which are predicted from it,
are dropped and counted: smears are neither judged nor stored. A stream that refreshes itself without
keyframes is trusted again after `DISTRUST_S`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import TypeAlias, cast

import av
from av.codec import CodecContext
from av.codec.hwaccel import HWAccel, hwdevices_available
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from async_motion.capture.display import AS_CODED, Display, aspect_of, by_exif, by_matrix
from async_motion.capture.spec import CaptureSpec
from async_motion.errors import CameraRefused, CameraUnavailable

DISTRUST_S = 5.0

STRICT = {"mjpeg": {"err_detect": "explode"}}
"""By codec. FFmpeg shows a damaged JPEG's missing part as grey, green or of the frame before, without a
word."""

VideoPacket: TypeAlias = "Packet[VideoStream]"


def pts_of(packet: VideoPacket) -> float | None:
    """Return a packet's PTS in seconds, its DTS without one, or None where the stream has neither."""
    ticks = packet.pts if packet.pts is not None else packet.dts
    return None if ticks is None else float(ticks * packet.time_base)


def time_base(stream: VideoStream) -> Fraction:
    """Return the unit of a stream's times, in seconds."""
    # PyAV has a rational type of its own since 19, whose "unset" may be 0/0.
    unit = stream.time_base
    return Fraction(unit.numerator, unit.denominator) if unit else Fraction(1, 90_000)


def prepare(context: VideoCodecContext, spec: CaptureSpec) -> VideoCodecContext:
    """Bound what a decoder may take, and open it. Raises CameraRefused."""
    context.options = {"max_pixels": str(spec.max_pixels), **STRICT.get(context.name, {})}
    context.thread_count = spec.threads
    if spec.threads > 1:
        context.thread_type = "AUTO"
    # Read before it is opened: a context that failed to open no longer has a codec, and asking it for the
    # name is a segmentation fault (PyAV 19).
    shown = f"{context.name} {context.width}x{context.height}"
    try:
        context.open(strict=False)
    except av.FFmpegError:
        raise CameraRefused(
            f"{shown}: more than {spec.max_pixels} pixels a frame, or damaged beyond use"
        ) from None
    return context


def decoder_of(stream: VideoStream, spec: CaptureSpec) -> VideoCodecContext:
    """Return a decoder for the stream's packets that shares nothing with the stream. Raises CameraRefused."""
    return prepare(_fresh(stream, None), spec)


def watching_decoder(stream: VideoStream, spec: CaptureSpec) -> tuple[VideoCodecContext, str | None]:
    """Return the decoder for a watched stream, and why it is not the hardware's where that was asked for."""
    if spec.hwaccel == "none":
        return prepare(stream.codec_context, spec), None
    if spec.hwaccel not in hwdevices_available():
        return prepare(stream.codec_context, spec), "this build of FFmpeg has no such devices"
    try:
        context = _fresh(stream, HWAccel(spec.hwaccel, allow_software_fallback=True))
        if context.is_hwaccel:
            return prepare(context, spec), None
        reason = f"it does not decode {context.name}"
    except (av.FFmpegError, ValueError, RuntimeError, NotImplementedError) as exc:
        reason = f"no such device ({type(exc).__name__})"
    return prepare(stream.codec_context, spec), reason


def _fresh(stream: VideoStream, hwaccel: HWAccel | None) -> VideoCodecContext:
    context = CodecContext.create(stream.codec_context.codec.name, "r", hwaccel)
    assert isinstance(context, VideoCodecContext)
    context.extradata = stream.codec_context.extradata
    return context


class Decoder:
    """Decode one stream's packets into trusted frames. For one thread.

    `aspect` is the container's pixel aspect ratio, which goes before the codec's.
    """

    def __init__(
        self,
        context: VideoCodecContext,
        time_base: Fraction,
        on_corrupt: Callable[[], None],
        *,
        aspect: float = 1.0,
    ) -> None:
        self._context = context
        # Of the packets: a frame that is drained from the decoder does not know it.
        self._time_base = time_base
        self._on_corrupt = on_corrupt
        self._aspect = aspect
        self._exif: tuple[int, bool] = (0, False)
        self._distrust_until: float | None = None

    def decode(self, packet: VideoPacket | None) -> Iterator[tuple[float | None, VideoFrame]]:
        """Yield (PTS in seconds, frame) for what `packet` completes; None drains what is held back.

        Raises CameraUnavailable when there is no memory for it.
        """
        if packet is not None:
            if packet.is_corrupt:
                self._distrust(pts_of(packet))
            if self._context.name == "mjpeg":
                # In PyAV's stubs a packet is no buffer.
                self._exif = by_exif(cast(memoryview, memoryview(packet)))
        try:
            frames = self._context.decode(packet)
        except av.error.EOFError:
            return
        except av.error.MemoryError:
            raise CameraUnavailable("decoding needs more memory than there is") from None
        except av.FFmpegError:
            # Which error number a damaged packet makes of itself depends on the codec: any of them.
            self._on_corrupt()
            self._distrust(pts_of(packet) if packet is not None else None)
            return
        for frame in frames:
            pts = None if frame.pts is None else float(frame.pts * self._time_base)
            if self._is_trusted(frame, pts):
                yield pts, frame
            else:
                self._on_corrupt()

    def single(self, packet: VideoPacket) -> Iterator[tuple[float | None, VideoFrame]]:
        """Yield the frame of a keyframe's packet by itself: the decoder holds nothing back and restarts."""
        yield from self.decode(packet)
        yield from self.decode(None)
        self._context.flush_buffers()

    def restart(self) -> None:
        """Forget all that came before: the next packet is a keyframe's."""
        self._context.flush_buffers()
        self._distrust_until = None

    def display_of(self, frame: VideoFrame) -> Display:
        """Return how the frame that was decoded last is to be shown."""
        turns, mirrored = self._exif
        try:
            matrix = frame.side_data.get("DISPLAYMATRIX")
        except ValueError:
            # PyAV does not know the type of one of the frame's side data, such as EXIF's.
            matrix = None
            if self._context.name != "mjpeg":
                turns, mirrored = round(-frame.rotation / 90) % 4, False
        if matrix is not None:
            turns, mirrored = by_matrix(bytes(cast(memoryview, matrix)))
        aspect = self._aspect if self._aspect != 1.0 else aspect_of(self._context.sample_aspect_ratio)
        if not turns and not mirrored and aspect == 1.0:
            return AS_CODED
        return Display(turns, mirrored, aspect)

    def _distrust(self, pts: float | None) -> None:
        self._distrust_until = float("inf") if pts is None else pts + DISTRUST_S

    def _is_trusted(self, frame: VideoFrame, pts: float | None) -> bool:
        if frame.is_corrupt:
            self._distrust(pts)
            return False
        if self._distrust_until is None:
            return True
        if frame.key_frame or (pts is not None and pts >= self._distrust_until):
            self._distrust_until = None
            return True
        return False
