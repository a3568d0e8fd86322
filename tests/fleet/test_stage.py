"""What the long run stands on: clocks that leap, what the machine took, cameras for more than six clients."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from tests.fleet.clocks import LeapingClock, build, can_leap
from tests.fleet.pressure import PressureLog, waited_s
from tests.support.need import need
from tests.support.rtsp import toolkit
from tests.support.video import scene, write_clip

HOUR_S = 3600
CLIENTS = 12


def test_the_wall_clock_of_a_running_process_leaps_and_no_other_clock(tmp_path: Path) -> None:
    need(can_leap(), "a C compiler")
    clock = LeapingClock(build(tmp_path), tmp_path / "clock")
    script = "import time\nwhile input(): print(int(time.time()), int(time.monotonic()), flush=True)"
    env = {**os.environ, **clock.env}
    command = [sys.executable, "-c", script]
    with subprocess.Popen(
        command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as asked:
        assert asked.stdin is not None
        assert asked.stdout is not None

        def ask() -> tuple[float, float]:
            assert asked.stdin is not None
            assert asked.stdout is not None
            asked.stdin.write("?\n")
            asked.stdin.flush()
            wall, monotonic = asked.stdout.readline().split()
            return int(wall) - time.time(), int(monotonic) - time.monotonic()

        for leap_s in (0, -2 * HOUR_S, HOUR_S, 0):
            clock.leap(leap_s)
            wall_s, monotonic_s = ask()
            assert abs(wall_s - leap_s) < 60
            assert abs(monotonic_s) < 60
        asked.stdin.write("\n")


def test_waits_are_told_for_a_span_of_time() -> None:
    now = 0.0
    log = PressureLog(lambda: {"me": os.getpid()}, lambda: now)
    assert log.during(0.0, 10.0) == "not measured"
    for now in (1.0, 1.5, 4.0, 20.0):  # noqa: B007 - the clock reads it
        log.read()
    said = log.during(0.0, 10.0)
    assert said.startswith("of 3.0 s: ")
    assert said.endswith("the oracle 2.00 s late")
    assert "(me)" in said
    assert waited_s(os.getpid()) >= 0.0


def test_a_camera_server_sends_to_many_clients_at_once(tmp_path: Path) -> None:
    write_clip(tmp_path / "scene.mp4", scene(seconds=4, fps=2, size=(160, 120)), fps=2, gop=2)
    with toolkit(tmp_path) as server, ExitStack() as stack:
        clients = [stack.enter_context(_Client(server.port)) for _ in range(CLIENTS)]
        for client in clients:
            client.play()
        for client in clients:
            client.wait_for_media()


class _Client:
    """An RTSP client that asks for the video and reads one packet of it."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), 30)
        self._file = self._socket.makefile("rb")
        self._url = f"rtsp://127.0.0.1:{port}/scene.mp4/play_count_0"
        self._number = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._socket.close()

    def play(self) -> None:
        described = self._ask("DESCRIBE", self._url)
        track = next(
            line.partition(":")[2]
            for line in described.splitlines()
            if line.startswith("a=control:") and "*" not in line
        )
        url = track if track.startswith("rtsp:") else f"{self._url}/{track}"
        answer = self._ask("SETUP", url, "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n")
        session = next(
            line.partition(":")[2] for line in answer.splitlines() if line.lower().startswith("session:")
        )
        self._ask("PLAY", self._url, f"Session:{session.partition(';')[0]}\r\n")

    def wait_for_media(self) -> None:
        assert self._file.read(1) == b"$", "interleaved media"

    def _ask(self, method: str, url: str, more: str = "") -> str:
        self._number += 1
        self._socket.sendall(f"{method} {url} RTSP/1.0\r\nCSeq: {self._number}\r\n{more}\r\n".encode())
        head, length = "", 0
        while (line := self._file.readline().decode()).strip():
            head += line
            if line.lower().startswith("content-length:"):
                length = int(line.partition(":")[2])
        return head + self._file.read(length).decode()
