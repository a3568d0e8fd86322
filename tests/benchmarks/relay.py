"""Cost of relaying between FFmpeg and a camera: ``python -m tests.benchmarks.relay [--seconds 20]``.

A fake camera sends packets of 1400 bytes, back to back within a frame, at 25 fps. The CPU time is that of the
relay's thread alone, with all its work for passing the bytes on.
"""

from __future__ import annotations

import argparse
import socket
import sys
import threading
import time
from contextlib import suppress

from async_motion.capture.address import parse
from async_motion.capture.ffmpeg.rtsp_proxy import RtspProxy
from async_motion.capture.spec import CaptureSpec

PACKET = b"$\0" + (1400).to_bytes(2, "big") + bytes(1400)
FPS = 25


def feed(camera: socket.socket, mbit: float, seconds: int) -> None:
    """Send as a camera does, once it gets PLAY."""
    connection, _ = camera.accept()
    with connection, suppress(OSError):  # the reader hangs up when it has measured enough
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.recv(1000)
        began = time.monotonic()
        for number in range(seconds * FPS):
            for _ in range(round(mbit * 1e6 / 8 / FPS / 1400)):
                connection.sendall(PACKET)
            time.sleep(max(0.0, began + (number + 1) / FPS - time.monotonic()))


def measure(mbit: float, seconds: int) -> float:
    """Return the CPU seconds for a minute of such a stream."""
    with socket.create_server(("127.0.0.1", 0)) as camera:
        threading.Thread(target=feed, args=(camera, mbit, seconds), daemon=True).start()
        spec = CaptureSpec(camera="bench", source=f"rtsp://127.0.0.1:{camera.getsockname()[1]}/x")
        before = set(threading.enumerate())
        relay = RtspProxy(parse(spec.source), spec)
        (thread,) = set(threading.enumerate()) - before
        assert thread.ident is not None
        clock = time.pthread_getcpuclockid(thread.ident)
        host, _, port = relay.url.split("/")[2].partition(":")
        used = 0.0
        with socket.create_connection((host, int(port))) as ffmpeg:
            ffmpeg.sendall(b"PLAY x RTSP/1.0\r\n\r\n")
            ends = time.monotonic() + seconds - 0.5
            while time.monotonic() < ends and ffmpeg.recv(65536):
                used = time.clock_gettime(clock)
        return used * 60 / (seconds - 0.5)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.relay", description="The relay's CPU.")
    parser.add_argument("--seconds", type=int, default=20)
    args = parser.parse_args()
    for mbit in (2, 4, 8):
        print(f"{mbit} Mbit/s: {measure(mbit, args.seconds):.2f} s of CPU a minute", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
