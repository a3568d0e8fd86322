"""Connecting to a camera: every address has its share of the timeout, and no error shows the password."""

from __future__ import annotations

import math
import socket
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from async_motion.capture import connect as connect_module
from async_motion.capture.address import parse
from async_motion.capture.connect import connect
from async_motion.capture.spec import CaptureSpec
from async_motion.errors import CameraUnavailable


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(60)
        yield server


def test_tls_has_the_time_that_the_connection_has_left(
    listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Wrapped:
        def __init__(self, camera: socket.socket) -> None:
            self._camera = camera
            self.settimeout, self.close = camera.settimeout, camera.close

        def do_handshake(self) -> None:
            left.append(self._camera.gettimeout() or math.inf)

    class Context:
        def wrap_socket(self, camera: socket.socket, **_: object) -> Wrapped:
            return Wrapped(camera)

    left: list[float] = []
    now = iter([100.0, 100.0, 107.0])
    monkeypatch.setattr(connect_module, "time", SimpleNamespace(monotonic=lambda: next(now)))
    monkeypatch.setattr(connect_module, "_unverified", Context)
    spec = spec_of(listener, "rtsps", open_timeout_s=10.0)
    connect(parse(spec.source), spec.open_timeout_s).close()
    assert left == [3.0]


def test_a_camera_that_is_silent_in_the_handshake_is_not_said_to_lack_tls(listener: socket.socket) -> None:
    spec = spec_of(listener, "https")
    with pytest.raises(CameraUnavailable, match="timed out in the TLS handshake"):
        connect(parse(spec.source), 0.2)


def test_all_addresses_of_a_name_together_have_the_time_to_open(monkeypatch: pytest.MonkeyPatch) -> None:
    class Silent:
        """A socket to an address that never answers."""

        def __init__(self, *_: object) -> None:
            self.closed = False
            sockets.append(self)

        def settimeout(self, seconds: float) -> None:
            self.seconds = seconds

        def connect(self, _place: object) -> None:
            clock[0] += self.seconds
            raise TimeoutError

        def close(self) -> None:
            self.closed = True

    sockets: list[Silent] = []
    clock = [100.0]
    places = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (f"192.0.2.{last}", 554)) for last in range(1, 5)]
    monkeypatch.setattr(connect_module, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_more: places)
    monkeypatch.setattr(socket, "socket", Silent)
    spec = CaptureSpec(camera="porch", source="rtsp://camera.example/s", open_timeout_s=10.0)
    with pytest.raises(CameraUnavailable, match="timed out"):
        connect(parse(spec.source), spec.open_timeout_s)
    assert clock == [110.0]
    assert len(sockets) == len(places)
    assert all(one.closed for one in sockets)


def test_an_address_that_cannot_be_reached_does_not_hide_the_next(
    listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = listener.getsockname()[1]
    unknown = (9999, socket.SOCK_STREAM, 0, "", ("0", 0))
    refused = (socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.2", port))
    there = (socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", port))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_more: [unknown, refused, there])
    spec = spec_of(listener, "rtsp")
    with connect(parse(spec.source), spec.open_timeout_s) as camera:
        assert camera.getpeername() == ("127.0.0.1", port)
        assert camera.gettimeout() is None


def spec_of(listener: socket.socket, scheme: str, **changes: Any) -> CaptureSpec:
    port = listener.getsockname()[1]
    return CaptureSpec(camera="porch", source=f"{scheme}://u:geheim@127.0.0.1:{port}/s", **changes)
