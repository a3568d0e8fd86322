"""The event loop of a command."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine
from typing import Any

from async_motion.cli.tell import flush_output
from async_motion.errors import AsyncMotionError


def run_async(work: Coroutine[Any, Any, int]) -> int:
    """Run `work` on a uvloop event loop (asyncio's own on Windows) and return its exit code."""
    if sys.platform == "win32":
        return asyncio.run(work)
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


def run_output(work: Coroutine[Any, Any, int]) -> int:
    """Run `work`, which writes files or long output, as `run_async` does.

    Raises AsyncMotionError where the system refuses a file, such as on a full disk.
    """
    try:
        code = run_async(work)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as exc:
        flush_output()
        place = "" if exc.filename is None else f"{exc.filename}: "
        raise AsyncMotionError(f"{place}{exc.strerror or str(exc) or type(exc).__name__}") from exc
    return code
