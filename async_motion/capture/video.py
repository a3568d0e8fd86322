"""Reading RTSP and HTTP streams and video files with PyAV."""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterator
from contextlib import closing
from typing import cast

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from async_motion.capture.address import Address, Kind
from async_motion.capture.clock import MediaClock
from async_motion.capture.decoding import Decoder, VideoPacket, media_of, prepare
from async_motion.capture.link import Link
from async_motion.capture.pictures import Picker, frame_of
from async_motion.capture.spec import CaptureSpec
from async_motion.capture.streams import open_stream, translate
from async_motion.errors import CameraRefused, CameraUnavailable

log = logging.getLogger(__name__)

BEHIND_S = 1.0
"""A file that is so much behind its own pace (a slow or suspended machine) goes on from where it is."""

BLIND_STALLS = 4
"""After so many stall time-outs of data without one picture, the stream counts as unreadable for now."""


class VideoReader:
    """Reads one connection of an RTSP or HTTP stream, or a video file over and over."""

    def __init__(self, address: Address, spec: CaptureSpec) -> None:
        self._address = address
        self._spec = spec
        self._described = ""

    def __call__(self, link: Link, clock: MediaClock) -> None:
        """Read until the source ends or `link.stopping`."""
        if self._address.kind is Kind.FILE:
            self._read_file(link, clock)
        else:
            self._read_live(link, clock)

    def _read_live(self, link: Link, clock: MediaClock) -> None:
        spec, shown = self._spec, self._address.shown
        container, stream = open_stream(self._address, spec)
        try:
            self._describe(stream)
            link.reader_opened()
            view = _View(spec, stream, link, clock)
            # MJPEG over HTTP has no times of its own: FFmpeg would invent 25 pictures a second.
            timeless = self._address.kind is Kind.HTTP and stream.codec_context.name == "mjpeg"
            last_picture = spec.monotonic()
            for packet in _packets(container, stream, shown):
                if link.stopping:
                    return
                now = spec.monotonic()
                media = now if timeless else media_of(packet)
                if media is None or clock.arrived(media):
                    link.reader_progress()
                if view.show(packet, media if timeless else None):
                    last_picture = now
                elif now - last_picture > BLIND_STALLS * spec.stall_timeout_s:
                    raise CameraUnavailable(f"{shown}: sends data, but no picture that can be decoded")
        finally:
            container.close()
        if not link.stopping:
            raise CameraUnavailable(f"{shown}: closed the stream")

    def _read_file(self, link: Link, clock: MediaClock) -> None:
        spec = self._spec
        start = 0.0
        while not link.stopping:
            container, stream = open_stream(self._address, spec)
            try:
                self._describe(stream)
                if start == 0.0:
                    link.reader_opened()
                    clock.anchor(0.0)
                shown = self._read_once(container, stream, link, clock, start)
            finally:
                container.close()
            if link.stopping:
                return
            if shown is None:
                raise CameraRefused(f"{self._address.shown}: holds no picture that can be decoded")
            if not spec.loop:
                return
            start = shown

    def _read_once(
        self, container: InputContainer, stream: VideoStream, link: Link, clock: MediaClock, start: float
    ) -> float | None:
        """Read the file through, its first picture at media time `start`.

        Return the media time at which the next round starts, None when nothing could be decoded.
        """
        view = _View(self._spec, stream, link, clock)
        length = 1.0 / float(stream.average_rate or 25)
        first: float | None = None
        latest = start
        seen = False
        for number, packet in enumerate(_packets(container, stream, self._address.shown)):
            media = media_of(packet)
            if media is None:
                media = number * length if packet.size else latest
                timeless = True
            else:
                timeless = False
                first = media if first is None else first
                media -= first
            media += start
            latest = max(latest, media)
            if not link.lossless and not self._keep_pace(media, link, clock):
                return None
            link.reader_progress()
            view.shift = start - (first or 0.0)
            seen = view.show(packet, media if timeless else None) or seen
            if link.stopping:
                return None
        return latest + length if seen else None

    def _keep_pace(self, media: float, link: Link, clock: MediaClock) -> bool:
        """Wait until `media` is due; say whether to go on."""
        ahead = clock.due(media) - self._spec.monotonic()
        if ahead < -BEHIND_S:
            clock.anchor(media)
        return ahead <= 0 or link.reader_wait(ahead)

    def _describe(self, stream: VideoStream) -> None:
        context = stream.codec_context
        rate = stream.average_rate or stream.guessed_rate
        text = f"{context.name} {context.width}x{context.height}" + (
            f", {float(rate):.3g} fps" if rate else ""
        )
        if text != self._described:
            self._described = text
            log.info("%s: %s is %s", self._spec.camera, self._address.shown, text)


class _View:
    """Turns one connection's packets into the frames that are handed over."""

    def __init__(self, spec: CaptureSpec, stream: VideoStream, link: Link, clock: MediaClock) -> None:
        self._spec = spec
        self._link = link
        self._clock = clock
        self._keys_only = spec.decode == "keyframes"
        self._decoder = Decoder(prepare(stream.codec_context, spec), link.reader_corrupt)
        self._picker = Picker(spec.fps)
        self.shift = 0.0

    def show(self, packet: VideoPacket, media: float | None) -> bool:
        """Decode a packet and offer what is wanted; say whether a picture came out.

        `media` overrides the stream's own times.
        """
        if packet.size == 0:
            pictures = self._decoder.decode(None)
        elif not self._keys_only:
            pictures = self._decoder.decode(packet)
        elif packet.is_keyframe:
            pictures = self._decoder.single(packet)
        else:
            return False
        seen = False
        for own, frame in pictures:
            seen = True
            at = media if media is not None else (own or 0.0) + self.shift
            if self._picker.wants(at):
                taken = frame_of(self._spec.camera, self._clock.stamp(at), frame)
                if not self._link.reader_offer(taken):
                    break
        return seen


def _packets(container: InputContainer, stream: VideoStream, shown: str) -> Iterator[VideoPacket]:
    """Yield the packets of `stream`, the last one empty; translate FFmpeg's errors."""
    try:
        # It is a generator, whatever the stubs say; closed before the container, since it owns buffers.
        with closing(cast("Generator[VideoPacket]", container.demux(stream))) as packets:
            yield from packets
    except av.FFmpegError as exc:
        raise translate(exc, shown) from None
