"""Which packets are decoded: `all`, `keyframes`, or `auto`, which is as few as it can do with.

A view is fed one connection's packets in their order and yields the pictures that they complete, each later
than the one before.

`auto` (`DecodeAuto`) looks only at a keyframe now and then while nothing happens, and keeps the packets
since the last one. At the first sign, in the weight of the packets or in a keyframe, it decodes what it
has kept, so that the detector gets the very pictures that `all` would have given it. It goes on in full until
nothing has been worth a look for `HOLD_S`, and idles again from the next keyframe on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

from av.video.frame import VideoFrame

from async_motion.capture.ffmpeg.decoding import Decoder, VideoPacket
from async_motion.capture.ffmpeg.frames import FramePicker, luma_of
from async_motion.capture.selective.activity import DetectorFeedback, KeyframeActivity, PacketActivity
from async_motion.capture.selective.gop_buffer import GopBuffer

log = logging.getLogger(__name__)

START_S = 10.0
"""Everything is decoded at first: the detector learns the scene, and the evidence what is usual."""

HOLD_S = 2.0
"""How long all is decoded after the last thing that was worth a look."""

WAKE_S = 1.0
"""How long it is after a sign that meant nothing to the detector."""

LOOK_S = 1.0
"""How often the scene is looked at while all is decoded."""

IDLE_LOOK_S, BLIND_LOOK_S = 1.9, 0.9
"""How often it is while idling, at the next keyframe: where the packets would tell, and where not."""

BLIND_S = 2.1
"""Keyframes this close to each other are evidence enough. Further apart, the packets must tell too."""


class Decoded(NamedTuple):
    """A decoded picture: its PTS, and whether it comes in a burst, later than it was filmed."""

    pts: float
    picture: VideoFrame
    late: bool = False


TimeOf = Callable[[float | None, float], float]
"""(the decoder's own time of a picture, its packet's PTS) -> PTS"""


class DecodeMode(Protocol):
    """Decides what is decoded."""

    def show(self, packet: VideoPacket, pts: float) -> Iterator[Decoded] | None:
        """Take a packet (an empty one ends the stream); return its pictures, None if none was looked for."""


class DecodeAll:
    """`all`. Of codecs in which every picture stands alone, only those that are wanted are decoded."""

    def __init__(self, decoder: Decoder, time_of: TimeOf, picker: FramePicker, *, standalone: bool) -> None:
        self._decoder = decoder
        self._time_of = time_of
        self._picker = picker
        self._standalone = standalone

    def show(self, packet: VideoPacket, pts: float) -> Iterator[Decoded] | None:
        """Decode the packet."""
        if self._standalone and packet.size and not self._picker.would_want(pts):
            return None
        return self._decode(packet, pts)

    def _decode(self, packet: VideoPacket, pts: float) -> Iterator[Decoded]:
        for own, picture in self._decoder.decode(packet if packet.size else None):
            yield Decoded(self._time_of(own, pts), picture)


class DecodeKeyframes:
    """`keyframes`: the others are not even looked at."""

    def __init__(self, decoder: Decoder, time_of: TimeOf) -> None:
        self._decoder = decoder
        self._time_of = time_of

    def show(self, packet: VideoPacket, pts: float) -> Iterator[Decoded] | None:
        """Decode the packet if it is a keyframe."""
        return self._decode(packet, pts) if packet.size and packet.is_keyframe else None

    def _decode(self, packet: VideoPacket, pts: float) -> Iterator[Decoded]:
        for own, picture in self._decoder.single(packet):
            yield Decoded(self._time_of(own, pts), picture)


class DecodeAuto:
    """`auto`."""

    def __init__(
        self,
        decoder: Decoder,
        time_of: TimeOf,
        *,
        camera: str,
        ring: GopBuffer,
        max_seconds: float,
        rate: float,
        stamp_of: Callable[[float], float],
        feedback: DetectorFeedback,
        scene: KeyframeActivity,
        qp_of: Callable[[VideoPacket], int | None],
    ) -> None:
        self._decoder = decoder
        self._time_of = time_of
        self._camera = camera
        self._ring = ring
        self._max_seconds = max_seconds
        self._stamp_of = stamp_of
        """PTS to the monotonic time in which `feedback` is told."""
        self._feedback = feedback
        self._scene = scene
        self._weights = PacketActivity(rate)
        self._quantiser_of = qp_of
        self._position = 0
        self._awake = True
        self._awake_until: float | None = None
        self._woken_from: float | None = None
        self._woken_by: KeyframeActivity | PacketActivity | None = None
        self._looked = float("-inf")
        self._anchor = float("-inf")
        """The keyframe that was looked at last while idling: what came after it was not decoded."""
        self._shown = float("-inf")
        self._keyed = False
        """Whether a keyframe has come: before it nothing can be kept."""
        self._too_long = False
        self._length = float("inf")
        """How long the last GOP was."""
        self.woken = 0
        """How often it was woken: a figure for tuning."""

    def show(self, packet: VideoPacket, pts: float) -> Iterator[Decoded] | None:
        """Decode the packet, or keep it for later."""
        if self._awake_until is None:
            self._awake_until = pts + START_S
        if not packet.size:
            return self._drain(pts) if self._awake else None
        if packet.is_keyframe:
            return self._key(packet, pts)
        return self._between(packet, pts)

    def _key(self, packet: VideoPacket, pts: float) -> Iterator[Decoded]:
        self._position = 0
        self._keyed = True
        self._weights.key(packet.size, self._quantiser_of(packet))
        before = self._ring.current()
        if before is not None:
            self._length = pts - before.start
        self._ring.add(pts, packet)
        if self._awake:
            if not self._may_rest(pts):
                yield from self._decode(packet, pts)
                return
            # Pictures that the decoder still holds back belong to the group that ends here.
            yield from self._drain(pts)
            self._rest(pts)
        elif self._too_long:
            self._wake(pts, pts)
            self._decoder.restart()
            yield from self._decode(packet, pts)
            return
        elif pts - self._anchor < (IDLE_LOOK_S if self._weights.tell else BLIND_LOOK_S):
            return
        pictures = list(self._decode_single(packet, pts))
        signs = [self._scene.look(luma_of(shown.picture)) for shown in pictures]
        since, self._anchor = self._anchor, pts
        if not any(signs):
            yield from self._newer(iter(pictures))
            return
        self._wake(pts, since, self._scene)
        yield from self._replay(since, pts)

    def _between(self, packet: VideoPacket, pts: float) -> Iterator[Decoded] | None:
        self._position += 1
        kept = self._ring.add(pts, packet)
        group = self._ring.current()
        if group is None or not kept or self._is_too_long(group.start, pts):
            self._give_up()
        qp = self._quantiser_of(packet)
        if self._awake:
            quiet = self._is_dull(pts)
            self._weights.weigh(packet.size, self._position, quiet=quiet, qp=qp)
            return self._decode(packet, pts)
        sign = self._weights.weigh(packet.size, self._position, quiet=None, qp=qp)
        if group is None or not (sign or self._too_long):
            return None
        self._wake(pts, self._anchor, self._weights if sign else None)
        return self._replay(self._anchor, pts)

    def _is_too_long(self, start: float, pts: float) -> bool:
        """Return whether the group outgrows the ring: then nothing could be decoded at a later sign."""
        return self._ring.is_tight or pts - start > self._max_seconds

    def _give_up(self) -> None:
        """Decode in full for good: this stream's groups do not fit into the ring."""
        if not self._too_long and self._keyed:
            self._too_long = True
            log.info("%s: too long between keyframes to idle: all is decoded", self._camera)

    # Waking and resting.

    def _wake(self, pts: float, since: float, by: KeyframeActivity | PacketActivity | None = None) -> None:
        """Decode in full from now on, beginning with the pictures kept `since`, for a sign in `by`."""
        self._awake = True
        self.woken += 1
        self._woken_from, self._woken_by = since, by
        self._awake_until = pts + (WAKE_S if self._feedback.told else HOLD_S)

    def _may_rest(self, pts: float) -> bool:
        """Return whether nothing has been worth a look for long enough."""
        if self._too_long or (self._awake_until is not None and pts < self._awake_until):
            return False
        if self._length > BLIND_S and not self._weights.tell:
            return False
        return not self._feedback.told or self._is_dull(pts)

    def _is_dull(self, pts: float) -> bool:
        """Return whether the detector has found nothing recently."""
        return self._feedback.told and self._stamp_of(pts) - self._feedback.latest >= HOLD_S

    def _rest(self, pts: float) -> None:
        """Idle from the keyframe `pts` on, and learn whether the sign that woke us meant anything."""
        self._awake = False
        self._anchor = pts
        since = float("inf") if self._woken_from is None else self._stamp_of(self._woken_from)
        meaningless = self._feedback.latest < since <= self._feedback.heard
        for evidence in (self._scene, self._weights):
            if meaningless and evidence is self._woken_by:
                evidence.forgive()
            else:
                evidence.explained()

    # Decoding.

    def _decode(self, packet: VideoPacket, pts: float) -> Iterator[Decoded]:
        for own, picture in self._decoder.decode(packet):
            at = self._time_of(own, pts)
            if at > self._shown:
                self._shown = at
                self._glance(picture, at)
                yield Decoded(at, picture)

    def _glance(self, picture: VideoFrame, pts: float) -> None:
        """Look at the scene now and then while awake: it must stay known, and may tell us to stay."""
        if pts - self._looked < LOOK_S:
            return
        self._looked = pts
        if self._scene.look(luma_of(picture)) and not self._feedback.told and self._awake_until is not None:
            self._awake_until = max(self._awake_until, pts + HOLD_S)

    def _decode_single(self, packet: VideoPacket, pts: float) -> Iterator[Decoded]:
        for own, picture in self._decoder.single(packet):
            yield Decoded(self._time_of(own, pts), picture)

    def _replay(self, since: float, until: float) -> Iterator[Decoded]:
        """Decode all that was kept from the keyframe `since` on; the newest is shown as it comes."""
        self._decoder.restart()
        for group in self._ring.since(since):
            for kept in list(group.packets):
                late = kept.pts < until
                for own, picture in self._decoder.decode(kept.packet):
                    yield from self._newer(iter([Decoded(self._time_of(own, kept.pts), picture, late=late)]))

    def _drain(self, pts: float) -> Iterator[Decoded]:
        for own, picture in self._decoder.decode(None):
            yield from self._newer(iter([Decoded(self._time_of(own, pts), picture)]))
        self._decoder.restart()

    def _newer(self, pictures: Iterator[Decoded]) -> Iterator[Decoded]:
        """Pass on what has not been shown already."""
        for shown in pictures:
            if shown.pts > self._shown:
                self._shown = shown.pts
                yield shown
