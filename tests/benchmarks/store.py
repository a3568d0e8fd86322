"""Cost of storing: ``python -m tests.benchmarks.store [PUTS]``.

PUTs of 100 KB to real servers on this machine, by a bare miniopy-async client and by our store, in turns, one
at a time and eight concurrently; and to a directory. Client CPU is that of this process, without the servers.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

from async_motion.store.directory import DirectoryStore
from async_motion.store.minio import MinioStore
from tests.support import s3

BODY = os.urandom(100_000)
METADATA = {"camera": "porch", "instance": "edge1", "score": "0.034100"}
ROUNDS = 3

Put = Callable[[str], Awaitable[object]]


async def rate(put: Put, puts: int, at_once: int) -> tuple[float, float]:
    """Return (PUTs per second, ms of client CPU per PUT)."""
    numbers = iter(range(puts))

    async def work() -> None:
        for number in numbers:
            await put(f"edge1/porch/{number:06d}.jpg")

    cpu, started = time.process_time(), time.perf_counter()
    async with asyncio.TaskGroup() as tasks:
        for number in range(at_once):
            tasks.create_task(work(), name=f"put {number}")
    return puts / (time.perf_counter() - started), (time.process_time() - cpu) * 1000 / puts


@contextlib.asynccontextmanager
async def bare(server: s3.S3Server, bucket: str) -> AsyncIterator[Put]:
    async with server.raw() as client:

        async def put(key: str) -> object:
            return await client.put_object(
                bucket, key, io.BytesIO(BODY), len(BODY), "image/jpeg", metadata=dict(METADATA)
            )

        yield put


@contextlib.asynccontextmanager
async def ours(store: MinioStore | DirectoryStore) -> AsyncIterator[Put]:
    async with store:

        async def put(key: str) -> object:
            return await store.put(key, BODY, content_type="image/jpeg", metadata=METADATA, tags={})

        yield put


async def compare(
    name: str, puts: int, *kinds: tuple[str, contextlib.AbstractAsyncContextManager[Put]]
) -> None:
    async with contextlib.AsyncExitStack() as stack:
        opened = [(kind, await stack.enter_async_context(manager)) for kind, manager in kinds]
        for _, put in opened:
            await rate(put, 10, 1)
        for at_once in (1, 8):
            found: dict[str, list[tuple[float, float]]] = {kind: [] for kind, _ in opened}
            for _ in range(ROUNDS):
                for kind, put in opened:
                    found[kind].append(await rate(put, puts, at_once))
            for kind, results in found.items():
                speed = statistics.median(result[0] for result in results)
                cpu = statistics.median(result[1] for result in results)
                print(f"{name:<10} {kind:<15} {at_once:>8} {speed:>12.0f} {cpu:>14.2f}")


def main() -> None:
    puts = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    print(f"{'server':<10} {'client':<15} {'at once':>8} {'puts/s':>12} {'CPU ms a put':>14}")
    with tempfile.TemporaryDirectory() as folder:
        for start in (s3.seaweedfs, s3.juicefs):
            with start(Path(folder) / start.__name__) as server:
                bucket = server.make_bucket()
                store = MinioStore(bucket=bucket, **server.admin.arguments())
                asyncio.run(
                    compare(
                        server.name,
                        puts,
                        ("miniopy-async", bare(server, bucket)),
                        ("MinioStore", ours(store)),
                    )
                )
        asyncio.run(compare("directory", puts, ("DirectoryStore", ours(DirectoryStore(Path(folder) / "d")))))


if __name__ == "__main__":
    main()
