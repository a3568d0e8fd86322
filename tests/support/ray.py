"""A Ray cluster of nodes with one CPU each on this machine, behind a token.

    with RayHead(folder) as head:
        node = head.add()
        ... head.address, head.environment ...
        node.kill()

Ray gives a node's processes 15 s to start, which may be too short on a busy machine: a node that does not
start is started again.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import secrets
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.need import need
from tests.support.wait import eventually

TRIES = 4
START_S = 90.0


class RayNode:
    """One `ray start --block`, with all of its processes in one group."""

    def __init__(self, log: Path, environment: dict[str, str], *arguments: str) -> None:
        self.log = log
        with log.open("wb") as file:
            self._process = subprocess.Popen(
                [
                    *(str(Path(sys.executable).with_name("ray")), "start", "--block", "--num-cpus=1"),
                    *("--object-store-memory=80000000", "--disable-usage-stats"),
                    *("--min-worker-port=0", "--max-worker-port=0", *arguments),
                ],
                env=environment,
                stdout=file,
                stderr=file,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )

    def started(self) -> bool:
        """Wait until the node is up or has ended; return whether it is up."""
        eventually(
            lambda: "Ray runtime started" in self.said() or self._process.poll() is not None,
            within_s=START_S,
            what="a Ray node",
        )
        return self._process.poll() is None

    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def kill(self) -> None:
        """Kill the node and all of its processes at once, as a power loss would."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(timeout=30)


class RayHead:
    """The head node of a cluster, and the nodes added to it."""

    def __init__(self, folder: Path) -> None:
        need(importlib.util.find_spec("ray") is not None, "Ray: pip install 'async-motion[ray]'")
        self._folder = folder
        self._nodes: list[RayNode] = []
        # Ray's Unix sockets need a short path.
        self._work = tempfile.TemporaryDirectory(prefix="ray", dir="/tmp", ignore_cleanup_errors=True)
        self.environment = os.environ | {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "RAY_USAGE_STATS_ENABLED": "0",
            # Notice a dead node within seconds.
            "RAY_health_check_initial_delay_ms": "1000",
            "RAY_health_check_period_ms": "1000",
            "RAY_health_check_failure_threshold": "3",
        }
        self.address = ""

    def __enter__(self) -> Self:
        head = self._start(
            "head", "--head", "--port=0", "--include-dashboard=false", f"--temp-dir={self._work.name}"
        )
        found = re.search(r"address='([0-9.:]+)'", head.said())
        assert found is not None, head.said()
        self.address = found[1]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        for node in reversed(self._nodes):
            node.kill()
        self._work.cleanup()

    def add(self) -> RayNode:
        """Start another node."""
        return self._start(f"node{len(self._nodes)}", f"--address={self.address}")

    def _start(self, name: str, *arguments: str) -> RayNode:
        said = ""
        for number in range(TRIES):
            node = RayNode(self._folder / f"{name}-{number}.log", self.environment, *arguments)
            self._nodes.append(node)
            if node.started():
                return node
            node.kill()
            said = node.said()
        raise AssertionError(f"no Ray node came up in {TRIES} tries:\n{said[-2000:]}")
