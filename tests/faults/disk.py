"""File systems to break: from an image on a loop device, or in memory. All of it needs root."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from tests.support.need import need
from tests.support.wait import eventually

IMAGE_MIB = {"ext4": 160, "xfs": 400}
FS_IOC_SHUTDOWN = 0x8004587D
"""The ioctl, equal for ext4 and xfs, that stops the file system at once."""
WITHOUT_THE_LOG = 2
"""Its flag for a power loss: everything in memory is lost, including the journal's part."""
OPTIONS = {"ext4": "loop,errors=remount-ro", "xfs": "loop"}


class Disk:
    """A fresh file system of one kind, mounted at `point`. `with` mounts and unmounts it.

    It is mounted below a shared mount, so that no other mount namespace keeps it alive after the unmount.
    """

    def __init__(self, kind: str, folder: Path) -> None:
        self.kind = kind
        self.image = folder / f"{kind}.img"
        self._shared = folder / "mounts"
        self.point = self._shared / kind

    @staticmethod
    def possible(kind: str = "ext4") -> bool:
        """Return whether this machine allows it."""
        return os.geteuid() == 0 and _program(f"mkfs.{kind}") is not None

    def __enter__(self) -> Self:
        need(os.geteuid() == 0, "root, to mount file systems")
        make = _program(f"mkfs.{self.kind}")
        need(make is not None, f"mkfs.{self.kind}")
        self.point.mkdir(parents=True)
        with self.image.open("wb") as file:
            file.truncate(IMAGE_MIB[self.kind] * 1024 * 1024)
        subprocess.run([str(make), "-q", str(self.image)], check=True, capture_output=True)
        for words in (["--bind", str(self._shared), str(self._shared)], ["--make-shared", str(self._shared)]):
            subprocess.run(["mount", *words], check=True, capture_output=True)
        self.mount()
        return self

    def __exit__(self, *_: object) -> None:
        self.unmount()
        unmount(self._shared)

    def mount(self) -> None:
        """Mount it; this may replay its journal."""
        words = ["mount", "-o", OPTIONS[self.kind], str(self.image), str(self.point)]
        subprocess.run(words, check=True, capture_output=True)

    def unmount(self) -> None:
        """Unmount it as soon as it is unused, and wait until the kernel has released it.

        That can be later than `umount` returns, if another mount namespace has just ended. If it were mounted
        again before, it would keep its state: shut down, or read-only.
        """
        unmount(self.point)
        eventually(self._is_released, within_s=60, what=f"{self.image} to be released")

    def _is_released(self) -> bool:
        words = ["losetup", "-j", str(self.image)]
        return not subprocess.run(words, check=True, capture_output=True, env=_SYSTEM).stdout

    def lose_power(self) -> None:
        """Stop the file system as a power loss would, even in the middle of writes."""
        folder = os.open(self.point, os.O_RDONLY)
        try:
            fcntl.ioctl(folder, FS_IOC_SHUTDOWN, struct.pack("I", WITHOUT_THE_LOG))
        finally:
            os.close(folder)

    def turn_read_only(self) -> None:
        """Make ext4 find an error, so that it becomes read-only while files are open for writing."""
        words = ["findmnt", "-no", "SOURCE", str(self.point)]
        device = subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()
        Path("/sys/fs/ext4", Path(device).name, "trigger_fs_error").write_text("1")


@contextlib.contextmanager
def small_disk(folder: Path, size_mib: int) -> Iterator[Path]:
    """Mount `size_mib` MiB of memory; yield the mount point."""
    need(os.geteuid() == 0, "root, to mount file systems")
    point = folder / "small"
    point.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", f"size={size_mib}m", "tmpfs", str(point)]
    subprocess.run(words, check=True, capture_output=True)
    try:
        yield point
    finally:
        unmount(point)


def unmount(point: Path) -> None:
    """Unmount `point`; retry while it is busy, shortly after a process that used it was killed."""

    def gone() -> bool:
        return subprocess.run(["umount", str(point)], capture_output=True).returncode == 0

    eventually(gone, within_s=20, what=f"{point} to be unmounted")


def fill(path: Path) -> None:
    """Use up all free bytes of the disk, most of them by allocation without writing."""
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as file:
        stat = os.statvfs(path.parent)
        with contextlib.suppress(OSError):
            os.posix_fallocate(file.fileno(), 0, max(1, stat.f_bfree * stat.f_bsize - 2**20))
        file.seek(0, os.SEEK_END)
        while file.write(bytes(65536)):
            pass


_SYSTEM = {**os.environ, "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"}


def _program(name: str) -> str | None:
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
