"""The directory store's failures: crashes, full and broken disks, missing rights, hostile keys."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from async_motion.errors import AsyncMotionError, RecordRejected, StoreRefused, StoreUnavailable
from async_motion.store.directory import DirectoryStore

KEY = "edge1/porch/2026/11/22/20261122T073112345Z-7c1e9a/000003.jpg"
JPEG = b"\xff\xd8" + bytes(range(256)) * 100 + b"\xff\xd9"


async def put(store: DirectoryStore, key: str = KEY, data: bytes = JPEG) -> str:
    return await store.put(
        key, data, content_type="image/jpeg", metadata={"camera": "porch"}, tags={"kind": "frame"}
    )


def visible(path: Path) -> list[str]:
    """Return the files that a plain listing of the directory shows."""
    return sorted(
        str(file.relative_to(path))
        for file in path.rglob("*")
        if file.is_file() and not any(part.startswith(".") for part in file.relative_to(path).parts)
    )


def leftovers(path: Path) -> list[Path]:
    return [file for file in (path / ".async_motion").rglob("*") if file.is_file()]


async def test_the_tree_holds_the_object_and_nothing_else_to_see(tmp_path: Path) -> None:
    async with DirectoryStore(tmp_path) as store:
        await put(store)
        await store.probe()

    assert visible(tmp_path) == [KEY]
    assert (tmp_path / KEY).read_bytes() == JPEG
    assert leftovers(tmp_path) == []


async def test_the_metadata_beside_an_object(tmp_path: Path) -> None:
    async with DirectoryStore(tmp_path) as store:
        etag = await put(store)

        assert await store.metadata(KEY) == {
            "content_type": "image/jpeg",
            "etag": etag,
            "size": len(JPEG),
            "metadata": {"camera": "porch"},
            "tags": {"kind": "frame"},
        }


async def test_the_metadata_beside_an_object_may_be_damaged(tmp_path: Path) -> None:
    async with DirectoryStore(tmp_path) as store:
        await put(store, "a.jpg")
        (tmp_path / ".a.jpg.meta.json").write_text("{")

        assert await store.get("a.jpg") == JPEG
        with pytest.raises(RecordRejected, match=r"a\.jpg: its metadata"):
            await store.metadata("a.jpg")
        await put(store, "a.jpg")
        assert (await store.metadata("a.jpg"))["size"] == len(JPEG)


async def test_a_delete_leaves_no_empty_directories(tmp_path: Path) -> None:
    async with DirectoryStore(tmp_path) as store:
        await put(store, "a/b/c/1.jpg")
        await put(store, "a/2.jpg")

        await store.delete("a/b/c/1.jpg")

        assert sorted(each.name for each in (tmp_path / "a").iterdir()) == [".2.jpg.meta.json", "2.jpg"]
        await store.delete("a/2.jpg")
        await put(store, "a/b/c/1.jpg")
        assert visible(tmp_path) == ["a/b/c/1.jpg"]


async def test_there_is_no_link(tmp_path: Path) -> None:
    async with DirectoryStore(tmp_path) as store:
        assert await store.link(KEY, 60) is None


async def test_the_steps_come_in_the_order_that_survives_a_power_loss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    sync, rename, mkdir = os.fsync, Path.replace, Path.mkdir
    path = tmp_path / "objects"

    def name(file: Path) -> str:
        inside = file.relative_to(tmp_path)
        return str(inside) if ".async_motion" not in inside.parts else "temporary"

    def traced_sync(descriptor: int) -> None:
        steps.append(f"sync {name(Path(f'/proc/self/fd/{descriptor}').readlink())}")
        sync(descriptor)

    def traced_rename(self: Path, target: Path) -> Path:
        steps.append(f"rename to {name(target)}")
        return rename(self, target)

    def traced_mkdir(self: Path, *args: Any, **kwargs: Any) -> None:
        steps.append(f"make {name(self)}")
        mkdir(self, *args, **kwargs)

    async with DirectoryStore(path) as store:
        await store.probe()
        monkeypatch.setattr(os, "fsync", traced_sync)
        monkeypatch.setattr(Path, "replace", traced_rename)
        monkeypatch.setattr(Path, "mkdir", traced_mkdir)
        await put(store, "a/b/1.jpg")
        first, steps[:] = list(steps), []
        await put(store, "a/b/2.jpg")
        monkeypatch.undo()

    assert first == [
        "make objects/a",
        "sync objects",
        "make objects/a/b",
        "sync objects/a",
        "sync temporary",
        "rename to objects/a/b/.1.jpg.meta.json",
        "sync temporary",
        "rename to objects/a/b/1.jpg",
        "sync objects/a/b",
    ]
    assert steps == [
        "sync temporary",
        "rename to objects/a/b/.2.jpg.meta.json",
        "sync temporary",
        "rename to objects/a/b/2.jpg",
        "sync objects/a/b",
    ]


async def test_directories_of_a_store_that_died_are_synced_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "objects" / "a").mkdir(parents=True)
    synced: set[str] = set()
    sync = os.fsync

    def traced(descriptor: int) -> None:
        synced.add(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", traced)
    async with DirectoryStore(tmp_path / "objects") as store:
        await put(store, "a/1.jpg")

    assert {str(tmp_path), str(tmp_path / "objects"), str(tmp_path / "objects" / "a")} <= synced


DYING = """
import asyncio, os, signal, sys
from async_motion.store.directory import DirectoryStore

path, step = sys.argv[1], int(sys.argv[2])
done = 0

def dying(call):
    def stepped(*args, **kwargs):
        global done
        done += 1
        if done == step:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*args, **kwargs)
    return stepped

for name in ("open", "write", "fsync", "close", "rename", "replace", "mkdir", "unlink"):
    setattr(os, name, dying(getattr(os, name)))

async def main():
    async with DirectoryStore(path) as store:
        await store.put("a/b/1.jpg", b"new" * 30000, content_type="i", metadata={"n": "new"}, tags={})
        print("confirmed", flush=True)

asyncio.run(main())
"""


@pytest.mark.parametrize("before", [None, b"old"])
async def test_killed_at_every_step(tmp_path: Path, before: bytes | None) -> None:
    new = b"new" * 30000
    seen: set[bytes | None] = set()
    for step in range(1, 200):
        path = tmp_path / f"{step}"
        if before is not None:
            async with DirectoryStore(path) as store:
                await put(store, "a/b/1.jpg", before)
        child = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-c", DYING, str(path), str(step)],
            capture_output=True,
            timeout=60,
            check=False,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        found = visible(path) if path.exists() else []
        assert found in ([], ["a/b/1.jpg"])
        now = (path / "a/b/1.jpg").read_bytes() if found else None
        seen.add(now)
        assert now in (before, new), "never a part"
        if b"confirmed" in child.stdout:
            assert now == new
        if now == new:
            async with DirectoryStore(path) as store:
                assert (await store.metadata("a/b/1.jpg"))["metadata"] == {"n": "new"}
        async with DirectoryStore(path) as store:
            await put(store, "a/b/1.jpg", new)
            assert await store.get("a/b/1.jpg") == new
        assert leftovers(path) == [], "cleared by the next who opens"
        if child.returncode == 0:
            break
        assert child.returncode == -signal.SIGKILL, child.stderr.decode()
    else:
        raise AssertionError("never came to its end")

    assert seen == {before, new}
    assert step > 10


async def test_what_a_living_store_writes_is_left_alone(tmp_path: Path) -> None:
    async with DirectoryStore(tmp_path) as first:
        await first.probe()
        (mine,) = (tmp_path / ".async_motion").iterdir()
        (mine / "half").write_bytes(b"half")

        async with DirectoryStore(tmp_path) as second:
            await put(second)

        assert (mine / "half").exists()
        await put(first)
        (mine / "half").unlink()
    async with DirectoryStore(tmp_path) as third:
        await third.probe()
    assert list((tmp_path / ".async_motion").iterdir()) == []


@pytest.mark.parametrize("gone", [".", "edge1", ".async_motion"])
async def test_others_may_tidy_up_at_any_time(tmp_path: Path, gone: str) -> None:
    path = tmp_path / "objects"
    async with DirectoryStore(path) as store:
        await put(store)
        await asyncio.to_thread(shutil.rmtree, path / gone)

        await store.probe()
        await put(store)

        assert await store.get(KEY) == JPEG


def failing(monkeypatch: pytest.MonkeyPatch, name: str, number: int) -> Callable[[], None]:
    """Make the `os` function `name` fail with errno `number`; return a function that undoes this."""

    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, name, fail)
    return monkeypatch.undo


@pytest.mark.parametrize(
    ("call", "number", "kind", "words"),
    [
        ("write", errno.ENOSPC, StoreUnavailable, "No space left.*free some space"),
        ("write", errno.EDQUOT, StoreUnavailable, "free some space"),
        ("fsync", errno.ENOSPC, StoreUnavailable, "free some space"),
        ("fsync", errno.EIO, StoreUnavailable, "Input/output error"),
        ("replace", errno.EIO, StoreUnavailable, "Input/output error"),
        ("replace", errno.EROFS, StoreRefused, "Read-only file system.*must be able to write"),
        ("mkdir", errno.EACCES, StoreRefused, "Permission denied"),
        ("mkdir", errno.ENOSPC, StoreUnavailable, "free some space"),
    ],
)
async def test_a_disk_that_fails(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    call: str,
    number: int,
    kind: type[AsyncMotionError],
    words: str,
) -> None:
    async with DirectoryStore(tmp_path) as store:
        await put(store, "before/1.jpg")
        repair = failing(monkeypatch, call, number)

        with pytest.raises(StoreUnavailable, match=words) as caught:
            await put(store)

        repair()
        assert type(caught.value) is kind
        assert visible(tmp_path) == ["before/1.jpg"]
        assert leftovers(tmp_path) == []
        await put(store)
        assert await store.get(KEY) == JPEG


async def test_a_disk_that_takes_a_part_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda file, data: write(file, bytes(data)[:1000]))
    async with DirectoryStore(tmp_path) as store:
        await put(store)

        assert await store.get(KEY) == JPEG


async def test_a_file_system_without_sync_of_directories(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync = os.fsync

    def only_files(descriptor: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):  # noqa: PTH112
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", only_files)
    async with DirectoryStore(tmp_path) as store:
        await put(store)

        assert await store.get(KEY) == JPEG


async def test_a_file_stands_in_the_place_of_the_directory(tmp_path: Path) -> None:
    (tmp_path / "objects").write_text("a file")

    for path in (tmp_path / "objects", tmp_path / "objects" / "below"):
        async with DirectoryStore(path) as store:
            for call in (store.probe(), put(store)):
                with pytest.raises(StoreRefused, match="objects is not a directory"):
                    await call


async def test_no_right_to_write() -> None:
    async with DirectoryStore("/sys/objects") as store:  # not writable even for root
        for call in (store.probe(), put(store)):
            with pytest.raises(StoreRefused, match="must be able to write there"):
                await call


@pytest.mark.parametrize(
    "key",
    [
        "",
        "/",
        "/etc/passwd",
        "../outside.jpg",
        "a/../../outside.jpg",
        "a//b.jpg",
        "a/",
        ".",
        "a/./b",
        ".async_motion/x",
        "a/.b.jpg.meta.json",
        "a\0b",
        "a" * 256,
        "a/" + "b" * 250 + ".jpg",
    ],
)
async def test_keys_that_lead_elsewhere_or_nowhere(tmp_path: Path, key: str) -> None:
    async with DirectoryStore(tmp_path / "objects") as store:
        with pytest.raises(RecordRejected):
            await put(store, key)
        if len(key) < 200:
            with pytest.raises(RecordRejected):
                await store.get(key)

    assert visible(tmp_path) == []


@pytest.mark.parametrize("key", ["a/b.jpg/c.jpg", "a"])
async def test_a_key_where_another_stands(tmp_path: Path, key: str) -> None:
    async with DirectoryStore(tmp_path) as store:
        await put(store, "a/b.jpg")

        with pytest.raises(RecordRejected):
            await put(store, key)
        with pytest.raises(RecordRejected):
            await store.get(key)

        assert visible(tmp_path) == ["a/b.jpg"]


async def test_a_disk_that_hangs_is_given_up_and_blocks_no_other(tmp_path: Path) -> None:
    async with DirectoryStore(tmp_path, workers=2, put_timeout_s=0.3) as store:
        await put(store, "before.jpg")
        os.mkfifo(tmp_path / "hangs.jpg")  # a read blocks until there is a writer
        started = time.monotonic()

        for _ in range(2):
            with pytest.raises(StoreUnavailable, match=r"the disk did not answer within 0\.3 s"):
                await store.get("hangs.jpg")
        # Both threads are busy: the next call waits, but not for ever, and leaves no file behind.
        with pytest.raises(StoreUnavailable, match="did not answer"):
            await put(store, "waiting.jpg")

        assert time.monotonic() - started < 20
        (tmp_path / "hangs.jpg").write_bytes(b"")  # the disk has recovered: the threads end
        async with asyncio.timeout(30):
            while True:
                try:
                    await put(store, "after.jpg")
                    break
                except StoreUnavailable:
                    continue
        assert not (tmp_path / "waiting.jpg").exists()


async def test_a_hung_disk_does_not_hold_up_the_exit(tmp_path: Path) -> None:
    code = f"""
import asyncio, os
from async_motion.errors import StoreUnavailable
from async_motion.store.directory import DirectoryStore

async def main():
    os.mkfifo({str(tmp_path / "hangs.jpg")!r})
    async with DirectoryStore({str(tmp_path)!r}, put_timeout_s=0.1) as store:
        try:
            await store.get("hangs.jpg")
        except StoreUnavailable:
            print("given up")

asyncio.run(main())
"""
    child = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        timeout=30,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )

    assert child.stdout == b"given up\n"
    assert child.stderr == b""


async def test_puts_and_deletes_in_one_directory_do_not_meet(tmp_path: Path) -> None:
    async with DirectoryStore(tmp_path) as store:

        async def come_and_go(key: str) -> None:
            for _ in range(20):
                await put(store, key)
                assert await store.get(key) == JPEG
                await store.delete(key)

        async with asyncio.TaskGroup() as tasks:
            for number in range(4):
                tasks.create_task(come_and_go(f"a/b/{number}.jpg"), name=f"come and go {number}")

    assert visible(tmp_path) == []


async def test_many_stores_share_one_directory(tmp_path: Path) -> None:
    async with (
        DirectoryStore(tmp_path) as one,
        DirectoryStore(tmp_path) as other,
        asyncio.TaskGroup() as tasks,
    ):
        for number in range(10):
            tasks.create_task(put(one, f"a/{number}.jpg"), name=f"one {number}")
            tasks.create_task(put(other, f"a/{number}.jpg"), name=f"other {number}")

    assert len(visible(tmp_path)) == 10


async def test_objects_are_not_readable_by_all(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        async with DirectoryStore(tmp_path / "objects") as store:
            await store.put("edge1/porch/a.jpg", b"x", content_type="image/jpeg", metadata={}, tags={})
    finally:
        os.umask(before)
    for place in (tmp_path / "objects").rglob("*"):
        assert place.stat().st_mode & 0o007 == 0, place
