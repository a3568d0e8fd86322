"""Start the witnessed service 20 times faster, by forking a process that has already imported it.

    python -m tests.faults.nursery        one request for each line of standard input, as JSON:

    {"config": …, "witness": …, "log": …, "result": …, "kill_at": N or null}

Each request starts one service. Its pid is written to `result` + ".pid"; its outcome is written to `result`,
as JSON, once it has ended. All services end with the nursery.
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import av
import cv2

import async_motion.app.build
import async_motion.app.service
from tests.faults import trace, witness

IMPORTED = (av, cv2, async_motion.app.service, async_motion.app.build)


def main() -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # do not wait for the tracers' exit codes
    for line in sys.stdin:
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            watch(json.loads(line))
            os._exit(0)


def watch(request: dict[str, Any]) -> None:
    """Run one service under the tracer and write its outcome."""
    result = Path(request["result"])

    def started(pid: int) -> None:
        _write(result.with_name(result.name + ".pid"), str(pid))

    outcome = trace.run_traced(lambda: serve(request), request["kill_at"], started)
    _write(result, json.dumps(dataclasses.asdict(outcome)))


def serve(request: dict[str, Any]) -> int:
    """Run the service in this process; return its exit code."""
    log = os.open(request["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    for number in (1, 2):
        os.dup2(log, number)
    sys.argv = ["async-motion", "run", "--config", request["config"]]
    try:
        return witness.run(Path(request["witness"]))
    except SystemExit as exc:
        return int(exc.code or 0)
    finally:
        sys.stdout.flush()


def _write(path: Path, text: str) -> None:
    """Write a file atomically."""
    beside = path.with_name(path.name + ".new")
    beside.write_text(text)
    beside.rename(path)


if __name__ == "__main__":
    main()
