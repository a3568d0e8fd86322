"""Free space on the disks that the service writes to.

Each disk has its task, each look its daemon thread: one that hangs holds up neither the other nor the exit.
"""

from __future__ import annotations

import asyncio
import os
import threading
from concurrent.futures import Future
from pathlib import Path
from typing import Final

from async_motion.settings import Settings

EVERY_S: Final = 60.0


class Disks:
    """Keeps the number of free bytes. `run` reads them; `state` returns them."""

    def __init__(self, settings: Settings) -> None:
        self._free: dict[str, int] = {}
        self.adopt(settings)

    def adopt(self, settings: Settings) -> None:
        """Use other settings; the next `run` reads the disks that they name."""
        self._paths: dict[str, Path] = {}
        if settings.spool.path != ":memory:":
            self._paths["spool"] = Path(settings.spool.path).absolute().parent
        if settings.minio.endpoint is None:
            self._paths["store"] = settings.directory.path.absolute()
        self._free = {name: free for name, free in self._free.items() if name in self._paths}

    def state(self) -> dict[str, int]:
        """Return the free bytes on the disks of `spool` and, if the store is a directory, `store`."""
        return dict(self._free)

    async def run(self) -> None:
        """Read the free space now and every `EVERY_S`, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for name, path in self._paths.items():
                tasks.create_task(self._look(name, path), name=f"disk[{name}]")

    async def _look(self, name: str, path: Path) -> None:
        while True:
            free = await _free_bytes(path)
            if free is not None:
                self._free[name] = free
            await asyncio.sleep(EVERY_S)


async def _free_bytes(path: Path) -> int | None:
    """Return the free bytes on a folder's disk; None if the folder does not exist."""
    result: Future[int | None] = Future()
    result.set_running_or_notify_cancel()

    def look() -> None:
        try:
            status = os.statvfs(path)
        except OSError:
            result.set_result(None)
        else:
            result.set_result(status.f_bavail * status.f_frsize)

    threading.Thread(target=look, name="disk", daemon=True).start()
    return await asyncio.wrap_future(result)
