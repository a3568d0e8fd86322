"""Blocking calls to a disk in daemon threads: one that hangs holds up neither the loop nor the exit.

The loop's own executor is joined at the exit, and a disk that hangs may take all of its threads.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")


async def in_daemon_thread(
    work: Callable[..., T], *args: object, done: Callable[[], None] = lambda: None
) -> T:
    """Run `work` in a thread of its own and return its result. `done` is called in the loop when it ends.

    If the caller is cancelled, `work` goes on, and `done` is called only after it.
    """
    loop = asyncio.get_running_loop()
    result: Future[T] = Future()

    def run() -> None:
        try:
            value = work(*args)
        except BaseException as exc:  # noqa: BLE001  # the caller raises it
            result.set_exception(exc)
        else:
            result.set_result(value)
        with suppress(RuntimeError):  # the loop may be closed before a hung disk answers
            loop.call_soon_threadsafe(done)

    result.set_running_or_notify_cancel()
    threading.Thread(target=run, name="disk", daemon=True).start()
    return await asyncio.wrap_future(result)
