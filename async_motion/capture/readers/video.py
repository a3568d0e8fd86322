"""Reading RTSP and HTTP streams and video files with PyAV."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import cast

from av.container import InputContainer
from av.video.stream import VideoStream

from async_motion.capture.address import Address, SourceKind
from async_motion.capture.clock import PtsClock
from async_motion.capture.ffmpeg.decoding import Decoder, VideoPacket, pts_of, time_base, watching_decoder
from async_motion.capture.ffmpeg.frames import FramePicker, frame_of
from async_motion.capture.ffmpeg.streams import arrivals, frame_duration, is_timeless, open_stream, packets_of
from async_motion.capture.handover import FrameSink
from async_motion.capture.selective.activity import DetectorFeedback, KeyframeActivity
from async_motion.capture.selective.decode_modes import DecodeAll, DecodeAuto, DecodeKeyframes, DecodeMode
from async_motion.capture.selective.gop_buffer import GopBuffer
from async_motion.capture.selective.h264 import QpReader
from async_motion.capture.spec import CaptureSpec
from async_motion.errors import CameraRefused, CameraUnavailable

log = logging.getLogger(__name__)

BEHIND_S = 1.0
"""A file that is so much behind its own pace (a slow or suspended machine) goes on from where it is."""

BURST_GAP_S = 0.01
"""A packet that took longer than this to come was not lying there already."""

MAX_HELD = 256

BLIND_STALLS = 4
"""After so many stall time-outs of data without one picture, the stream counts as unreadable for now."""


@dataclass(slots=True)
class CameraMemory:
    """What is known of a camera from one connection to the next."""

    feedback: DetectorFeedback
    scene: KeyframeActivity = field(default_factory=KeyframeActivity)
    said_software: bool = False
    """Whether it was said that there is no hardware for it."""
    blind_hardware: bool = False
    """Whether the hardware took its packets and made no picture of them."""


class VideoReader:
    """Reads one connection of an RTSP or HTTP stream, or a video file over and over."""

    def __init__(self, address: Address, spec: CaptureSpec, feedback: DetectorFeedback) -> None:
        self._address = address
        self._spec = spec
        self._memory = CameraMemory(feedback)
        self._described = ""

    def __call__(self, sink: FrameSink, clock: PtsClock) -> None:
        """Read until the source ends or `sink.stopping`."""
        if self._address.kind is SourceKind.FILE:
            self._read_file(sink, clock)
        else:
            self._read_live(sink, clock)

    def _read_live(self, sink: FrameSink, clock: PtsClock) -> None:
        spec, shown = self._spec, self._address.shown
        container, stream = open_stream(self._address, spec)
        try:
            self._describe(stream)
            sink.reader_opened()
            feed = _Feed(spec, stream, sink, clock, self._memory)
            feed.trust_decoder = not is_timeless(self._address, stream)
            last_picture = spec.monotonic()
            for packet, pts, burst in _settled(self._arrivals(container, stream, sink, clock)):
                if sink.stopping:
                    return
                seen = feed.show(packet, pts, patient=burst)
                if seen:
                    last_picture = spec.monotonic()
                elif seen is False and spec.monotonic() - last_picture > BLIND_STALLS * spec.stall_timeout_s:
                    self._memory.blind_hardware = spec.hwaccel != "none"
                    raise CameraUnavailable(f"{shown}: sends data, but no picture that can be decoded")
        finally:
            container.close()
        if not sink.stopping:
            raise CameraUnavailable(f"{shown}: closed the stream")

    def _arrivals(
        self, container: InputContainer, stream: VideoStream, sink: FrameSink, clock: PtsClock
    ) -> Iterator[tuple[VideoPacket, float]]:
        """Yield each packet as it comes; tell the clock and the watchdog."""
        for packet, pts in arrivals(container, stream, self._address, self._spec):
            if clock.arrived(pts):
                sink.reader_progress()
            yield packet, pts

    def _read_file(self, sink: FrameSink, clock: PtsClock) -> None:
        spec = self._spec
        start = 0.0
        while not sink.stopping:
            container, stream = open_stream(self._address, spec)
            try:
                self._describe(stream)
                if start == 0.0:
                    sink.reader_opened()
                    clock.anchor(0.0)
                shown = self._read_once(container, stream, sink, clock, start)
            finally:
                container.close()
            if sink.stopping:
                return
            if shown is None:
                self._memory.blind_hardware = spec.hwaccel != "none"
                raise CameraRefused(f"{self._address.shown}: holds no picture that can be decoded")
            if not spec.loop:
                return
            start = shown

    def _read_once(
        self,
        container: InputContainer,
        stream: VideoStream,
        sink: FrameSink,
        clock: PtsClock,
        start: float,
    ) -> float | None:
        """Read the file through, its first picture at PTS `start`.

        Return the PTS at which the next round starts, None when nothing could be decoded.
        """
        feed = _Feed(self._spec, stream, sink, clock, self._memory)
        length = frame_duration(stream)
        latest = start - length
        seen = False
        for packet in packets_of(container, stream, self._address.shown):
            known = pts_of(packet) if packet.size else latest - (feed.shift or 0.0)
            if known is not None and feed.shift is None:
                feed.shift = start - known
            pts = latest + length if known is None else known + (feed.shift or 0.0)
            latest = max(latest, pts)
            if not sink.lossless and not self._keep_pace(pts, sink, clock):
                return None
            sink.reader_progress()
            seen = bool(feed.show(packet, pts)) or seen
            if sink.stopping:
                return None
        return latest + length if seen else None

    def _keep_pace(self, pts: float, sink: FrameSink, clock: PtsClock) -> bool:
        """Wait until `pts` is due; say whether to go on."""
        ahead = clock.due(pts) - self._spec.monotonic()
        if ahead < -BEHIND_S:
            clock.anchor(pts)
        return ahead <= 0 or sink.reader_wait(ahead)

    def _describe(self, stream: VideoStream) -> None:
        """Say once what the stream is, and again when it has become another."""
        context = stream.codec_context
        text = f"{context.name} {context.width}x{context.height}"
        if text != self._described:
            self._described = text
            log.info("%s: %s is %s", self._spec.camera, self._address.shown, text)


class _Feed:
    """From one connection's packets to the frames that are handed over."""

    def __init__(
        self, spec: CaptureSpec, stream: VideoStream, sink: FrameSink, clock: PtsClock, memory: CameraMemory
    ) -> None:
        self._spec = spec
        self._sink = sink
        self._clock = clock
        self._picker = FramePicker(spec.fps)
        self.trust_decoder = True
        """Whether the decoder's word on a picture's time counts; else its packet's does."""
        self.shift: float | None = None
        """What turns the stream's own times into ours."""
        self._codec = stream.codec_context.name
        self._view = self._look(stream, memory)

    def show(self, packet: VideoPacket, pts: float, *, patient: bool = False) -> bool | None:
        """Take a packet of PTS `pts` and offer the frames that are wanted.

        `patient`: it is part of a burst. Return whether a picture came out, None where none was looked for.
        """
        pictures = self._view.show(packet, pts)
        if pictures is None:
            return None
        seen = False
        for shown in pictures:
            seen = True
            if self._picker.wants(shown.pts):
                stamp = self._clock.stamp(shown.pts)
                frame = frame_of(self._spec.camera, stamp, shown.picture, self._codec)
                if not self._sink.reader_offer(frame, patient=patient or shown.late):
                    break
        return seen

    def _look(self, stream: VideoStream, memory: CameraMemory) -> DecodeMode:
        spec = self._spec
        if memory.blind_hardware:
            spec = replace(spec, hwaccel="none")
        context, in_software = watching_decoder(stream, spec)
        if memory.blind_hardware:
            in_software = "it makes no picture of this stream"
        if in_software and not memory.said_software:
            memory.said_software = True
            log.warning(
                "%s: hwaccel %s: %s; decoding in software", spec.camera, self._spec.hwaccel, in_software
            )
        decoder = Decoder(context, time_base(stream), self._sink.reader_corrupt)
        standalone = context.codec.intra_only
        if spec.decode == "keyframes" and not standalone:
            return DecodeKeyframes(decoder, self._time_of)
        if spec.decode == "auto" and not standalone:
            return DecodeAuto(
                decoder,
                self._time_of,
                camera=spec.camera,
                ring=GopBuffer(max_bytes=spec.ring_bytes, max_seconds=spec.ring_seconds),
                max_seconds=spec.ring_seconds,
                rate=1.0 / frame_duration(stream),
                stamp_of=self._clock.due,
                feedback=memory.feedback,
                scene=memory.scene,
                qp_of=_quantisers(stream),
            )
        return DecodeAll(decoder, self._time_of, self._picker, standalone=standalone)

    def _time_of(self, own: float | None, pts: float) -> float:
        return own + (self.shift or 0.0) if self.trust_decoder and own is not None else pts


def _quantisers(stream: VideoStream) -> Callable[[VideoPacket], int | None]:
    """Return what reads a packet's qp, where the codec is one that we can read."""
    context = stream.codec_context
    if context.name != "h264":
        return lambda _packet: None
    qps = QpReader(context.extradata)
    # PyAV's stubs do not say that a packet is a buffer.
    return lambda packet: qps.of(cast(memoryview, memoryview(packet)))


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
