"""Which packets are decoded: `all`, `keyframes`, or `auto`, which is as few as it can do with.

A view is fed one connection's packets in their order and yields the pictures that they complete, each later
than the one before.

`auto` (`Attentive`) looks only at a key picture now and then while nothing happens, and keeps the packets
since the last one. At the first sign, in the weight of the packets or in a key picture, it decodes what it
has kept, so that the detector gets the very pictures that `all` would have given it. It goes on in full until
nothing has been worth a look for `HOLD_S`, and idles again from the next key picture on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

from av.video.frame import VideoFrame

from async_motion.capture.ffmpeg.decoding import Decoder, VideoPacket
from async_motion.capture.ffmpeg.frames import Picker, luma_of
from async_motion.capture.selective.activity import Interest, Scene, Weights
from async_motion.capture.selective.gop_buffer import PacketRing

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
"""How often it is while idling, at the next key picture: where the packets would tell, and where not."""

BLIND_S = 2.1
"""Key pictures this close to each other are evidence enough. Further apart, the packets must tell too."""


class Shown(NamedTuple):
    """A decoded picture: its media time, and whether it comes in a burst, later than it was filmed."""

    media: float
    picture: VideoFrame
    late: bool = False


TimeOf = Callable[[float | None, float], float]
"""(the decoder's own time of a picture, its packet's media time) -> media time"""


class View(Protocol):
    """Decides what is decoded."""

    def show(self, packet: VideoPacket, media: float) -> Iterator[Shown] | None:
        """Take a packet (an empty one ends the stream); return its pictures, None if none was looked for."""


class EveryPicture:
    """`all`. Of codecs in which every picture stands alone, only those that are wanted are decoded."""

    def __init__(self, decoder: Decoder, time_of: TimeOf, picker: Picker, *, standalone: bool) -> None:
        self._decoder = decoder
        self._time_of = time_of
        self._picker = picker
        self._standalone = standalone

    def show(self, packet: VideoPacket, media: float) -> Iterator[Shown] | None:
        """Decode the packet."""
        if self._standalone and packet.size and not self._picker.would_want(media):
            return None
        return self._decode(packet, media)

    def _decode(self, packet: VideoPacket, media: float) -> Iterator[Shown]:
        for own, picture in self._decoder.decode(packet if packet.size else None):
            yield Shown(self._time_of(own, media), picture)


class KeyPictures:
    """`keyframes`: the others are not even looked at."""

    def __init__(self, decoder: Decoder, time_of: TimeOf) -> None:
        self._decoder = decoder
        self._time_of = time_of

    def show(self, packet: VideoPacket, media: float) -> Iterator[Shown] | None:
        """Decode the packet if it is a key picture."""
        return self._decode(packet, media) if packet.size and packet.is_keyframe else None

    def _decode(self, packet: VideoPacket, media: float) -> Iterator[Shown]:
        for own, picture in self._decoder.single(packet):
            yield Shown(self._time_of(own, media), picture)


class Attentive:
    """`auto`."""

    def __init__(
        self,
        decoder: Decoder,
        time_of: TimeOf,
        *,
        camera: str,
        ring: PacketRing,
        max_seconds: float,
        rate: float,
        stamp_of: Callable[[float], float],
        interest: Interest,
        scene: Scene,
        quantiser_of: Callable[[VideoPacket], int | None],
    ) -> None:
        self._decoder = decoder
        self._time_of = time_of
        self._camera = camera
        self._ring = ring
        self._max_seconds = max_seconds
        self._stamp_of = stamp_of
        """Media time to the monotonic time in which `interest` is told."""
        self._interest = interest
        self._scene = scene
        self._weights = Weights(rate)
        self._quantiser_of = quantiser_of
        self._position = 0
        self._awake = True
        self._awake_until: float | None = None
        self._woken_from: float | None = None
        self._woken_by: Scene | Weights | None = None
        self._looked = float("-inf")
        self._anchor = float("-inf")
        """The key picture that was looked at last while idling: what came after it was not decoded."""
        self._shown = float("-inf")
        self._keyed = False
        """Whether a key picture has come: before it nothing can be kept."""
        self._too_long = False
        self._length = float("inf")
        """How long the last group of pictures was."""
        self.woken = 0
        """How often it was woken: a figure for tuning."""

    def show(self, packet: VideoPacket, media: float) -> Iterator[Shown] | None:
        """Decode the packet, or keep it for later."""
        if self._awake_until is None:
            self._awake_until = media + START_S
        if not packet.size:
            return self._drain(media) if self._awake else None
        if packet.is_keyframe:
            return self._key(packet, media)
        return self._between(packet, media)

    def _key(self, packet: VideoPacket, media: float) -> Iterator[Shown]:
        self._position = 0
        self._keyed = True
        self._weights.key(packet.size, self._quantiser_of(packet))
        before = self._ring.current()
        if before is not None:
            self._length = media - before.start
        self._ring.add(media, packet)
        if self._awake:
            if not self._may_rest(media):
                yield from self._decode(packet, media)
                return
            # Pictures that the decoder still holds back belong to the group that ends here.
            yield from self._drain(media)
            self._rest(media)
        elif self._too_long:
            self._wake(media, media)
            self._decoder.restart()
            yield from self._decode(packet, media)
            return
        elif media - self._anchor < (IDLE_LOOK_S if self._weights.tell else BLIND_LOOK_S):
            return
        pictures = list(self._decode_single(packet, media))
        signs = [self._scene.look(luma_of(shown.picture)) for shown in pictures]
        since, self._anchor = self._anchor, media
        if not any(signs):
            yield from self._newer(iter(pictures))
            return
        self._wake(media, since, self._scene)
        yield from self._replay(since, media)

    def _between(self, packet: VideoPacket, media: float) -> Iterator[Shown] | None:
        self._position += 1
        kept = self._ring.add(media, packet)
        group = self._ring.current()
        if group is None or not kept or self._is_too_long(group.start, media):
            self._give_up()
        quantiser = self._quantiser_of(packet)
        if self._awake:
            quiet = self._is_dull(media)
            self._weights.weigh(packet.size, self._position, quiet=quiet, quantiser=quantiser)
            return self._decode(packet, media)
        sign = self._weights.weigh(packet.size, self._position, quiet=None, quantiser=quantiser)
        if group is None or not (sign or self._too_long):
            return None
        self._wake(media, self._anchor, self._weights if sign else None)
        return self._replay(self._anchor, media)

    def _is_too_long(self, start: float, media: float) -> bool:
        """Say whether the group outgrows the ring: then nothing could be decoded at a later sign."""
        return self._ring.is_tight or media - start > self._max_seconds

    def _give_up(self) -> None:
        """Decode in full for good: this stream's groups do not fit into the ring."""
        if not self._too_long and self._keyed:
            self._too_long = True
            log.info("%s: too long between key pictures to idle: all is decoded", self._camera)

    # Waking and resting.

    def _wake(self, media: float, since: float, by: Scene | Weights | None = None) -> None:
        """Decode in full from now on, beginning with the pictures kept `since`, for a sign in `by`."""
        self._awake = True
        self.woken += 1
        self._woken_from, self._woken_by = since, by
        self._awake_until = media + (WAKE_S if self._interest.told else HOLD_S)

    def _may_rest(self, media: float) -> bool:
        """Say whether nothing has been worth a look for long enough."""
        if self._too_long or (self._awake_until is not None and media < self._awake_until):
            return False
        if self._length > BLIND_S and not self._weights.tell:
            return False
        return not self._interest.told or self._is_dull(media)

    def _is_dull(self, media: float) -> bool:
        """Say whether the detector has found nothing of late."""
        return self._interest.told and self._stamp_of(media) - self._interest.latest >= HOLD_S

    def _rest(self, media: float) -> None:
        """Idle from the key picture `media` on, and learn whether the sign that woke us meant anything."""
        self._awake = False
        self._anchor = media
        since = float("inf") if self._woken_from is None else self._stamp_of(self._woken_from)
        meaningless = self._interest.latest < since <= self._interest.heard
        for evidence in (self._scene, self._weights):
            if meaningless and evidence is self._woken_by:
                evidence.forgive()
            else:
                evidence.explained()

    # Decoding.

    def _decode(self, packet: VideoPacket, media: float) -> Iterator[Shown]:
        for own, picture in self._decoder.decode(packet):
            at = self._time_of(own, media)
            if at > self._shown:
                self._shown = at
                self._glance(picture, at)
                yield Shown(at, picture)

    def _glance(self, picture: VideoFrame, media: float) -> None:
        """Look at the scene now and then while awake: it must stay known, and may tell us to stay."""
        if media - self._looked < LOOK_S:
            return
        self._looked = media
        if self._scene.look(luma_of(picture)) and not self._interest.told and self._awake_until is not None:
            self._awake_until = max(self._awake_until, media + HOLD_S)

    def _decode_single(self, packet: VideoPacket, media: float) -> Iterator[Shown]:
        for own, picture in self._decoder.single(packet):
            yield Shown(self._time_of(own, media), picture)

    def _replay(self, since: float, until: float) -> Iterator[Shown]:
        """Decode all that was kept from the key picture `since` on; the newest is shown as it comes."""
        self._decoder.restart()
        for group in self._ring.since(since):
            for kept in list(group.packets):
                late = kept.media < until
                for own, picture in self._decoder.decode(kept.packet):
                    yield from self._newer(iter([Shown(self._time_of(own, kept.media), picture, late=late)]))

    def _drain(self, media: float) -> Iterator[Shown]:
        for own, picture in self._decoder.decode(None):
            yield from self._newer(iter([Shown(self._time_of(own, media), picture)]))
        self._decoder.restart()

    def _newer(self, pictures: Iterator[Shown]) -> Iterator[Shown]:
        """Pass on what has not been shown already."""
        for shown in pictures:
            if shown.media > self._shown:
                self._shown = shown.media
                yield shown
