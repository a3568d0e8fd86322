"""The real service and `async-motion health`, wherever its pages are and whatever stands between."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
from pathlib import Path

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
        eventually(lambda: health(service, **proxies) == 0, what="a healthy service")

        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert health(service, **proxies) == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        # 0.12 s on the machine that this was written on; the settings alone would take 0.5 s.
        assert cpu < 0.35

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
