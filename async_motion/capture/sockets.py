"""The sockets to one camera, which another thread can end.

A reader that hangs in the video library keeps its connection, and many cameras serve only one or two: in a
fleet the camera's next owner would find it occupied.
"""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from weakref import WeakSet


class CameraSockets:
    """The open sockets to one camera, over all its connections."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: WeakSet[socket.socket] = WeakSet()
        self.is_cut = False
        """Whether `cut` was called: the camera is free, and stays so."""

    def add(self, camera: socket.socket) -> bool:
        """Register a socket; return False after a cut: then close it."""
        with self._lock:
            if not self.is_cut:
                self._open.add(camera)
            return not self.is_cut

    def cut(self) -> None:
        """End all connections to the camera at once, and refuse later ones. From any thread; never waits."""
        with self._lock:
            self.is_cut = True
            for camera in self._open:
                # As in `RtspProxy.close`: neither `close` nor TLS's own `shutdown`.
                with suppress(OSError):
                    socket.socket.shutdown(camera, socket.SHUT_RDWR)
