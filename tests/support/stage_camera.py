"""A network camera (MJPEG over HTTP) whose scene moves when the test wants it.

with StageCamera() as camera:
    settings = {"source": camera.url, ...}
    with camera.moving():
        ...
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

import cv2
import numpy as np

from tests.support.video import BOX, Image, ground

HOST = "127.0.0.1"
BOUNDARY = "frame"


class StageCamera:
    """Serves the same scene at `fps` to every client; with `moving`, a box moves back and forth.

    `side` is the half of the image in which the box moves: "left", "right" or "both". `stop` closes the port
    and every connection, `start` opens the same port again.
    """

    def __init__(self, *, size: tuple[int, int] = (320, 240), fps: int = 10) -> None:
        self.size = size
        self.fps = fps
        self.port = 0
        self.side = "both"
        self._ground = ground(*size)
        self._moving = threading.Event()
        self._open = threading.Event()
        self._server: ThreadingHTTPServer | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}/stream.mjpg"

    def start(self) -> Self:
        """Open the port."""
        camera = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                with contextlib.suppress(OSError):
                    camera._serve(self)

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            allow_reuse_address = True

        self._server = Server((HOST, self.port), Handler)
        self.port = self._server.server_address[1]
        self._open.set()
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, name="camera", daemon=True
        )
        self._thread.start()
        return self

    def stop(self) -> None:
        """Close the port and all connections."""
        self._open.clear()
        if self._server is not None and self._thread is not None:
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()
            self._server = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @contextlib.contextmanager
    def moving(self, side: str = "both") -> Iterator[None]:
        """Move the box while the context is open."""
        self.side = side
        self._moving.set()
        try:
            yield
        finally:
            self._moving.clear()

    def _serve(self, handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", f"multipart/x-mixed-replace; boundary={BOUNDARY}")
        handler.end_headers()
        due = time.monotonic()
        while self._open.is_set():
            done, data = cv2.imencode(".jpg", self._image(time.monotonic()))
            assert done
            head = f"--{BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
            handler.wfile.write(head.encode() + data.tobytes() + b"\r\n")
            due = max(due + 1 / self.fps, time.monotonic() - 1)
            time.sleep(max(0.0, due - time.monotonic()))

    def _image(self, at: float) -> Image:
        if not self._moving.is_set():
            return self._ground
        image = self._ground.copy()
        width, height = self.size
        side = height // 4
        first, last = {"left": (0.0, 0.5), "right": (0.5, 1.0), "both": (0.0, 1.0)}[self.side]
        along = 1 - abs(at / 2 % 2 - 1)  # back and forth, two seconds each way
        left = int(first * width + along * ((last - first) * width - side))
        top = (height - side) // 2
        image[top : top + side, left : left + side] = np.array(BOX, np.uint8)
        return image
