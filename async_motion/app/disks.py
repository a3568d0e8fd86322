"""Free space on the disks that the service writes to.

Each disk has its task, each look its daemon thread: one that hangs holds up neither the other nor the exit.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from async_motion.settings import Settings
from async_motion.store.daemon_thread import in_daemon_thread

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
            with suppress(OSError):  # the folder may not exist yet
                self._free[name] = await in_daemon_thread(_free_bytes, path)
            await asyncio.sleep(EVERY_S)


def _free_bytes(path: Path) -> int:
    status = os.statvfs(path)
    return status.f_bavail * status.f_frsize
