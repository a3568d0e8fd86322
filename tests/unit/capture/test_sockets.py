"""A camera's sockets are ended by another thread, and stay ended."""

from __future__ import annotations

import socket
import threading

import pytest

from async_motion.capture.address import parse
from async_motion.capture.connect import connect
from async_motion.capture.sockets import CameraSockets
from async_motion.errors import CameraUnavailable


def test_a_cut_ends_every_connection_and_wakes_its_reader() -> None:
    sockets = CameraSockets()
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = parse(f"rtsp://127.0.0.1:{server.getsockname()[1]}/s")
        camera = connect(address, 10.0, sockets)
        theirs, _ = server.accept()
        read: list[bytes] = []
        reader = threading.Thread(target=lambda: read.append(camera.recv(1)), daemon=True)
        reader.start()
        assert not sockets.is_cut
        sockets.cut()
        assert sockets.is_cut
        theirs.settimeout(30)
        assert theirs.recv(1) == b"", "the camera sees the end"
        reader.join(30)
        assert read == [b""]
        camera.close()
        theirs.close()
        sockets.cut()  # closed ones are no matter
        with pytest.raises(CameraUnavailable, match="was given up"):
            connect(address, 10.0, sockets)
        late, _ = server.accept()
        late.settimeout(30)
        assert late.recv(1) == b"", "a connection after the cut is closed at once"
        late.close()
