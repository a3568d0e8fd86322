"""Find the capture processes as an operator does: in /proc."""

from __future__ import annotations

import os
from pathlib import Path

MODULE = "async_motion.capture.worker.child"


def capture_processes(parent: int | None = None) -> dict[str, int]:
    """Return camera -> pid of the capture processes of `parent`, or of this process."""
    found: dict[str, int] = {}
    for place in Path("/proc").glob("[0-9]*"):
        try:
            words = (place / "cmdline").read_bytes().split(b"\0")
            status = (place / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has just ended
        alive = status[0] not in "ZX"
        if MODULE.encode() in words and alive and int(status[1]) == (parent or os.getpid()):
            found[words[words.index(MODULE.encode()) + 1].decode()] = int(place.name)
    return found


def is_alive(pid: int) -> bool:
    """Return whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
