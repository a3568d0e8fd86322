"""A server that must never be contacted: it records every connection."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import Self


class Trap:
    """Listens on one port of `host`, TCP and UDP. `caught` holds the first bytes of each contact."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        self.host = host
        self.caught: list[bytes] = []
        self._tcp = socket.create_server((host, 0))
        self.port = int(self._tcp.getsockname()[1])
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._udp.bind((host, self.port))
        for one in (self._tcp, self._udp):
            one.settimeout(0.05)
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=listen) for listen in (self._accept, self._receive)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()
        self._tcp.close()
        self._udp.close()

    @property
    def place(self) -> str:
        return f"{self.host}:{self.port}"

    def _accept(self) -> None:
        while not self._stopping.is_set():
            with suppress(TimeoutError):
                visitor, _ = self._tcp.accept()
                with visitor:
                    visitor.settimeout(1)
                    said = b"(nothing)"
                    with suppress(OSError):
                        said = visitor.recv(200)
                    self.caught.append(said)

    def _receive(self) -> None:
        while not self._stopping.is_set():
            with suppress(TimeoutError):
                self.caught.append(self._udp.recv(200))
