"""What durability costs: ``python -m tests.benchmarks.delivery [--quick] [--folder DIR]``.

Prints two tables. The first: how fast JPEGs of 100 KB are accepted, and how long one acceptance takes, beside
writing each to a file of its own with fsync. The second: how fast they come through to a subscriber's broker,
end to end (accepted, committed, put, noted, announced, removed), beside a bare loop of `put_object` and
`publish` with as many at once, on SeaweedFS and mosquitto on this machine. Both run on uvloop, as the service
does. The frames are those of an event, with its start, updates, end and `event.json`: the bare loop has none.

`--folder` is where spool and files go: on tmpfs an fsync costs nothing, on an SD card it is everything.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import io
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import aiohttp
import aiomqtt
import uvloop
from miniopy_async.api import Minio

from async_motion.broker.client import BrokerClient
from async_motion.core.model import Record
from async_motion.core.names import Topics
from async_motion.delivery import Delivery
from async_motion.spool import Spool
from async_motion.store.minio import MinioStore
from tests.support import s3
from tests.support.delivering import end_of, make_event, make_record, start_of
from tests.support.mqtt import Mosquitto
from tests.support.wait import eventually_async

SIZE = 100_000
AT_ONCE = 8
TOPICS = Topics("async_motion/bench")


def records(count: int, camera: str = "porch", index: int = 0) -> list[Record]:
    """Return frames of one event, of 100 KB that do not compress."""
    event = make_event(camera, index)
    made = []
    for seq in range(count):
        jpeg = os.urandom(SIZE)
        info = replace(
            make_record(event, seq, size=1).info, size=SIZE, sha256=hashlib.sha256(jpeg).hexdigest()
        )
        made.append(Record(info=info, jpeg=jpeg))
    return made


# -- acceptance


async def accepting(folder: Path, frames: list[Record], at_once: int) -> list[float]:
    """Return the seconds that each acceptance took."""
    taken: list[float] = []
    queue = iter(frames)

    async with Spool(folder / "spool.db") as spool:

        async def accept() -> None:
            for frame in queue:
                begun = time.perf_counter()
                await spool.accept([frame])
                taken.append(time.perf_counter() - begun)

        async with asyncio.TaskGroup() as tasks:
            for number in range(at_once):
                tasks.create_task(accept(), name=f"accept {number}")
    return taken


def files(folder: Path, frames: list[Record]) -> list[float]:
    """Write each to a file of its own, with fsync, and no more: the name itself is not made durable."""
    taken = []
    for number, frame in enumerate(frames):
        begun = time.perf_counter()
        with (folder / f"{number}.jpg").open("wb") as file:
            file.write(frame.jpeg)
            file.flush()
            os.fsync(file.fileno())
        taken.append(time.perf_counter() - begun)
    return taken


def acceptance(folder: Path, count: int) -> None:
    frames = records(count)
    print(f"\nAcceptance of {count} JPEGs of 100 KB   frames/s     p50 ms     p99 ms")
    for at_once in (1, 4, 16):
        place = folder / f"accept{at_once}"
        place.mkdir()
        begun = time.perf_counter()
        taken = uvloop.run(accepting(place, frames, at_once))
        row(f"spool, {at_once} at once", taken, time.perf_counter() - begun)
    place = folder / "files"
    place.mkdir()
    begun = time.perf_counter()
    row("a file and an fsync each", files(place, frames), time.perf_counter() - begun)


def row(name: str, taken: list[float], seconds: float) -> None:
    ordered = sorted(taken)
    p99 = ordered[int(0.99 * (len(ordered) - 1))]
    print(f"  {name:36} {len(taken) / seconds:8.0f} {statistics.median(taken) * 1e3:10.2f} {p99 * 1e3:10.2f}")


# -- end to end


async def delivered(
    folder: Path, server: s3.S3Server, broker: Mosquitto, frames: list[Record], index: int
) -> float:
    """Accept all of event `index` while they are delivered; return the seconds until its end is announced."""
    bucket = server.make_bucket()
    client = BrokerClient(host="127.0.0.1", port=broker.port)
    async with (
        Spool(folder / "spool.db") as spool,
        MinioStore(bucket=bucket, concurrency=AT_ONCE, **server.admin.arguments()) as store,
    ):
        delivery = Delivery(
            spool=spool,
            store=store,
            broker=client,
            topics=TOPICS,
            concurrency=AT_ONCE,
            delayed_after_s=3600.0,
        )
        running = [
            asyncio.create_task(client.run(), name="broker"),
            asyncio.create_task(delivery.run(), name="delivery"),
        ]
        await eventually_async(lambda: client.connected, what="the broker")
        begun = time.perf_counter()
        event = make_event("porch", index)
        await spool.accept([*frames[:5], start_of(event)])
        for start in range(5, len(frames), 5):
            await spool.accept(frames[start : start + 5])
        await spool.accept([end_of(event)])
        assert await delivery.drain(600)
        seconds = time.perf_counter() - begun
        assert delivery.health()["announced"] == len(frames)
        for task in running:
            task.cancel()
        for task in running:
            with contextlib.suppress(asyncio.CancelledError):
                await task
    return seconds


async def bare(server: s3.S3Server, broker: Mosquitto, frames: list[Record]) -> float:
    """Put and publish with the libraries alone, as many at once."""
    bucket = server.make_bucket()
    user = server.admin
    connector = aiohttp.TCPConnector(limit=AT_ONCE)
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        aiomqtt.Client("127.0.0.1", broker.port, protocol=aiomqtt.ProtocolVersion.V5) as mqtt,
    ):
        client = Minio(
            server.endpoint, user.access_key, user.secret_key, secure=False, region=s3.REGION, session=session
        )
        queue = iter(frames)

        async def loop() -> None:
            for frame in queue:
                info = frame.info
                await client.put_object(
                    bucket,
                    info.object_key,
                    io.BytesIO(frame.jpeg),
                    len(frame.jpeg),
                    content_type="image/jpeg",
                )
                await mqtt.publish(TOPICS.frame(info.camera), info.object_key.encode(), qos=1)

        begun = time.perf_counter()
        async with asyncio.TaskGroup() as tasks:
            for number in range(AT_ONCE):
                tasks.create_task(loop(), name=f"bare {number}")
        return time.perf_counter() - begun


def end_to_end(folder: Path, count: int, rounds: int) -> None:
    print(f"\nEnd to end, {count} JPEGs of 100 KB, {AT_ONCE} at once   frames/s   client CPU ms a frame")
    with s3.seaweedfs(folder / "seaweedfs") as server, Mosquitto(folder / "broker") as broker:
        uvloop.run(bare(server, broker, records(50, "warm")))
        rates: dict[str, list[float]] = {"delivery": [], "bare": []}
        costs: dict[str, list[float]] = {"delivery": [], "bare": []}
        for number in range(rounds):
            # In turn, so that a machine that slows down slows both.
            place = folder / f"round{number}"
            place.mkdir()
            frames = records(count, index=number)

            def measure(
                name: str, work: Callable[[], Awaitable[float]], frames: list[Record] = frames
            ) -> None:
                before = cpu()
                rates[name].append(len(frames) / uvloop.run(_await(work)))
                costs[name].append((cpu() - before) / len(frames) * 1e3)

            measure("bare", lambda frames=frames: bare(server, broker, frames))  # type: ignore[misc]
            measure(
                "delivery",
                lambda place=place, frames=frames, index=number: delivered(  # type: ignore[misc]
                    place, server, broker, frames, index
                ),
            )
        for name, words in (
            ("delivery", "spool, store, broker: every promise"),
            ("bare", "put_object + publish, no promise"),
        ):
            print(
                f"  {words:44} {statistics.median(rates[name]):8.0f} {statistics.median(costs[name]):12.2f}"
            )
        share = statistics.median(d / b for d, b in zip(rates["delivery"], rates["bare"], strict=True))
        print(f"  delivery reaches {share:.0%} of the bare loop (median of {rounds} rounds)")


async def _await(work: Callable[[], Awaitable[float]]) -> float:
    return await work()


def cpu() -> float:
    """Return the CPU seconds of this process, all threads."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.delivery", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer frames")
    parser.add_argument("--folder", type=Path, default=None, help="where the files go (a temporary folder)")
    args = parser.parse_args()
    count = 150 if args.quick else 600
    with tempfile.TemporaryDirectory(prefix="async_motion-bench-", dir=args.folder) as folder:
        acceptance(Path(folder), count)
        end_to_end(Path(folder), count, 1 if args.quick else 5)
    return 0


if __name__ == "__main__":
    sys.exit(main())
