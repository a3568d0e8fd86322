"""Reading RTSP and HTTP streams and video files with PyAV."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import cast

from av.video.stream import VideoStream

from async_motion.capture.address import Address, SourceKind
from async_motion.capture.clock import PtsClock
from async_motion.capture.ffmpeg.decoding import Decoder, VideoPacket, pts_of, watching_decoder
from async_motion.capture.ffmpeg.frames import FramePicker, frame_of
from async_motion.capture.ffmpeg.streams import OpenStream, open_stream
from async_motion.capture.handover import FrameSink
from async_motion.capture.http.connection import Stopped
from async_motion.capture.selective.activity import DetectorFeedback, KeyframeActivity
from async_motion.capture.selective.decode_modes import (
    DecodeAll,
    DecodeAuto,
    Decoded,
    DecodeKeyframes,
    DecodeMode,
    TimeOf,
)
from async_motion.capture.selective.gop_buffer import GopBuffer
from async_motion.capture.selective.h264 import QpReader
from async_motion.capture.spec import CaptureSpec
from async_motion.errors import CameraRefused, CameraUnavailable

log = logging.getLogger(__name__)

BEHIND_S = 1.0
"""A file that lags behind its own pace by more (a slow or suspended machine) does not catch up."""

BLIND_STALLS = 4
"""Multiple of the stall time-out after which a stream that sends data but no frame is given up."""

KEYFRAME_WAIT_S = 150.0
"""Maximum wait for the first keyframe: nothing can be decoded before it. Some streams have one a minute."""

SAY_WAITING_S = 10.0
"""Wait for the first keyframe after which a log line reports it."""

MAX_GAP_S = 10.0
"""A gap in a file's PTS above `max(MAX_GAP_S, 3 * frame_s)` is cut to the duration of one frame."""

BACK_S = 1.0
"""A file's PTS that run back further begin another recording in the same file. B-frames reorder by less."""


@dataclass(slots=True)
class CameraMemory:
    """What is remembered of a camera between its connections."""

    feedback: DetectorFeedback
    scene: KeyframeActivity = field(default_factory=KeyframeActivity)
    said_software: bool = False
    """Whether the fallback to software decoding was logged."""
    blind_hardware: bool = False
    """Whether the hardware decoder accepted packets but returned no frame."""


class VideoReader:
    """Reads one connection of an RTSP or HTTP stream, or a video file, in a loop if `spec.loop`."""

    def __init__(self, address: Address, spec: CaptureSpec, feedback: DetectorFeedback) -> None:
        self._address = address
        self._spec = spec
        self._memory = CameraMemory(feedback)
        self._described = ""

    def __call__(self, sink: FrameSink, clock: PtsClock) -> None:
        """Read until the source ends or `sink.stopping`. Raises CameraUnavailable, CameraRefused."""
        try:
            if self._address.kind is SourceKind.FILE:
                self._read_file(sink, clock)
            else:
                self._read_live(sink, clock)
        except Stopped:
            return

    def _read_live(self, sink: FrameSink, clock: PtsClock) -> None:
        spec, shown = self._spec, self._address.shown
        source = open_stream(self._address, spec, sink, sink.reader_corrupt)
        try:
            self._describe(source.stream)
            sink.reader_opened()

            def time_of(own: float | None, at: float) -> float:
                return at if own is None or source.timeless else clock.time_of(own)

            feed = _Feed(spec, source, sink, clock, self._memory, time_of)
            watch = _BlindWatch(spec, shown)
            for packet, at, late in source.arrivals(clock, sink.reader_progress):
                if sink.stopping:
                    return
                seen = feed.packet(packet, at, patient=late)
                if watch.is_blind(seen, keyframe=packet.is_keyframe):
                    self._memory.blind_hardware = spec.hwaccel != "none" and watch.keyed
                    raise CameraUnavailable(f"{shown}: {watch.problem}")
        finally:
            source.close()
        if not sink.stopping:
            raise CameraUnavailable(f"{shown}: closed the stream")

    def _read_file(self, sink: FrameSink, clock: PtsClock) -> None:
        spec = self._spec
        timeline = FileTimeline()
        while not sink.stopping:
            source = open_stream(self._address, spec, sink)
            try:
                self._describe(source.stream)
                if not timeline.begun:
                    sink.reader_opened()
                    clock.anchor(0.0)
                timeline.begin(source.frame_s)
                seen = self._read_once(source, sink, clock, timeline)
            finally:
                source.close()
            if sink.stopping:
                return
            if not seen:
                self._memory.blind_hardware = spec.hwaccel != "none"
                raise CameraRefused(f"{self._address.shown}: holds no frame that can be decoded")
            if not spec.loop:
                return

    def _read_once(
        self, source: OpenStream, sink: FrameSink, clock: PtsClock, timeline: FileTimeline
    ) -> bool:
        """Read the file once; return whether any frame could be decoded."""

        def time_of(own: float | None, at: float) -> float:
            return at if own is None else clock.due(timeline.known(own))

        feed = _Feed(self._spec, source, sink, clock, self._memory, time_of)
        seen = False
        for packet in source.packets():
            played = timeline.next(pts_of(packet))
            if not sink.lossless and not self._keep_pace(played, sink, clock):
                return seen
            sink.reader_progress()
            seen = bool(feed.packet(packet, clock.due(played))) or seen
            if sink.stopping:
                return seen
        return feed.finish(clock.due(timeline.newest)) or seen

    def _keep_pace(self, played: float, sink: FrameSink, clock: PtsClock) -> bool:
        """Wait until `played` is due; return whether to go on."""
        ahead = clock.due(played) - self._spec.monotonic()
        if ahead < -BEHIND_S:
            clock.anchor(played)
        return ahead <= 0 or sink.reader_wait(ahead)

    def _describe(self, stream: VideoStream) -> None:
        """Log the stream's codec and size, once and after each change."""
        context = stream.codec_context
        text = f"{context.name} {context.width}x{context.height}"
        if text != self._described:
            self._described = text
            log.info("%s: %s is %s", self._spec.camera, self._address.shown, text)


class FileTimeline:
    """Maps a file's PTS to seconds of playback, over all loops, without discontinuities."""

    def __init__(self) -> None:
        self.begun = False
        self.newest = 0.0
        """The latest playback time, in seconds."""
        self._shift: float | None = None
        self._frame_s = 0.0
        self._shifts: dict[float, float] = {}
        """The shifts of recent packets by PTS: a decoder may hold frames back across a discontinuity."""

    def begin(self, frame_s: float) -> None:
        """Start a loop. `frame_s` is the duration of one frame, in seconds."""
        if not self.begun:
            self.newest = -frame_s
        self.begun, self._frame_s, self._shift = True, frame_s, None
        self._shifts.clear()

    def next(self, pts: float | None) -> float:
        """Return the playback time of a packet, in seconds; without a PTS it follows the packet before."""
        following = self.newest + self._frame_s
        if pts is None:
            played = following
        else:
            shift = self._shift
            gap = 0.0 if shift is None else pts + shift - self.newest
            if shift is None or gap > max(MAX_GAP_S, 3 * self._frame_s) or gap < -BACK_S:
                shift = self._shift = following - pts
            played = pts + shift
            self._shifts[pts] = shift
            if len(self._shifts) > 1024:
                del self._shifts[next(iter(self._shifts))]
        self.newest = max(self.newest, played)
        return played

    def known(self, pts: float) -> float:
        """Return the playback time, in seconds, of a frame whose packet was passed to `next`."""
        return pts + self._shifts.get(pts, self._shift or 0.0)


class _BlindWatch:
    """Detects a live stream that sends data for too long without a frame."""

    def __init__(self, spec: CaptureSpec, shown: str) -> None:
        self._spec = spec
        self._shown = shown
        self._began = spec.monotonic()
        self._failing_since: float | None = None
        self._said = False
        self.keyed = False
        """Whether a keyframe has come."""

    @property
    def problem(self) -> str:
        """What is wrong."""
        if self.keyed:
            return "sends data, but no frame that can be decoded"
        return f"sent no keyframe within {KEYFRAME_WAIT_S:.0f} s"

    def is_blind(self, seen: bool | None, *, keyframe: bool) -> bool:
        """Return whether the stream is blind. `seen`: a packet gave a frame; None: it was not decoded."""
        now = self._spec.monotonic()
        if seen or (keyframe and not self.keyed):
            self.keyed = True
            self._failing_since = None
        if self.keyed:
            if seen is False and self._failing_since is None:
                self._failing_since = now
            limit_s = BLIND_STALLS * self._spec.stall_timeout_s
            return self._failing_since is not None and now - self._failing_since > limit_s
        waited_s = now - self._began
        if waited_s > SAY_WAITING_S and not self._said:
            self._said = True
            log.info("%s: %s: waiting for a keyframe", self._spec.camera, self._shown)
        return waited_s > KEYFRAME_WAIT_S


class _Feed:
    """Decodes one connection's packets, and hands the chosen frames over."""

    def __init__(
        self,
        spec: CaptureSpec,
        source: OpenStream,
        sink: FrameSink,
        clock: PtsClock,
        memory: CameraMemory,
        time_of: TimeOf,
    ) -> None:
        self._spec = spec
        self._sink = sink
        self._clock = clock
        self._picker = FramePicker(spec.fps)
        self._codec = source.stream.codec_context.name
        self._mode = self._mode_of(source, memory, time_of)

    def packet(self, packet: VideoPacket, at: float, *, patient: bool = False) -> bool | None:
        """Decode a packet whose frame was captured at `at` (monotonic), and offer the chosen frames.

        `patient`: it is part of a burst. Return whether a frame was decoded, None if the packet was skipped.
        """
        frames = self._mode.feed(packet, at)
        if frames is None:
            return None
        return self._offer(frames, patient)

    def finish(self, at: float) -> bool:
        """Offer the frames that the decoder still holds; return whether there were any."""
        return self._offer(self._mode.finish(at), patient=False)

    def _offer(self, frames: Iterable[Decoded], patient: bool) -> bool:
        seen = False
        for decoded in frames:
            seen = True
            if self._picker.wants(decoded.at):
                frame = frame_of(
                    self._spec.camera,
                    self._clock.stamp(decoded.at),
                    decoded.frame,
                    max_pixels=self._spec.max_pixels,
                    codec=self._codec,
                    display=decoded.display,
                )
                if not self._sink.reader_offer(frame, patient=patient or decoded.late):
                    break
        return seen

    def _mode_of(self, source: OpenStream, memory: CameraMemory, time_of: TimeOf) -> DecodeMode:
        spec, stream = self._spec, source.stream
        if memory.blind_hardware:
            spec = replace(spec, hwaccel="none")
        context, in_software = watching_decoder(stream, spec)
        if memory.blind_hardware:
            in_software = "it decodes nothing of this stream"
        if in_software and not memory.said_software:
            memory.said_software = True
            log.warning(
                "%s: hwaccel %s: %s; decoding in software", spec.camera, self._spec.hwaccel, in_software
            )
        decoder = Decoder(context, source.time_base, self._sink.reader_corrupt, container=source.display)
        intra_only = context.codec.intra_only
        if spec.decode == "keyframes" and not intra_only:
            return DecodeKeyframes(decoder, time_of)
        if spec.decode == "auto" and not intra_only:
            return DecodeAuto(
                decoder,
                time_of,
                camera=spec.camera,
                buffer=GopBuffer(max_bytes=spec.ring_bytes, max_seconds=spec.ring_seconds),
                max_seconds=spec.ring_seconds,
                rate=1.0 / source.frame_s,
                feedback=memory.feedback,
                scene=memory.scene,
                qp_of=_qp_of(stream),
            )
        return DecodeAll(decoder, time_of, self._picker, intra_only=intra_only)


def _qp_of(stream: VideoStream) -> Callable[[VideoPacket], int | None]:
    """Return a function that returns a packet's QP, or None for codecs other than H.264."""
    context = stream.codec_context
    if context.name != "h264":
        return lambda _packet: None
    reader = QpReader(context.extradata)
    # PyAV's stubs do not declare that a packet is a buffer.
    return lambda packet: reader.of(cast(memoryview, memoryview(packet)))
