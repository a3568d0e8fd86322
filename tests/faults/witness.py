"""Run the service as ``python -m async_motion`` does, and record what it has promised.

``$WITNESS_FILE`` gets a line of JSON, in one `write`, after each

    {"accepted": frame_id, "key": …, "sha256": …, "at": …}    `Spool.accept` has returned
    {"acked": frame_id, "at": …}                              the broker has acknowledged an announcement
    {"leak": {"tasks": […], "threads": […], "connections": …, "files": …}}     on SIGUSR1: what is alive

`at` is the machine's monotonic clock, which all processes share. The service itself is not changed.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from async_motion.broker.client import BrokerClient
from async_motion.cli import main
from async_motion.core.model import EventPhase, Record
from async_motion.spool import Spool

_real_accept = Spool.accept
_real_open = Spool.open
_real_publish = BrokerClient.publish
_file = -1


def write(line: dict[str, Any]) -> None:
    """Append one line; once this returns, the line survives a kill of the process."""
    os.write(_file, (json.dumps({**line, "at": time.monotonic()}) + "\n").encode())


async def accept(self: Spool, items: Sequence[Record | EventPhase]) -> None:
    dropped = sum(self.stats.dropped.values())
    await _real_accept(self, items)
    if sum(self.stats.dropped.values()) != dropped:
        write({"dropped": dict(self.stats.dropped)})
    for item in items:
        if isinstance(item, Record):
            info = item.info
            write({"accepted": info.frame_id, "key": info.object_key, "sha256": info.sha256})


async def publish(self: BrokerClient, topic: str, payload: bytes, *, retain: bool = False) -> None:
    await _real_publish(self, topic, payload, retain=retain)
    if topic.endswith("/frame") and not retain:
        write({"acked": json.loads(payload)["frame_id"]})


async def opened(self: Spool) -> None:
    await _real_open(self)
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, report)


def report() -> None:
    tasks = sorted(task.get_name() for task in asyncio.all_tasks())
    threads = sorted(thread.name for thread in threading.enumerate())
    handles = [_handle(number) for number in os.listdir("/proc/self/fd")]  # noqa: PTH208
    connections = sum(handle.startswith("socket:") for handle in handles)
    files = len(handles) - connections
    write({"leak": {"tasks": tasks, "threads": threads, "connections": connections, "files": files}})


def _handle(number: str) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{number}")  # noqa: PTH115
    except FileNotFoundError:
        return ""  # the folder itself


def run(file: Path) -> int:
    """Run the service in this process and write to `file`; return the exit code."""
    global _file  # noqa: PLW0603  # this process is the service: its methods are replaced, too
    _file = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    Spool.accept = accept  # type: ignore[method-assign]
    Spool.open = opened  # type: ignore[method-assign]
    BrokerClient.publish = publish  # type: ignore[method-assign]
    return main()


if __name__ == "__main__":
    sys.exit(run(Path(os.environ["WITNESS_FILE"])))
