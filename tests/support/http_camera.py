"""An HTTP camera in this process whose answers, valid or not, are written by the test.

with HttpCamera(answer) as camera:
    open_source(CaptureSpec(camera="porch", source=camera.url))
"""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Self


@dataclass
class Visit:
    """One request, and the connection to which its answer is written."""

    number: int
    """From 1."""
    head: str
    send: Callable[[bytes], None]
    stopping: threading.Event
    headers: dict[str, str] = field(default_factory=dict)
    """Keys are lower-case names."""

    def wait(self, seconds: float) -> None:
        """Wait. Raises ConnectionError if the server is closed meanwhile."""
        if self.stopping.wait(seconds):
            raise ConnectionError("the test is over")


class HttpCamera:
    """`answer` writes the whole answer, head included, to each request; a connection may have several.

    `visits` are the requests so far.
    """

    def __init__(self, answer: Callable[[Visit], None]) -> None:
        self.visits: list[Visit] = []
        self.connections = 0
        camera = self
        self._stopping = threading.Event()

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                camera.connections += 1
                with suppress(OSError):
                    while (head := self._head()) is not None:
                        visit = Visit(len(camera.visits) + 1, head, self._send, camera._stopping)
                        for line in head.splitlines()[1:]:
                            name, _, value = line.partition(":")
                            visit.headers[name.lower()] = value.strip()
                        camera.visits.append(visit)
                        answer(visit)

            def _head(self) -> str | None:
                lines = []
                while (line := self.rfile.readline()) not in (b"", b"\r\n"):
                    lines.append(line.decode("latin-1"))
                return "".join(lines) or None

            def _send(self, data: bytes) -> None:
                self.wfile.write(data)
                self.wfile.flush()

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True
            allow_reuse_address = True

            def handle_error(self, *_: object) -> None:
                pass

        self._server = Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    @property
    def place(self) -> str:
        return f"127.0.0.1:{self._server.server_address[1]}"

    @property
    def url(self) -> str:
        return f"http://{self.place}/video"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def answered(kind: str, body: bytes = b"", *, status: str = "200 OK", more: str = "") -> bytes:
    """Return a response with a Content-Length."""
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n{more}\r\n"
    return head.encode() + body
