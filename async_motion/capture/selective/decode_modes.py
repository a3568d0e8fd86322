"""Which packets are decoded: `all`, `keyframes`, or `auto`, which decodes as few as possible.

A mode takes one connection's packets in order and yields the frames that they complete, each later than the
one before. All times are in our monotonic clock (see `clock`), so that errors in the camera's timestamps do
not reach a mode.

`auto` (`DecodeAuto`) decodes only an occasional keyframe while nothing happens, and buffers the packets since
the last one. At the first sign, in the weight of the packets or in a keyframe, it decodes the buffered
packets, so that the detector gets the same frames as with `all`. It decodes everything until no frame was
interesting for `HOLD_S`, and idles again from the next keyframe on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

from av.video.frame import VideoFrame

from async_motion.capture.display import Display
from async_motion.capture.ffmpeg.decoding import Decoder, VideoPacket
from async_motion.capture.ffmpeg.frames import FramePicker, luma_of
from async_motion.capture.selective.activity import DetectorFeedback, KeyframeActivity, PacketActivity
from async_motion.capture.selective.gop_buffer import GopBuffer

log = logging.getLogger(__name__)

START_S = 10.0
"""How long everything is decoded at first: the detector learns the scene, the evidence what is usual."""

HOLD_S = 2.0
"""How long everything is decoded after the last interesting frame."""

WAKE_S = 1.0
"""How long everything is decoded after a sign in which the detector finds nothing."""

LOOK_S = 1.0
"""The interval between looks at the scene while everything is decoded."""

IDLE_LOOK_S, BLIND_LOOK_S = 1.9, 0.9
"""The minimum interval between looks while idling: if the packets would show motion, and if not."""

BLIND_S = 2.1
"""Keyframes at most this far apart are evidence enough where the QP is known. Otherwise the packets must show
motion too: at a constant bit rate, sizes alone may not even show that a third of the image has changed."""


class Decoded(NamedTuple):
    """A decoded frame, the monotonic time at which it was captured, and its display parameters.

    `late`: it arrived in a burst, later than it was captured.
    """

    at: float
    frame: VideoFrame
    display: Display
    late: bool = False


TimeOf = Callable[[float | None, float], float]
"""(a frame's own PTS, the time of the packet fed last) -> the monotonic time of the frame's capture."""


class DecodeMode(Protocol):
    """Decides what is decoded."""

    def feed(self, packet: VideoPacket, at: float) -> Iterator[Decoded] | None:
        """Take a packet whose frame was captured at `at` (monotonic).

        Return the frames that it completes, None if it is not decoded.
        """

    def finish(self, at: float) -> Iterator[Decoded]:
        """Return the frames that the decoder still holds at the end of the stream."""


class DecodeAll:
    """Mode `all`. Of an intra-only codec, only the frames that the picker wants are decoded."""

    def __init__(self, decoder: Decoder, time_of: TimeOf, picker: FramePicker, *, intra_only: bool) -> None:
        self._decoder = decoder
        self._time_of = time_of
        self._picker = picker
        self._intra_only = intra_only

    def feed(self, packet: VideoPacket, at: float) -> Iterator[Decoded] | None:
        """Decode the packet."""
        if self._intra_only and not self._picker.would_want(at):
            return None
        return self._decode(packet, at)

    def finish(self, at: float) -> Iterator[Decoded]:
        """Drain the decoder."""
        return self._decode(None, at)

    def _decode(self, packet: VideoPacket | None, at: float) -> Iterator[Decoded]:
        for own, frame in self._decoder.decode(packet):
            yield Decoded(self._time_of(own, at), frame, self._decoder.display_of(frame))


class DecodeKeyframes:
    """Mode `keyframes`: other packets are not even parsed."""

    def __init__(self, decoder: Decoder, time_of: TimeOf) -> None:
        self._decoder = decoder
        self._time_of = time_of

    def feed(self, packet: VideoPacket, at: float) -> Iterator[Decoded] | None:
        """Decode the packet if it is a keyframe's."""
        return self._decode(packet, at) if packet.is_keyframe else None

    def finish(self, at: float) -> Iterator[Decoded]:
        """Return nothing: no frame is held back."""
        del at
        return iter(())

    def _decode(self, packet: VideoPacket, at: float) -> Iterator[Decoded]:
        for own, frame in self._decoder.single(packet):
            yield Decoded(self._time_of(own, at), frame, self._decoder.display_of(frame))


class DecodeAuto:
    """Mode `auto`. `rate` is the stream's, in packets a second."""

    def __init__(
        self,
        decoder: Decoder,
        time_of: TimeOf,
        *,
        camera: str,
        buffer: GopBuffer,
        max_seconds: float,
        rate: float,
        feedback: DetectorFeedback,
        scene: KeyframeActivity,
        qp_of: Callable[[VideoPacket], int | None],
    ) -> None:
        self._decoder = decoder
        self._time_of = time_of
        self._camera = camera
        self._buffer = buffer
        self._max_seconds = max_seconds
        self._feedback = feedback
        self._scene = scene
        self._weights = PacketActivity(rate)
        self._qp_of = qp_of
        self._position = 0
        self._has_qp = False
        """Whether the QP of any packet between keyframes was known; that of a B slice never is."""
        self._awake = True
        self._awake_until: float | None = None
        self._woken_from: float | None = None
        self._woken_by: KeyframeActivity | PacketActivity | None = None
        self._looked = float("-inf")
        self._anchor = float("-inf")
        """The time of the keyframe decoded last while idling; later packets were not decoded."""
        self._newest = float("-inf")
        """The time of the newest frame that was yielded."""
        self._keyed = False
        """Whether a keyframe has arrived: nothing can be buffered before it."""
        self._too_long = False
        self._gop_s = float("inf")
        """The duration of the last GOP."""
        self.woken = 0
        """The number of times that it was woken, for tuning."""

    def feed(self, packet: VideoPacket, at: float) -> Iterator[Decoded] | None:
        """Decode the packet, or buffer it for later."""
        if self._awake_until is None:
            self._awake_until = at + START_S
        return self._keyframe(packet, at) if packet.is_keyframe else self._between(packet, at)

    def finish(self, at: float) -> Iterator[Decoded]:
        """Drain the decoder."""
        return self._drain(at) if self._awake else iter(())

    def _keyframe(self, packet: VideoPacket, at: float) -> Iterator[Decoded]:
        self._position = 0
        self._keyed = True
        self._weights.key(packet.size, self._qp_of(packet))
        before = self._buffer.current()
        if before is not None:
            self._gop_s = at - before.start
        self._buffer.add(at, packet)
        if self._awake:
            if not self._may_rest(at):
                yield from self._decode(packet, at)
                return
            # Frames that the decoder still holds back belong to the GOP that ends here.
            yield from self._drain(at)
            self._rest(at)
        elif self._too_long:
            self._wake(at, at)
            self._decoder.restart()
            yield from self._decode(packet, at)
            return
        elif at - self._anchor < (IDLE_LOOK_S if self._weights.tell else BLIND_LOOK_S):
            return
        frames = list(self._decode_single(packet, at))
        signs = [self._scene.look(luma_of(decoded.frame)) for decoded in frames]
        since, self._anchor = self._anchor, at
        if not any(signs) and self._shows_motion():
            yield from self._newer(iter(frames))
            return
        self._wake(at, since, self._scene if any(signs) else None)
        yield from self._replay(since, at)

    def _between(self, packet: VideoPacket, at: float) -> Iterator[Decoded] | None:
        self._position += 1
        kept = self._buffer.add(at, packet)
        gop = self._buffer.current()
        if gop is None or not kept or self._is_too_long(gop.start, at):
            self._give_up()
        qp = self._qp_of(packet)
        self._has_qp |= qp is not None
        if self._awake:
            quiet = self._is_dull(at)
            self._weights.weigh(packet.size, self._position, quiet=quiet, qp=qp)
            return self._decode(packet, at)
        sign = self._weights.weigh(packet.size, self._position, quiet=None, qp=qp)
        if gop is None or not (sign or self._too_long):
            return None
        self._wake(at, self._anchor, self._weights if sign else None)
        return self._replay(self._anchor, at)

    def _is_too_long(self, start: float, at: float) -> bool:
        """Return whether the GOP outgrows the buffer: a later sign could not be decoded."""
        return self._buffer.is_tight or at - start > self._max_seconds

    def _give_up(self) -> None:
        """Decode everything from now on: this stream's GOPs do not fit into the buffer."""
        if not self._too_long and self._keyed:
            self._too_long = True
            log.info("%s: keyframes are too far apart to idle; decoding all", self._camera)

    # Waking and resting.

    def _wake(self, at: float, since: float, by: KeyframeActivity | PacketActivity | None = None) -> None:
        """Decode everything from now on, beginning with the packets buffered since `since`. `by` woke us."""
        self._awake = True
        self.woken += 1
        self._woken_from, self._woken_by = since, by
        self._awake_until = at + (WAKE_S if self._feedback.has_reported else HOLD_S)

    def _may_rest(self, at: float) -> bool:
        """Return whether no frame was interesting for long enough."""
        if self._too_long or (self._awake_until is not None and at < self._awake_until):
            return False
        if not self._shows_motion():
            return False
        return not self._feedback.has_reported or self._is_dull(at)

    def _shows_motion(self) -> bool:
        """Return whether motion would be noticed without decoding everything."""
        return self._weights.tell or (self._has_qp and self._gop_s <= BLIND_S)

    def _is_dull(self, at: float) -> bool:
        """Return whether the detector has found nothing for `HOLD_S`."""
        return self._feedback.has_reported and at - self._feedback.latest >= HOLD_S

    def _rest(self, at: float) -> None:
        """Idle from the keyframe at `at` on, and learn whether the sign that woke us was false."""
        self._awake = False
        self._anchor = at
        since = float("inf") if self._woken_from is None else self._woken_from
        meaningless = self._feedback.latest < since <= self._feedback.heard
        for evidence in (self._scene, self._weights):
            if meaningless and evidence is self._woken_by:
                evidence.forgive()
            else:
                evidence.explained()

    # Decoding.

    def _decode(self, packet: VideoPacket, at: float) -> Iterator[Decoded]:
        for own, frame in self._decoder.decode(packet):
            captured = self._time_of(own, at)
            if captured > self._newest:
                self._newest = captured
                self._glance(frame, captured)
                yield Decoded(captured, frame, self._decoder.display_of(frame))

    def _glance(self, frame: VideoFrame, at: float) -> None:
        """Look at the scene every `LOOK_S` while awake, to keep learning it; a sign may keep us awake."""
        if at - self._looked < LOOK_S:
            return
        self._looked = at
        if (
            self._scene.look(luma_of(frame))
            and not self._feedback.has_reported
            and self._awake_until is not None
        ):
            self._awake_until = max(self._awake_until, at + HOLD_S)

    def _decode_single(self, packet: VideoPacket, at: float) -> Iterator[Decoded]:
        for own, frame in self._decoder.single(packet):
            yield Decoded(self._time_of(own, at), frame, self._decoder.display_of(frame))

    def _replay(self, since: float, until: float) -> Iterator[Decoded]:
        """Decode all packets buffered from the keyframe at `since` on; those before `until` are late."""
        self._decoder.restart()
        for gop in self._buffer.since(since):
            for kept in list(gop.packets):
                late = kept.at < until
                for own, frame in self._decoder.decode(kept.packet):
                    display = self._decoder.display_of(frame)
                    one = Decoded(self._time_of(own, kept.at), frame, display, late)
                    yield from self._newer(iter([one]))

    def _drain(self, at: float) -> Iterator[Decoded]:
        for own, frame in self._decoder.decode(None):
            one = Decoded(self._time_of(own, at), frame, self._decoder.display_of(frame))
            yield from self._newer(iter([one]))
        self._decoder.restart()

    def _newer(self, frames: Iterator[Decoded]) -> Iterator[Decoded]:
        """Yield only the frames that are newer than all yielded before."""
        for decoded in frames:
            if decoded.at > self._newest:
                self._newest = decoded.at
                yield decoded
