"""From packets to frames that can be trusted.

A frame that FFmpeg marks as corrupt, and those predicted from it up to the next keyframe, are dropped and
counted: smears are neither judged nor stored. A stream with intra refresh instead of keyframes is trusted
again after `DISTRUST_S`.
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
"""Decoder options by codec. Without them, FFmpeg silently fills the missing part of a damaged JPEG with grey,
green or the frame before."""

STILLS = frozenset({"mjpeg", "png", "webp"})
"""Codecs whose packets are whole stills, with their own EXIF data."""

VideoPacket: TypeAlias = "Packet[VideoStream]"


def pts_of(packet: VideoPacket) -> float | None:
    """Return a packet's PTS in seconds, else its DTS, or None if it has neither."""
    ticks = packet.pts if packet.pts is not None else packet.dts
    return None if ticks is None else float(ticks * packet.time_base)


def time_base(stream: VideoStream) -> Fraction:
    """Return a stream's time base in seconds, 1/90000 if it has none."""
    # Since 19, PyAV has its own rational type, whose unset value may be 0/0.
    unit = stream.time_base
    return Fraction(unit.numerator, unit.denominator) if unit else Fraction(1, 90_000)


def prepare(context: VideoCodecContext, spec: CaptureSpec) -> VideoCodecContext:
    """Limit a decoder's frame size and threads, and open it. Raises CameraRefused."""
    context.options = {"max_pixels": str(spec.max_pixels), **STRICT.get(context.name, {})}
    context.thread_count = spec.threads
    if spec.threads > 1:
        context.thread_type = "AUTO"
    # Read the name before opening: after a failed open the context has no codec, and reading its name is a
    # segmentation fault (PyAV 19).
    shown = f"{context.name} {context.width}x{context.height}"
    try:
        context.open(strict=False)
    except av.FFmpegError:
        raise CameraRefused(
            f"{shown}: more than {spec.max_pixels} pixels a frame, or damaged beyond use"
        ) from None
    return context


def decoder_of(stream: VideoStream, spec: CaptureSpec) -> VideoCodecContext:
    """Return a decoder for the stream's packets, independent of the stream. Raises CameraRefused."""
    return prepare(_fresh(stream, None), spec)


def watching_decoder(stream: VideoStream, spec: CaptureSpec) -> tuple[VideoCodecContext, str | None]:
    """Return the decoder for a watched stream, and why `hwaccel` is not used, or None.

    Raises CameraRefused.
    """
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
    # Unlike the stream's own decoder, it does not know the container's display matrix.
    context = CodecContext.create(stream.codec_context.codec.name, "r", hwaccel)
    assert isinstance(context, VideoCodecContext)
    context.extradata = stream.codec_context.extradata
    return context


class Decoder:
    """Decodes one stream's packets into trusted frames. Not thread-safe.

    `container` holds the container's display parameters. Its pixel aspect ratio takes precedence over the
    codec's, a frame's own display matrix over its rotation.
    """

    def __init__(
        self,
        context: VideoCodecContext,
        time_base: Fraction,
        on_corrupt: Callable[[], None],
        *,
        container: Display = AS_CODED,
    ) -> None:
        self._context = context
        # The packets' time base: a frame that is drained from the decoder has none.
        self._time_base = time_base
        self._on_corrupt = on_corrupt
        self._container = container
        self._exif: tuple[int, bool] = (0, False)
        self._distrust_until: float | None = None

    def decode(self, packet: VideoPacket | None) -> Iterator[tuple[float | None, VideoFrame]]:
        """Yield (PTS in seconds or None, frame) for each trusted frame of `packet`; None drains the decoder.

        Raises CameraUnavailable when memory runs out.
        """
        if packet is not None:
            if packet.is_corrupt:
                self._distrust(pts_of(packet))
            if self._context.name in STILLS:
                # PyAV's stubs do not declare that a packet is a buffer.
                self._exif = by_exif(cast(memoryview, memoryview(packet)))
        try:
            frames = self._context.decode(packet)
        except av.error.EOFError:
            return
        except av.error.MemoryError:
            raise CameraUnavailable("decoding needs more memory than is available") from None
        except av.FFmpegError:
            # The error number of a damaged packet depends on the codec, so any of them counts.
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
        """Yield the frame of a keyframe's packet alone: drain the decoder, then reset it."""
        yield from self.decode(packet)
        yield from self.decode(None)
        self._context.flush_buffers()

    def restart(self) -> None:
        """Reset the decoder. The next packet must be a keyframe's."""
        self._context.flush_buffers()
        self._distrust_until = None

    def display_of(self, frame: VideoFrame) -> Display:
        """Return the display parameters of `frame`, which must be from the packet decoded last."""
        container = self._container
        turns, mirrored = self._exif
        if (turns, mirrored) == (0, False):
            turns, mirrored = self._rotation_of(frame)
        aspect = container.aspect
        if aspect == 1.0:
            aspect = aspect_of(self._context.sample_aspect_ratio)
        if not turns and not mirrored and aspect == 1.0 and container.as_coded:
            return AS_CODED
        return Display(turns, mirrored, aspect, container.crop)

    def _rotation_of(self, frame: VideoFrame) -> tuple[int, bool]:
        """Return (turns, mirrored) by the frame's own display matrix, else by the container's."""
        try:
            matrix = frame.side_data.get("DISPLAYMATRIX")
        except ValueError:
            # PyAV does not know a type among the frame's side data, such as EXIF.
            if frame.rotation and not self._container.mirrored:
                return round(-frame.rotation / 90) % 4, False
            matrix = None
        if matrix is not None:
            return by_matrix(bytes(cast(memoryview, matrix)))
        return self._container.turns, self._container.mirrored

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
