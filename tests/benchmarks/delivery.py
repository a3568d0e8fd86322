"""What durability costs: ``python -m tests.benchmarks.delivery [--quick | --backlog MIB] [--apart]``.

Prints three tables. The first: how fast JPEGs of 100 KB are accepted, and how long one acceptance takes,
beside writing each to a file of its own with fsync. The second: how fast they come through to a subscriber's
broker, end to end (accepted, committed, put, noted, announced, removed), beside a bare loop of `put_object`
and `publish` with as many at once, and beside that loop with each JPEG kept in a table of SQLite
meanwhile, on SeaweedFS and mosquitto on this machine. All run on uvloop, as the service does. The frames are
those of an event, with its start, updates, end and `event.json`: the loops have none. The machine is shared,
so there are many short rounds, the three back to back in each, and what counts is the middle of their rounds'
shares. The third: what of the client's CPU each of its threads takes.

With `--apart` (Linux) the client has one core and the servers the others, as where the store is a machine of
its own; without, CPU that the client needs is taken from the store.

`--backlog` shows something else: how long a new frame waits while a backlog of that size is delivered, and
while the spool returns its space to the file system.

`--folder` is where spool and files go: on tmpfs an fsync costs nothing, on an SD card it is everything.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import itertools
import os
import random
import resource
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import aiohttp
import aiomqtt
import uvloop
from miniopy_async.api import Minio

from async_motion.broker.client import BrokerClient
from async_motion.core.items import FrameUpload
from async_motion.core.model import Record
from async_motion.core.names import Topics
from async_motion.delivery import Delivery
from async_motion.spool import Spool
from async_motion.spool.files import connect
from async_motion.store.minio import MinioStore
from tests.support import s3
from tests.support.mqtt import Mosquitto
from tests.support.records import end_of, make_event, make_record, start_of, stored_of
from tests.support.wait import eventually_async

SIZE = 100_000
AT_ONCE = 8
GROUP = 5
"""Frames that are accepted at the same time."""
PARTS = ("loop", "spool", "others")
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
TOPICS = Topics("async_motion/bench")


def records(count: int, camera: str = "porch", index: int = 0) -> list[Record]:
    """Return frames of one event, of 100 KB of incompressible data each."""
    event = make_event(camera, index)
    return [make_record(event, seq, jpeg=os.urandom(SIZE)) for seq in range(count)]


# -- acceptance


async def accepting(folder: Path, frames: list[Record], at_once: int) -> list[float]:
    """Return the seconds of each acceptance."""
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
    """Return the seconds of writing each JPEG to a file with fsync; the directory is not synced."""
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


def row(name: str, taken: list[float], seconds: float, *, worst: bool = False) -> None:
    ordered = sorted(taken)
    p99 = ordered[int(0.99 * (len(ordered) - 1))]
    most = f" {ordered[-1] * 1e3:10.2f}" if worst else ""
    p50 = statistics.median(ordered)
    print(f"  {name:36} {len(taken) / seconds:8.0f} {p50 * 1e3:10.2f} {p99 * 1e3:10.2f}{most}")


# -- end to end


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Wall time for `count` frames, and the CPU seconds (user, system) of each part of the client."""

    count: int
    seconds: float
    cpu: Mapping[str, tuple[float, float]]

    @property
    def rate(self) -> float:
        return self.count / self.seconds


class Watch:
    """Measures from its creation to `stop`."""

    def __init__(self) -> None:
        self._cpu = cpu_by_part()
        self._begun = time.perf_counter()

    def stop(self, count: int) -> Run:
        seconds = time.perf_counter() - self._begun
        spent = {
            part: (user - self._cpu[part][0], system - self._cpu[part][1])
            for part, (user, system) in cpu_by_part().items()
        }
        return Run(count=count, seconds=seconds, cpu=spent)


def cpu_by_part() -> dict[str, tuple[float, float]]:
    """Return the CPU seconds so far (user, system) of the loop's thread, the spool's, and all others.

    Threads that have ended count among the others. The total is exact; the time of each thread is counted in
    ticks of 10 ms, which evens out over the rounds.
    """
    parts = dict.fromkeys(PARTS, (0.0, 0.0))
    for thread in threading.enumerate():
        if thread is threading.main_thread():
            part = "loop"
        elif thread.name.startswith("spool"):
            part = "spool"
        else:
            continue
        fields = Path(f"/proc/self/task/{thread.native_id}/stat").read_text().rpartition(")")[2].split()
        parts[part] = (int(fields[11]) / TICKS_PER_S, int(fields[12]) / TICKS_PER_S)
    used = resource.getrusage(resource.RUSAGE_SELF)
    parts["others"] = (
        used.ru_utime - parts["loop"][0] - parts["spool"][0],
        used.ru_stime - parts["loop"][1] - parts["spool"][1],
    )
    return parts


async def delivered(
    folder: Path, server: s3.S3Server, bucket: str, broker: Mosquitto, frames: list[Record], index: int
) -> Run:
    """Accept all frames of event `index` while they are delivered, until its end is announced."""
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
        watch = Watch()
        event = make_event(frames[0].info.camera, index)
        await spool.accept([*frames[:GROUP], start_of(event)])
        for start in range(GROUP, len(frames), GROUP):
            await spool.accept(frames[start : start + GROUP])
        await spool.accept([end_of(event)])
        assert await delivery.drain(600)
        run = watch.stop(len(frames))
        assert delivery.health().announced == len(frames)
        for task in running:
            task.cancel()
        for task in running:
            with contextlib.suppress(asyncio.CancelledError):
                await task
    return run


async def bare(
    server: s3.S3Server, bucket: str, broker: Mosquitto, frames: list[Record], kept: Kept | None = None
) -> Run:
    """Put and publish with the libraries alone, `AT_ONCE` at a time; with `kept`, keep each JPEG first."""
    user = server.admin
    connector = aiohttp.TCPConnector(limit=AT_ONCE)
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        aiomqtt.Client("127.0.0.1", broker.port, protocol=aiomqtt.ProtocolVersion.V5) as mqtt,
    ):
        client = Minio(
            server.endpoint, user.access_key, user.secret_key, secure=False, region=s3.REGION, session=session
        )
        waiting: asyncio.Queue[Record | None] = asyncio.Queue()

        async def loop() -> None:
            while (frame := await waiting.get()) is not None:
                info = frame.info
                await client.put_object(
                    bucket,
                    info.object_key,
                    io.BytesIO(frame.jpeg),
                    len(frame.jpeg),
                    content_type="image/jpeg",
                )
                await mqtt.publish(TOPICS.frame(info.camera), info.object_key.encode(), qos=1)
                if kept is not None:
                    await kept.remove(info.seq)

        watch = Watch()
        async with asyncio.TaskGroup() as tasks:
            for number in range(AT_ONCE):
                tasks.create_task(loop(), name=f"bare {number}")
            for start in range(0, len(frames), GROUP):
                group = frames[start : start + GROUP]
                if kept is not None:
                    await kept.add(group)
                for frame in group:
                    waiting.put_nowait(frame)
            for _ in range(AT_ONCE):
                waiting.put_nowait(None)
        return watch.stop(len(frames))


class Kept:
    """The minimum that keeps JPEGs over a power loss: one table, a commit with fsync for each group.

    A removal is a commit too, without fsync. No bounds, no order, no state but presence.
    """

    def __init__(self, folder: Path) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="spool")
        self._db = self._thread.submit(connect, folder / "kept.db").result()
        self._db.execute("CREATE TABLE kept (number INTEGER PRIMARY KEY, jpeg BLOB)")

    async def add(self, frames: Sequence[Record]) -> None:
        rows = [(frame.info.seq, frame.jpeg) for frame in frames]
        await self._do("FULL", "INSERT INTO kept VALUES (?, ?)", rows)

    async def remove(self, number: int) -> None:
        await self._do("NORMAL", "DELETE FROM kept WHERE number = ?", [(number,)])

    async def _do(self, synchronous: str, statement: str, rows: Sequence[tuple[object, ...]]) -> None:
        def work() -> None:
            self._db.execute(f"PRAGMA synchronous = {synchronous}")
            self._db.execute("BEGIN IMMEDIATE")
            self._db.executemany(statement, rows)
            self._db.execute("COMMIT")

        await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def close(self) -> None:
        self._thread.shutdown()
        self._db.close()


async def least(
    folder: Path, server: s3.S3Server, bucket: str, broker: Mosquitto, frames: list[Record]
) -> Run:
    """Run the bare loop with each JPEG kept on the disk until it is announced."""
    kept = Kept(folder)
    try:
        return await bare(server, bucket, broker, frames, kept)
    finally:
        kept.close()


def end_to_end(folder: Path, count: int, rounds: int, apart: bool) -> None:
    runs: dict[str, list[Run]] = {"delivery": [], "least": [], "bare": []}
    cores = sorted(os.sched_getaffinity(0)) if apart else []
    if apart:
        os.sched_setaffinity(0, cores[1:])  # inherited by child processes
    with s3.seaweedfs(folder / "seaweedfs") as server, Mosquitto(folder / "broker") as broker:
        if apart:
            os.sched_setaffinity(0, cores[:1])
        bucket = server.make_bucket()
        uvloop.run(bare(server, bucket, broker, records(50, "warm")))
        for number in range(rounds):
            # Back to back, with a rotating start: a slowdown of the machine affects all alike.
            names = list(runs)
            for name in names[number % 3 :] + names[: number % 3]:
                place = folder / f"{name}{number}"
                place.mkdir()
                frames = records(count, name, number)
                if name == "delivery":
                    walk = delivered(place, server, bucket, broker, frames, number)
                elif name == "least":
                    walk = least(place, server, bucket, broker, frames)
                else:
                    walk = bare(server, bucket, broker, frames)
                runs[name].append(uvloop.run(walk))
                shutil.rmtree(place)
    show(runs, count)


def show(runs: Mapping[str, Sequence[Run]], count: int) -> None:
    rounds = len(runs["bare"])
    print(f"\nEnd to end, {rounds} rounds of {count} JPEGs of 100 KB, {AT_ONCE} at once")
    print(f"  {'':40} frames/s   of the bare loop: median, quartiles")
    for name, words in (
        ("delivery", "spool, store, broker: every promise"),
        ("least", "put_object + publish, kept in SQLite"),
        ("bare", "put_object + publish, no promise"),
    ):
        rate = statistics.median(run.rate for run in runs[name])
        shares = sorted(run.rate / other.rate for run, other in zip(runs[name], runs["bare"], strict=True))
        low, middle, high = statistics.quantiles(shares, method="inclusive")
        print(f"  {words:40} {rate:8.0f}   {middle:.0%}  ({low:.0%} to {high:.0%})")
    print("\n  CPU of the client, ms a frame, user + system")
    print(f"  {'':40} {'all':>6}  " + "  ".join(f"{part:>13}" for part in PARTS))
    for name, its in runs.items():
        frames = sum(run.count for run in its)
        spent = {
            part: [sum(run.cpu[part][side] for run in its) / frames * 1e3 for side in (0, 1)]
            for part in PARTS
        }
        cells = "  ".join(f"{user:6.2f} +{system:5.2f}" for user, system in spent.values())
        print(f"  {name:40} {sum(map(sum, spent.values())):6.2f}  {cells}")


# -- returning a backlog's space


async def giving_back(folder: Path, mib: int, seconds: float) -> None:
    """Deliver a backlog of `mib` without peers; print how long a camera's frames wait during and after it."""
    pattern = records(1)[0]
    path = folder / "spool.db"
    numbers = itertools.count()

    def some(count: int) -> list[Record]:
        return [
            replace(pattern, info=replace(pattern.info, seq=seq, object_key=f"{seq}.jpg"))
            for seq in itertools.islice(numbers, count)
        ]

    async with Spool(path, max_bytes=1 << 40, delayed_after_s=86400.0) as spool:

        async def camera(taken: list[float]) -> None:
            """Accept a frame at intervals: the spool returns space when no call has come for 50 ms."""
            while True:
                frame = some(1)
                begun = time.perf_counter()
                await spool.accept(frame)
                taken.append(time.perf_counter() - begun)
                await asyncio.sleep(random.uniform(0.02, 0.2))

        async def deliver() -> None:
            """Mark everything as stored and as announced, as fast as the spool takes it."""
            while uploads := await spool.take_uploads(fresh=True, limit=16):
                async with asyncio.TaskGroup() as tasks:
                    for item in uploads:
                        assert isinstance(item, FrameUpload)
                        tasks.create_task(spool.mark_stored(item.number, stored_of(item)))
                for batch in await spool.take_fresh_announcements(16):
                    await spool.remove([news.number for news in batch])

        async def beside(work: Awaitable[None]) -> tuple[list[float], float]:
            taken: list[float] = []
            begun = time.perf_counter()
            filming = asyncio.create_task(camera(taken), name="camera")
            await work
            filming.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await filming
            return taken, time.perf_counter() - begun

        head = f"One frame now and then, and {mib} MiB"
        print(f"\n{head:38} frames/s     p50 ms     p99 ms     max ms")
        rows = [("before", await beside(asyncio.sleep(seconds)))]
        for _ in range(mib * 2**20 // SIZE // 100):
            await spool.accept(some(100))
        rows.append(("while it is delivered", await beside(deliver())))
        assert spool.stats.accepted > spool.stats.records + 100
        assert not spool.stats.set_aside
        full = path.stat().st_size
        rows.append(("while its space is returned", await beside(asyncio.sleep(2 * seconds))))
        for name, (taken, spent) in rows:
            row(name, taken, spent, worst=True)
        print(
            f"  the file: {full / 2**20:.0f} MiB, {2 * seconds:.0f} s later {path.stat().st_size / 2**20:.0f}"
        )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.delivery", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer frames")
    parser.add_argument("--apart", action="store_true", help="the servers on other cores than the client")
    parser.add_argument("--folder", type=Path, default=None, help="where the files go (a temporary folder)")
    parser.add_argument(
        "--backlog", type=int, metavar="MIB", help="show what returning its space costs instead"
    )
    args = parser.parse_args()
    if args.apart and len(os.sched_getaffinity(0)) < 2:
        print("--apart: there is only one core", file=sys.stderr)
        return 2
    count = 150 if args.quick else 600
    with tempfile.TemporaryDirectory(prefix="async_motion-bench-", dir=args.folder) as folder:
        if args.backlog:
            uvloop.run(giving_back(Path(folder), args.backlog, 20.0))
            return 0
        acceptance(Path(folder), count)
        end_to_end(Path(folder), 50 if args.quick else 200, 3 if args.quick else 21, args.apart)
    return 0


if __name__ == "__main__":
    sys.exit(main())
