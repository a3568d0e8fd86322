"""Control groups, version 1 or 2: freeze a process as a suspended host is frozen, slow its disk down."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
IS_V2 = (ROOT / "cgroup.controllers").exists()
FREEZER = ROOT if IS_V2 else ROOT / "freezer"
DISK = ROOT if IS_V2 else ROOT / "blkio"


class Group:
    """A group of this test. `close` thaws it and moves its processes out."""

    def __init__(self, root: Path, name: str) -> None:
        self._root = root
        self._folder = root / f"am{os.getpid()}-{name}"
        self._folder.mkdir(exist_ok=True)

    def take(self, pid: int) -> None:
        """Move a process with all its threads into the group."""
        (self._folder / "cgroup.procs").write_text(str(pid))

    def freeze(self, frozen: bool) -> None:
        if IS_V2:
            (self._folder / "cgroup.freeze").write_text("1" if frozen else "0")
        else:
            (self._folder / "freezer.state").write_text("FROZEN" if frozen else "THAWED")

    def limit_writes(self, device: int, per_second: int) -> None:
        """Limit the writes a second to a disk (`st_dev`); 0: no limit."""
        disk = f"{os.major(device)}:{os.minor(device)}"
        if IS_V2:
            (self._folder / "io.max").write_text(f"{disk} wiops={per_second or 'max'}")
        else:
            (self._folder / "blkio.throttle.write_iops_device").write_text(f"{disk} {per_second}")

    def close(self) -> None:
        with suppress(OSError):
            for pid in (self._folder / "cgroup.procs").read_text().split():
                (self._root / "cgroup.procs").write_text(pid)
            self._folder.rmdir()


def can_freeze() -> bool:
    """Return whether this process may make a group that freezes."""
    return _can(FREEZER, "cgroup.freeze" if IS_V2 else "freezer.state")


def can_slow_disks() -> bool:
    """Return whether this process may make a group that limits a disk."""
    return _can(DISK, "io.max" if IS_V2 else "blkio.throttle.write_iops_device")


def _can(root: Path, file: str) -> bool:
    try:
        group = Group(root, "probe")
    except OSError:
        return False
    found = os.access(root / f"am{os.getpid()}-probe" / file, os.W_OK)
    group.close()
    return found
