"""RTP and RTCP over UDP between a camera and FFmpeg: only from the camera, and bounded.

FFmpeg joins an access unit from RTP packets without a limit, and its sockets are its own. So SETUP names our
ports to both sides: the camera sends here, and FFmpeg takes this relay for the camera. Packets of other hosts
are dropped. The bytes since the last complete frame are bounded, as over TCP (see `meter`).

    FFmpeg client_port ──▶ [ pair of UDP sockets for each track ] ──▶ the camera's server_port
"""

from __future__ import annotations

import errno
import re
import selectors
import socket
from contextlib import suppress
from typing import Self

from async_motion.capture.meter import ByteMeter
from async_motion.errors import CameraRefused

_CLIENT_PORT = re.compile(rb"client_port=(\d{1,5})-(\d{1,5})")
_SERVER_PORT = re.compile(rb"server_port=(\d{1,5})(?:-(\d{1,5}))?(?=[^\d-])")

_BUFFER = 2 * 1024 * 1024
"""A keyframe comes as a burst that the default socket buffer of many systems cannot hold."""

_PACKET = 65_536
_BATCH = 64
"""Maximum packets of a socket before the others have their turn."""
_ATTEMPTS = 50


class MediaRelay:
    """The media of one RTSP session with the camera at the numeric address `host`. Used by one thread."""

    def __init__(self, host: str, family: socket.AddressFamily, meter: ByteMeter) -> None:
        self._host, self._family, self._meter = host, family, meter
        self._loopback = "::1" if family == socket.AF_INET6 else "127.0.0.1"
        self._tracks: dict[int, _Track] = {}
        """By FFmpeg's RTP port."""
        self._last: _Track | None = None
        """The track that was set up last."""
        self._selector: selectors.BaseSelector | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        for track in self._tracks.values():
            for one in track.sockets:
                one.close()

    def register(self, selector: selectors.BaseSelector) -> None:
        """Use `selector` for the sockets of every track."""
        self._selector = selector

    def asked(self, request: bytes) -> bytes:
        """Return FFmpeg's request with our ports as `client_port`. Raises OSError if no ports are free."""
        return _CLIENT_PORT.sub(self._set_up, request)

    def answered(self, answers: bytes) -> None:
        """Remember the ports that the camera's SETUP response names."""
        found = _SERVER_PORT.findall(answers)
        if found and self._last is not None:
            rtp, rtcp = int(found[-1][0]), int(found[-1][1] or int(found[-1][0]) + 1)
            self._last.outside = [port if 0 < port < 65_536 else 0 for port in (rtp, rtcp)]

    @property
    def transport(self) -> bytes:
        """The beginning of a Transport header that makes this relay the source; the camera's ports follow."""
        port = self._last.port if self._last is not None else 0
        return f"source={self._loopback};server_port={port}-{port + 1};camera_port=".encode()

    def pass_on(self, ready: set[object]) -> None:
        """Pass packets on from the sockets in `ready`. Raises CameraRefused for a frame that never ends."""
        for track in self._tracks.values():
            for index, one in enumerate(track.sockets):
                if one in ready:
                    self._drain(track, index, one)

    def _set_up(self, found: re.Match[bytes]) -> bytes:
        inside = int(found[1])
        track = self._tracks.get(inside)
        if track is None:
            track = self._tracks[inside] = _Track(_pair(self._family), [inside, int(found[2])])
            if self._selector is not None:
                for one in track.sockets:
                    self._selector.register(one, selectors.EVENT_READ)
        self._last = track
        return b"client_port=%d-%d" % (track.port, track.port + 1)

    def _drain(self, track: _Track, index: int, one: socket.socket) -> None:
        for _ in range(_BATCH):
            try:
                packet, (host, port, *_) = one.recvfrom(_PACKET)
            except OSError:
                return
            if host == self._loopback and port == track.inside[index]:
                to = (self._host, track.outside[index])
            elif host == self._host:
                if not self._meter.count(len(packet)):
                    raise CameraRefused(self._meter.problem)
                to = (self._loopback, track.inside[index])
            else:
                continue
            if to[1]:
                with suppress(OSError):  # as any network may, drop what cannot be sent
                    one.sendto(packet, to)


class _Track:
    """The two sockets of a track, RTP and RTCP, and the ports on FFmpeg's and on the camera's side."""

    def __init__(self, sockets: tuple[socket.socket, socket.socket], inside: list[int]) -> None:
        self.sockets = sockets
        self.port: int = sockets[0].getsockname()[1]
        self.inside = inside
        self.outside = [0, 0]
        """0 while unknown."""


def _pair(family: socket.AddressFamily) -> tuple[socket.socket, socket.socket]:
    """Return sockets on an even port and the next one (RFC 3550, 11)."""
    for _ in range(_ATTEMPTS):
        first, second = (socket.socket(family, socket.SOCK_DGRAM) for _ in range(2))
        try:
            first.bind(("", 0))
            port = first.getsockname()[1]
            if port % 2 == 0:
                second.bind(("", port + 1))
                for one in (first, second):
                    one.setblocking(False)
                    one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
                return first, second
        except OSError as exc:
            if exc.errno != errno.EADDRINUSE:
                first.close()
                second.close()
                raise
        first.close()
        second.close()
    raise OSError(errno.EADDRINUSE, "no two ports are free for media by UDP")
