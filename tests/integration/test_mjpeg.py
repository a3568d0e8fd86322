"""A camera with MJPEG over HTTP, as many cheap ones."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import cv2
import numpy as np
import pytest

from async_motion.capture import CaptureSpec, open_source

stopping = threading.Event()


class Camera(BaseHTTPRequestHandler):
    """Sends 10 fps while a client is connected, for at most 20 s."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        for number in range(200):
            image = np.full((240, 320, 3), 100, np.uint8)
            cv2.rectangle(image, (number, 80), (number + 50, 140), (255, 255, 255), -1)
            jpeg = cv2.imencode(".jpg", image)[1].tobytes()
            head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
            try:
                self.wfile.write(head.encode() + jpeg + b"\r\n")
            except OSError:
                return
            if stopping.wait(0.1):
                return

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@pytest.fixture
def port() -> Iterator[int]:
    stopping.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Camera) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            stopping.set()
            server.shutdown()
            thread.join()


async def test_frames_come_in_colour_and_in_order(port: int) -> None:
    source = open_source(CaptureSpec(camera="porch", source=f"http://me:secret@127.0.0.1:{port}/video"))
    captured = []
    try:
        async with asyncio.timeout(30):
            async for frame in source.frames():
                assert frame.luma.shape == (240, 320)
                assert frame.bgr().shape == (240, 320, 3)
                captured.append(frame.captured_at)
                if len(captured) == 5:
                    break
    finally:
        await source.aclose()
    assert captured == sorted(captured)
