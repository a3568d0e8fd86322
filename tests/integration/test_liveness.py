"""The real service and `async-motion health`, independent of the page's address, proxy and token."""

from __future__ import annotations

import array
import fcntl
import signal
import subprocess
import sys
import termios
from pathlib import Path
from typing import IO

from tests.support.ports import free_port
from tests.support.service import Service, clean_environment
from tests.support.wait import eventually


def health(service: Service, **env: str) -> int:
    done = subprocess.run(
        [sys.executable, "-m", "async_motion", "health", "--config", str(service.config)],
        cwd=service.config.parent,
        env=clean_environment(**env),
        capture_output=True,
        timeout=60,
    )
    return done.returncode


def test_health_is_asked_past_proxy_port_and_token(tmp_path: Path) -> None:
    settings = {
        "instance": "edge1",
        "mqtt": {"port": free_port()},
        "web": {"port": free_port(), "host": "::1"},
    }
    with Service(settings, tmp_path) as service:
        dead = f"http://127.0.0.1:{free_port()}"
        proxies = {"http_proxy": dead, "HTTP_PROXY": dead, "all_proxy": dead}
        eventually(lambda: health(service, **proxies) == 0, what="a healthy service", within_s=120)

        service.process.send_signal(signal.SIGHUP)
        service.wait_for_log("SIGHUP")
        assert health(service) == 0, "a terminal that closes ends nothing"

        service.process.send_signal(signal.SIGSTOP)
        try:
            assert health(service) == 1
        finally:
            service.process.send_signal(signal.SIGCONT)
        eventually(lambda: health(service) == 0, what="health after SIGCONT")
    assert health(service) == 1


def test_health_imports_nothing_expensive(tmp_path: Path) -> None:
    """Keep the command cheap, as it runs every few seconds: 0.06 s of CPU; 0.5 s with the settings."""
    code = (
        "import sys; from async_motion.cli import main;"
        f" main(['health', '--config', {str(tmp_path)!r}]); print(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    imported = set(done.stdout.split())
    assert "no service runs here" in done.stderr
    assert "async_motion.cli.health" in imported
    dear = {"asyncio", "pydantic", "yaml", "structlog", "aiohttp", "cv2", "numpy", "uvloop"}
    assert not imported & dear
    # Neither other commands nor what only they need.
    assert not imported & {"async_motion.cli.get", "dataclasses", "inspect", "json", "subprocess", "tempfile"}


def test_a_log_reader_that_stalls_freezes_nothing(tmp_path: Path) -> None:
    """Stall the log's reader, as a hanging `docker logs` does: cameras, health and SIGTERM still work."""
    settings = {"instance": "edge1", "mqtt": {"port": free_port()}, "web": {"port": free_port()}}
    service = Service({**settings, "log": {"level": "debug", "format": "json"}}, tmp_path)
    command = [sys.executable, "-m", "async_motion", "run", "--config", str(service.config)]
    with subprocess.Popen(
        command, cwd=tmp_path, env=clean_environment(), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
    ) as process:
        assert process.stderr is not None
        # A pipe of one page is full at once.
        fcntl.fcntl(process.stderr, fcntl.F_SETPIPE_SZ, 4096)
        try:
            eventually(lambda: health(service) == 0, what="a healthy service", within_s=120)
            eventually(lambda: _full(process.stderr), what="a pipe that is full")
            assert health(service) == 0
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
        finally:
            process.kill()


def _full(pipe: IO[bytes] | None) -> bool:
    assert pipe is not None
    waiting = array.array("i", [0])
    fcntl.ioctl(pipe, termios.FIONREAD, waiting)
    return waiting[0] > 3000


def test_what_it_writes_is_closed_to_others(tmp_path: Path) -> None:
    settings = {"instance": "edge1", "mqtt": {"port": free_port()}, "web": {"port": free_port()}}
    folder = tmp_path / "service"
    with Service(settings, folder) as service:
        service.wait_for_log("stored", within_s=90)
        eventually(lambda: health(service) == 0, what="a healthy service", within_s=120)
    written = [path for path in folder.glob("data/**/*") if path.is_file()]
    assert any(path.name.startswith("spool") for path in written)
    assert not [path for path in written if path.stat().st_mode & 0o007]
