"""Finding and fetching events in a large bucket: SeaweedFS, filled by this benchmark's own generator.

    python -m tests.benchmarks.retrieval --events 50000 --frames 20

makes a year of events on four cameras, with their index, then measures, each in a process of its own:

    recent     `events --since 2h`: the first line, the imports that it cannot do without, the requests
    year       a year filtered by zone and score: time, resident memory
    bare       the same without an index: the same answer, the listings
    client     a `MotionClient` that was away for a day: 1,500 events of four cameras, to the last of them
    get        2,000 frames of ordinary size, beside s5cmd and boto3 on the same keys (where installed)

Filling takes minutes. `--keep FOLDER` keeps the filled server there, and measures it again in the next run:
within the hour, so that the last two hours still have events. CPU seconds are those of the command alone.

Bodies in the large part are a few bytes: the number of objects is what counts. They are made as entries of
SeaweedFS's filer (`seaweed_entries`), the index is put over S3. `--frames 0` leaves the frames out
(event.json alone), which changes no listing of events.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

from async_motion.client import MotionClient
from async_motion.core.index import MAX_PACKED_BYTES, IndexLine, index_key, pack
from async_motion.retrieval import EventReader
from async_motion.store.minio_reader import MinioReader
from tests.benchmarks.seaweed_entries import load_entries, write_entries
from tests.support.bucket import INSTANCE, WRITER, MadeEvent, index_objects, make_event
from tests.support.s3 import S3Server, seaweedfs
from tests.support.service import ROOT, clean_environment

CAMERAS = ("drive", "garden", "porch", "yard")
ROUNDS = 5
AWAY_EVENTS = 1500
GET_EVENTS, GET_FRAMES, GET_BYTES = 100, 20, 80_000

Object = tuple[str, bytes, Mapping[str, str]]
"""Key, body, user metadata."""


def year(count: int, frames: int, now: datetime, *, recent: int = 40) -> Iterator[MadeEvent]:
    """Yield `count` events in the order of their start; one in a hundred has a high score in a zone."""
    chance = random.Random(7)
    numbers = dict.fromkeys(CAMERAS, 0)
    step = timedelta(days=365) / count
    for place in range(count):
        at = now - timedelta(minutes=1) - step * (count - place - 1)
        if count - place <= recent:
            at = now - timedelta(minutes=2 * (count - place))
        camera = chance.choice(CAMERAS)
        numbers[camera] += 1
        high = place % 100 == 0
        event = make_event(
            camera=camera,
            at=at,
            salt=chance.getrandbits(24),
            frames=max(1, frames),
            scores=[0.3 if high else 0.01 + chance.random() / 20] * max(1, frames),
            zones=["gate"] if high else ["lawn"],
            no=numbers[camera],
        )
        # The score is that of the frames; without frames, only the summary is stored.
        summary = {key: each for key, each in event.objects.items() if key.endswith("/event.json")}
        yield event if frames else replace(event, objects=summary)


def fill_large(server: S3Server, bucket: str, events: Iterable[MadeEvent], folder: Path) -> int:
    """Make events with their index; return the number of objects."""
    days: dict[tuple[str, date], list[IndexLine]] = {}
    file = folder / "entries.meta"

    def objects() -> Iterator[Object]:
        for event in events:
            days.setdefault((event.camera, event.day), []).append(event.line)
            for key, (data, about) in event.objects.items():
                yield key, data, about

    with file.open("wb") as out:
        count = write_entries(out, bucket, objects())
    load_entries(server, file)
    file.unlink()
    index: list[Object] = [
        (index_key("", INSTANCE, camera, day, WRITER), pack(lines, WRITER), {})
        for (camera, day), lines in days.items()
    ]
    asyncio.run(put_all(server, bucket, index))
    return count + len(index)


async def put_all(server: S3Server, bucket: str, objects: Iterable[Object]) -> None:
    """Put objects over S3, a few concurrently."""
    queue = iter(objects)
    keys = server.admin.arguments()
    async with MinioReader(bucket=bucket, concurrency=32, put_timeout_s=120.0, **keys) as store:

        async def worker() -> None:
            for key, data, about in queue:
                await store.put(key, data, content_type="image/jpeg", metadata=about, tags={})

        async with asyncio.TaskGroup() as tasks:
            for _ in range(24):
                tasks.create_task(worker())


def settings_file(folder: Path, server: S3Server, bucket: str) -> Path:
    user = server.admin
    file = folder / f"{bucket}.yaml"
    minio = {"endpoint": server.endpoint, "bucket": bucket, "access_key": user.access_key}
    file.write_text(yaml.safe_dump({"instance": INSTANCE, "minio": minio | {"secret_key": user.secret_key}}))
    return file


def environment(**more: str) -> dict[str, str]:
    """Return the environment of an installed command: its modules are compiled once, not at each start."""
    return {k: v for k, v in clean_environment(**more).items() if k != "PYTHONDONTWRITEBYTECODE"}


@dataclass(frozen=True, slots=True)
class Ran:
    """What a command took, in seconds, of which `cpu` on the processor; its peak resident KiB; its lines."""

    first: float
    whole: float
    cpu: float
    peak: int
    lines: list[str]


def command(config: Path, *words: str) -> Ran:
    """Run a command and measure it."""
    began, before = time.perf_counter(), children_cpu()
    process = subprocess.Popen(
        [sys.executable, "-m", "async_motion", words[0], "--config", str(config), *words[1:]],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=environment(),
    )
    assert process.stdout is not None
    first = process.stdout.readline()
    to_first = time.perf_counter() - began
    lines, peak = [first.rstrip()], peak_kib(process.pid)
    for line in process.stdout:
        lines.append(line.rstrip())
        peak = max(peak, peak_kib(process.pid))
    process.wait()
    return Ran(to_first, time.perf_counter() - began, children_cpu() - before, peak, lines)


def children_cpu() -> float:
    """Return the CPU seconds of all children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def peak_kib(pid: int) -> int:
    """Return the peak resident memory of a process, 0 if it has ended.

    The figure of `wait4` would begin with this process's own peak: a child inherits it until its exec.
    """
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1])
    return 0


IMPORTS = ("pass", "import aiohttp", "import miniopy_async, pydantic.main, uvloop, yaml")


def imports(what: str) -> tuple[float, float]:
    """Return the seconds, and those of CPU, in which Python starts and imports libraries."""
    began, before = time.perf_counter(), children_cpu()
    subprocess.run([sys.executable, "-c", what], check=True, cwd=ROOT, env=environment())
    return time.perf_counter() - began, children_cpu() - before


async def recent(server: S3Server, bucket: str) -> dict[str, Any]:
    """Measure a reader in this process: the time to the first event and the requests for each camera."""
    times, sent, count = [], {}, 0
    for _ in range(5):
        async with MinioReader(bucket=bucket, concurrency=16, **server.admin.arguments()) as store:
            reader = EventReader(store, instance=INSTANCE)
            began = time.perf_counter()
            events = reader.events(since=datetime.now(UTC) - timedelta(hours=2))
            await anext(events)
            times.append(time.perf_counter() - began)
            count = 1 + len([event async for event in events])
            sent = dict(reader.requests.sent)
    return {
        "first_event_ms": [round(1000 * each) for each in sorted(times)],
        "events": count,
        "requests": sent,
    }


def main() -> None:
    """Fill a bucket and print the figures as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--events", type=int, default=50_000)
    parser.add_argument("--frames", type=int, default=20)
    parser.add_argument("--only", choices=("find", "client", "get"), help="one part alone")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep the filled server here")
    args = parser.parse_args()
    figures: dict[str, Any] = {"load": os.getloadavg()[0]}
    with contextlib.ExitStack() as stack:
        folder = args.keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = stack.enter_context(seaweedfs(folder / "weed"))
        if args.only in (None, "find"):
            figures |= find(server, folder, args.events, args.frames)
        if args.only in (None, "client"):
            figures["client"] = asyncio.run(catch_up(server))
        if args.only in (None, "get"):
            figures |= get(server, folder)
    print(json.dumps(figures, indent=2))


def find(server: S3Server, folder: Path, events: int, frames: int) -> dict[str, Any]:
    """Measure finding events."""
    note = folder / "filled.json"
    if note.exists():
        bucket, objects = json.loads(note.read_text())
    else:
        bucket = server.make_bucket()
        began = time.monotonic()
        objects = fill_large(server, bucket, year(events, frames, datetime.now(UTC)), folder)
        print(f"filled in {time.monotonic() - began:.0f} s", file=sys.stderr)
        note.write_text(json.dumps([bucket, objects]))
    config = settings_file(folder, server, bucket)
    figures: dict[str, Any] = {"objects": objects, "events": events}
    figures["recent"] = asyncio.run(recent(server, bucket))
    figures["recent"] |= starts(config)
    year_options = ("events", "--since", "365d", "--zone", "gate", "--min-score", "20%", "--json")
    ran = command(config, *year_options)
    figures["year"] = {
        "first_line_s": round(ran.first, 2),
        "s": round(ran.whole, 2),
        "cpu_s": round(ran.cpu, 2),
        "peak_mib": ran.peak // 1024,
        "found": len(ran.lines),
    }
    return figures | {"bare": asyncio.run(without_index(server, bucket, ran.lines))}


def starts(config: Path) -> dict[str, Any]:
    """Measure the command's first line, beside the imports without which it cannot be, in milliseconds."""
    command(config, "events", "--since", "2h")  # compiles the modules
    ran, floors = [], {what: [imports(what)] for what in IMPORTS}
    for _ in range(ROUNDS):
        ran.append(command(config, "events", "--since", "2h"))
        for what, took in floors.items():
            took.append(imports(what))
    return {
        "command_first_line_ms": sorted(round(1000 * each.first) for each in ran),
        "command_cpu_ms": sorted(round(1000 * each.cpu) for each in ran),
        "imports_ms": {
            what: sorted(round(1000 * wall) for wall, _ in took[1:]) for what, took in floors.items()
        },
        "imports_cpu_ms": {
            what: sorted(round(1000 * cpu) for _, cpu in took[1:]) for what, took in floors.items()
        },
    }


async def without_index(server: S3Server, bucket: str, expected: list[str]) -> dict[str, Any]:
    """Remove the index, read the same year, and put the index back."""
    async with MinioReader(bucket=bucket, concurrency=16, **server.admin.arguments()) as store:
        token = None
        keys: list[str] = []
        while True:
            page = await store.page(f"{INSTANCE}/.index/", token=token)
            keys += [each.key for each in page.objects]
            if (token := page.next) is None:
                break
        index: list[Object] = [(key, await store.read(key, MAX_PACKED_BYTES) or b"", {}) for key in keys]
        for at in range(0, len(keys), 1000):
            await store.remove(keys[at : at + 1000])
        reader = EventReader(store, instance=INSTANCE)
        began = time.perf_counter()
        since = datetime.now(UTC) - timedelta(days=365)
        found = [e.event_id async for e in reader.events(since=since, zone="gate", min_score=0.2)]
        took = time.perf_counter() - began
        await put_all(server, bucket, index)
        days = len({(camera, day) for camera in CAMERAS for day in range(366)})
        same = found == [json.loads(line)["event_id"] for line in expected]
        return {
            "s": round(took, 1),
            "same_answer": same,
            "requests": reader.requests.sent,
            "camera_days": days,
        }


async def catch_up(server: S3Server) -> dict[str, Any]:
    """Measure a client that was away for a day: seconds to its first and its last event, five times."""
    bucket = server.make_bucket()
    now = datetime.now(UTC)
    numbers = dict.fromkeys(CAMERAS, 0)
    events = []
    for place in range(AWAY_EVENTS):
        camera = CAMERAS[place % len(CAMERAS)]
        numbers[camera] += 1
        at = now - timedelta(days=1) * (1 - (place + 1) / (AWAY_EVENTS + 1))
        events.append(make_event(camera=camera, at=at, salt=place, frames=1, no=numbers[camera]))
    objects = [(key, *each) for event in events for key, each in event.objects.items()]
    await put_all(server, bucket, objects + [(key, *each) for key, each in index_objects(events).items()])
    times = []
    for _ in range(ROUNDS):
        async with (
            MinioReader(bucket=bucket, concurrency=16, **server.admin.arguments()) as store,
            MotionClient(store, instance=INSTANCE) as client,
        ):
            began = time.perf_counter()
            first = 0.0
            seen: dict[str, list[int]] = {camera: [] for camera in CAMERAS}
            async for event in client.events(now - timedelta(days=1)):
                first = first or time.perf_counter() - began
                assert event.no is not None
                seen[event.camera].append(event.no)
                if sum(map(len, seen.values())) == AWAY_EVENTS:
                    break
            times.append((round(first, 2), round(time.perf_counter() - began, 2)))
            assert all(seen[camera] == list(range(1, numbers[camera] + 1)) for camera in CAMERAS)
    return {"events": AWAY_EVENTS, "first_and_last_s": sorted(times)}


def get(server: S3Server, folder: Path) -> dict[str, Any]:
    """Fetch the same 2,000 frames with `get`, s5cmd and boto3, one after the other, in rounds."""
    bucket = server.make_bucket()
    jpegs = [os.urandom(GET_BYTES) for _ in range(GET_FRAMES)]
    now = datetime.now(UTC)
    events = [
        make_event(
            camera="porch",
            at=now - timedelta(minutes=n),
            jpegs=jpegs,
            no=GET_EVENTS + 1 - n,
            frames=GET_FRAMES,
        )
        for n in range(GET_EVENTS, 0, -1)
    ]
    objects = [(key, *each) for event in events for key, each in event.objects.items()]
    index = [(key, *each) for key, each in index_objects(events).items()]
    asyncio.run(put_all(server, bucket, objects + index))
    keys = [frame.object_key for event in events for frame in event.frames]
    config = settings_file(folder, server, bucket)
    rates: dict[str, list[int]] = {}
    cpu: dict[str, list[float]] = {}
    for turn in range(ROUNDS):
        for name, run in (("get", ours), ("s5cmd", s5cmd), ("boto3", boto3)):
            target = folder / f"{name}-{turn}"
            began, before = time.perf_counter(), children_cpu()
            if run(server, bucket, config, keys, target):
                took = time.perf_counter() - began
                cpu.setdefault(name, []).append(round(children_cpu() - before, 2))
                assert len(list(target.rglob("*.jpg"))) == len(keys)
                rates.setdefault(name, []).append(round(len(keys) / took))
            shutil.rmtree(target, ignore_errors=True)
    return {"get_frames_per_s": rates, "get_cpu_s": cpu}


def ours(_server: S3Server, _bucket: str, config: Path, _keys: list[str], target: Path) -> bool:
    subprocess.run(
        [
            sys.executable,
            "-m",
            "async_motion",
            "get",
            "--config",
            str(config),
            "--since",
            "1d",
            "--out",
            str(target),
        ],
        check=True,
        capture_output=True,
        cwd=ROOT,
        env=environment(),
    )
    return True


def s5cmd(server: S3Server, bucket: str, _config: Path, keys: list[str], target: Path) -> bool:
    binary = shutil.which("s5cmd", path=str(Path(sys.executable).parent)) or shutil.which("s5cmd")
    if binary is None:
        return False
    lines = "".join(f"cp s3://{bucket}/{key} {target / key}\n" for key in keys)
    subprocess.run(
        [binary, "--endpoint-url", f"http://{server.endpoint}", "run"],
        input=lines.encode(),
        check=True,
        capture_output=True,
        env=_aws(server),
    )
    return True


_BOTO3 = """
import concurrent.futures, pathlib, sys, boto3, botocore.config
endpoint, bucket, target = sys.argv[1:]
keys = sys.stdin.read().split()
s3 = boto3.client("s3", endpoint_url=endpoint, config=botocore.config.Config(max_pool_connections=16))
def one(key):
    path = pathlib.Path(target, key)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(s3.get_object(Bucket=bucket, Key=key)["Body"].read())
with concurrent.futures.ThreadPoolExecutor(16) as pool:
    list(pool.map(one, keys))
"""


def boto3(server: S3Server, bucket: str, _config: Path, keys: list[str], target: Path) -> bool:
    done = subprocess.run(
        [sys.executable, "-c", _BOTO3, f"http://{server.endpoint}", bucket, str(target)],
        input="\n".join(keys).encode(),
        check=False,
        capture_output=True,
        env=_aws(server),
    )
    return done.returncode == 0


def _aws(server: S3Server) -> dict[str, str]:
    user = server.admin
    keys = {"AWS_ACCESS_KEY_ID": user.access_key, "AWS_SECRET_ACCESS_KEY": user.secret_key}
    return environment(**keys, AWS_REGION="us-east-1", AWS_DEFAULT_REGION="us-east-1")


if __name__ == "__main__":
    main()
