"""Liveness: notifications to the supervisor, answers to `health`, and the end of a hung event loop."""

from __future__ import annotations

import argparse
import asyncio
import re
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from async_motion.app.health_socket import socket_name
from async_motion.app.liveness import Liveness
from async_motion.cli.health import main


class Supervisor:
    """systemd's end of `$NOTIFY_SOCKET`."""

    def __init__(self, folder: Path) -> None:
        self.path = str(folder / "notify")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.path)
        self._socket.settimeout(10)

    def hear(self) -> dict[str, str]:
        lines = self._socket.recv(4096).decode().splitlines()
        return dict(line.split("=", 1) for line in lines)

    def close(self) -> None:
        self._socket.close()


async def test_the_supervisor_hears_readiness_life_and_the_end(tmp_path: Path) -> None:
    supervisor = Supervisor(tmp_path)
    liveness = Liveness(env={"NOTIFY_SOCKET": supervisor.path}, beat_s=0.05)
    async with liveness.watched():
        await asyncio.sleep(0)
        assert await asyncio.to_thread(supervisor.hear) == {"WATCHDOG": "1"}
        assert await asyncio.to_thread(supervisor.hear) == {"WATCHDOG": "1"}, "it goes on"
        liveness.ready("watching 2 of 2 cameras")
        heard = [await asyncio.to_thread(supervisor.hear) for _ in range(20)]
        assert {"READY": "1", "STATUS": "watching 2 of 2 cameras"} in heard
        liveness.reloading()
        liveness.stopping()
        heard = [await asyncio.to_thread(supervisor.hear) for _ in range(20)]
        assert {"STOPPING": "1"} in heard
        (reload,) = [said for said in heard if "RELOADING" in said]
        assert int(reload["MONOTONIC_USEC"]) > 0
    supervisor.close()


async def test_without_a_supervisor_nothing_is_sent() -> None:
    liveness = Liveness(env={})
    async with liveness.watched():
        liveness.ready("x")
        liveness.stopping()


async def test_a_supervisor_that_is_gone_is_not_an_error(tmp_path: Path) -> None:
    liveness = Liveness(env={"NOTIFY_SOCKET": str(tmp_path / "gone")})
    async with liveness.watched():
        liveness.ready("x")


def health(config: Path | None) -> int:
    return main(argparse.Namespace(config=config))


async def test_health_asks_the_service_with_its_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ASYNC_MOTION_CONFIG", str(tmp_path / "a.yaml"))
    assert health(None) == 1
    assert "no service" in capsys.readouterr().err
    async with Liveness(
        address=socket_name(None, {"ASYNC_MOTION_CONFIG": str(tmp_path / "a.yaml")})
    ).watched():
        assert await asyncio.to_thread(health, None) == 0
        assert await asyncio.to_thread(health, tmp_path / "a.yaml") == 0
        assert await asyncio.to_thread(health, tmp_path / "b.yaml") == 1, "another service"
    assert health(None) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a full queue makes the caller wait")
def test_health_knows_a_stopped_service_from_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    address = socket_name(tmp_path / "a.yaml", {})
    with socket.socket(socket.AF_UNIX) as stopped, socket.socket(socket.AF_UNIX) as earlier:
        stopped.bind(address)
        stopped.listen(0)
        earlier.connect(address)
        assert health(tmp_path / "a.yaml") == 1
    assert "answered none" in capsys.readouterr().err


async def test_two_services_with_one_settings_file_do_not_end_each_other(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    address = socket_name(tmp_path / "a.yaml", {})
    async with Liveness(address=address).watched(), Liveness(address=address).watched():
        assert "async-motion health cannot ask this service" in caplog.text
        assert await asyncio.to_thread(health, tmp_path / "a.yaml") == 0


HANGS = """
import asyncio, time
from async_motion.app.liveness import Liveness

async def main():
    async with Liveness(hang_s=0.3, beat_s=0.05).watched():
        await asyncio.sleep(0.2)
        {then}

asyncio.run(main())
print("over")
"""


def run(then: str) -> subprocess.CompletedProcess[str]:
    code = textwrap.dedent(HANGS).format(then=then)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)


def test_a_loop_that_hangs_ends_the_process_and_shows_where() -> None:
    done = run("time.sleep(50)")
    assert done.returncode == 1
    assert "the event loop has hung" in done.stderr
    assert re.search(r'File "<string>", line \d+ in main', done.stderr), done.stderr


def test_a_loop_that_turns_is_left_alone() -> None:
    done = run("await asyncio.sleep(1)")
    assert (done.returncode, done.stdout) == (0, "over\n"), done.stderr
