"""The event loop of a command."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine
from typing import Any


def run_async(work: Coroutine[Any, Any, int]) -> int:
    """Run `work` on a uvloop event loop (asyncio's own on Windows) and return its exit code."""
    if sys.platform == "win32":
        return asyncio.run(work)
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)
