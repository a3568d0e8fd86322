"""The directory store on real file systems that are full or lose power. Needs root, for the mounts."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from async_motion.errors import StoreUnavailable
from async_motion.store.directory import DirectoryStore

pytestmark = pytest.mark.faults

_SHUTDOWN = 0x8004587D  # FS_IOC_SHUTDOWN
_WITHOUT_LOG = 2
JPEG = b"\xff\xd8" + bytes(range(256)) * 80 + b"\xff\xd9"


async def put(store: DirectoryStore, key: str, data: bytes = JPEG) -> str:
    return await store.put(key, data, content_type="image/jpeg", metadata={"key": key}, tags={})


async def fill(store: DirectoryStore, stored: list[str]) -> None:
    """Put objects until the disk is full; append the confirmed keys to `stored`."""
    for number in range(100):
        key = f"a/{number}.jpg"
        await put(store, key)
        stored.append(key)


def mount(*words: str) -> None:
    try:
        subprocess.run(["mount", *words], check=True, capture_output=True, timeout=30)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this user may not mount here")


@contextlib.contextmanager
def mounted(place: Path, *words: str) -> Iterator[None]:
    place.mkdir(exist_ok=True)
    mount(*words, str(place))
    try:
        yield
    finally:
        subprocess.run(["umount", str(place)], check=True, timeout=30)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "small"
    with mounted(place, "-t", "tmpfs", "-o", "size=300k", "tmpfs"):
        yield place


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """An image file with an ext4 file system."""
    if shutil.which("mkfs.ext4") is None:
        pytest.skip("mkfs.ext4 is not installed")
    file = tmp_path / "disk.img"
    with file.open("wb") as disk:
        disk.truncate(64 * 1024 * 1024)
    subprocess.run(["mkfs.ext4", "-q", str(file)], check=True, capture_output=True, timeout=60)
    return file


async def test_a_full_disk_is_reported_and_holds_no_partial_objects(small_disk: Path) -> None:
    stored: list[str] = []
    async with DirectoryStore(small_disk / "objects") as store:
        with pytest.raises(StoreUnavailable, match="No space left on device: free some space"):
            await fill(store, stored)

        assert [key async for key in store.find()] == sorted(stored)
        assert all([await store.get(key) == JPEG for key in stored])
        for key in stored[:2]:
            await store.delete(key)
        await put(store, "a/again.jpg")
        assert await store.get("a/again.jpg") == JPEG


async def test_what_was_confirmed_outlives_a_power_loss(image: Path, tmp_path: Path) -> None:
    place = tmp_path / "disk"
    keys = [f"porch/{number // 5}/{number}.jpg" for number in range(20)]
    with mounted(place, "-o", "loop", str(image)):
        store = DirectoryStore(place / "data" / "objects")
        for key in keys:
            await put(store, key, JPEG + key.encode())
        # From here on nothing reaches the disk; what had not reached it is lost.
        root = os.open(place, os.O_RDONLY)
        fcntl.ioctl(root, _SHUTDOWN, struct.pack("I", _WITHOUT_LOG))
        os.close(root)
        with pytest.raises(StoreUnavailable):
            await put(store, "too-late.jpg")
        await store.__aexit__(None, None, None)

    with mounted(place, "-o", "loop", str(image)):
        async with DirectoryStore(place / "data" / "objects") as store:
            for key in keys:
                assert await store.get(key) == JPEG + key.encode()
                assert (await store.metadata(key))["metadata"] == {"key": key}
