"""A day of cameras in minutes: ``python -m tests.soak [--hours 24] [--reconnects 2000]``.

One child process runs the real capture and pipeline, from the sources to a spool in memory. A recording is
read at full speed, with one frame judged for each second, until `--hours` of its own clock have passed. At
the same time, four RTSP cameras break off in every way they can (a clean end, a reset, a stall, garbage, 401,
404, another size) and are reconnected at once. The parent plays the cameras, and compares the child's memory,
threads and handles with those when it was warm.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import logging
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, suppress
from functools import partial
from pathlib import Path
from typing import Any

from async_motion.camera.spec import UnitSettings
from async_motion.camera.unit import CameraUnit
from async_motion.capture import CameraSource, CaptureSpec, open_source
from async_motion.core.events.image_health import ImageHealth
from async_motion.core.model import Detection, Frame, MotionEvent, SceneChange
from async_motion.errors import CameraUnavailable
from async_motion.jpeg import encode
from async_motion.spool import Spool
from tests.fuzz.target import readers
from tests.support import rtsp
from tests.support.video import crossing, make_clip, scene, write_clip
from tests.support.wait import eventually_async

STREETS = 4
SAMPLE_S = 5.0
WARM_SHARE = 0.15
"""Share of the run after which everything is loaded and cached."""

MAX_GROWTH = 48 << 20


# The child


class Seen:
    """An observer that counts."""

    def __init__(self) -> None:
        self.judged = self.events = self.lost = 0

    def camera_online(self, camera: str) -> None: ...
    def camera_offline(self, camera: str, problem: str) -> None: ...
    def motion(self, camera: str, on: bool) -> None: ...
    def zone_motion(self, camera: str, zone: str, on: bool) -> None: ...
    def event_ended(self, event: MotionEvent) -> None: ...
    def problem(self, camera: str, problem: str | None) -> None: ...
    def scene_changed(self, camera: str, kind: SceneChange) -> None: ...

    def detected(self, _camera: str, _detection: Detection) -> None:
        self.judged += 1

    def event_started(self, _event: MotionEvent) -> None:
        self.events += 1

    def dropped(self, _camera: str, _reason: str, count: int) -> None:
        self.lost += count


class Until:
    """A recording that ends after `seconds` of its own time."""

    live = False

    def __init__(self, source: CameraSource, seconds: float) -> None:
        self._source = source
        self._seconds = seconds
        self.past_s = 0.0

    def judged(self, monotonic: float, detection: Detection) -> None:
        self._source.judged(monotonic, detection)

    async def frames(self) -> AsyncIterator[Frame]:
        first: float | None = None
        async with aclosing(self._source.frames()) as frames:
            async for frame in frames:
                first = frame.monotonic if first is None else first
                self.past_s = frame.monotonic - first
                if self.past_s >= self._seconds:
                    return
                yield frame


async def child(clip: str, port: int, hours: float, reconnects: int) -> None:
    """Run all cameras to their ends; print the resources of the process, one line of JSON for each sample."""
    seen = Seen()
    each = -(-reconnects // STREETS)
    done = 0

    def spec(name: str, source: str, **changes: Any) -> CaptureSpec:
        return CaptureSpec(
            camera=name, source=source, **{"open_timeout_s": 3.0, "stall_timeout_s": 0.3, **changes}
        )

    tape = open_source(spec("tape", clip, fps=1, speed="max", loop=True, stall_timeout_s=60.0))
    until = Until(tape, hours * 3600)
    streets = [
        open_source(spec(f"street{n}", f"rtsp://127.0.0.1:{port}/cam", fps=15)) for n in range(STREETS)
    ]

    def say() -> None:
        gc.collect()
        counts = [street.counters for street in streets]
        line = {
            "hours": until.past_s / 3600,
            "reconnects": done,
            "share": min(until.past_s / (hours * 3600), done / (each * STREETS)),
            "judged": seen.judged,
            "events": seen.events,
            "lost": seen.lost,
            "opened": sum(count.opened for count in counts),
            "stalls": sum(count.stalls for count in counts),
            "corrupt": sum(count.corrupt for count in counts),
            "abandoned": sum(count.abandoned for count in counts),
            "changed": sum(count.changed for count in counts),
            "rss": int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE"),
            "threads": threading.active_count(),
            "fds": len(list(Path("/proc/self/fd").iterdir())),
        }
        print(json.dumps(line), flush=True)

    async def sample() -> None:
        while True:
            await asyncio.sleep(SAMPLE_S)
            say()

    with ThreadPoolExecutor(2) as executor:
        async with (
            Spool(
                ":memory:", max_bytes=4 << 20, max_age_s=3600, when_full="drop_oldest", delayed_after_s=60
            ) as spool,
            asyncio.TaskGroup() as tasks,
        ):

            def unit(name: str, source: Any) -> CameraUnit:
                return CameraUnit(
                    UnitSettings(instance="soak", camera=name),
                    source=source,
                    outbox=spool,
                    observer=seen,
                    executor=executor,
                    encode=partial(encode, quality=80, max_width=None),
                    draw24=partial(random.getrandbits, 24),
                    health=ImageHealth().update,
                )

            async def street(source: CameraSource, name: str) -> None:
                nonlocal done
                walk = unit(name, source)
                for _ in range(each):
                    with suppress(CameraUnavailable):
                        await walk.run()
                    done += 1
                await source.aclose()

            sampling = tasks.create_task(sample(), name="sample")
            walking = [tasks.create_task(unit("tape", until).run(), name="tape")]
            walking += [
                tasks.create_task(street(source, f"street{n}"), name=f"street{n}")
                for n, source in enumerate(streets)
            ]
            await asyncio.wait(walking)
            sampling.cancel()
            await tape.aclose()
            # Threads of the last connections still close their RTSP sessions.
            with suppress(AssertionError):
                await eventually_async(lambda: not readers(), within_s=10)
            say()


# The parent


class Flapping(rtsp.Scripted):
    """A camera whose connections break off."""

    def __init__(self, folder: Path) -> None:
        self._large = rtsp.access_units(
            make_clip(folder / "large.mp4", size=(128, 96), seconds=2, fps=10, gop=5)
        )
        self._small = rtsp.access_units(
            make_clip(folder / "small.mp4", size=(96, 64), seconds=2, fps=10, gop=5)
        )
        self._draw = random.Random(4)
        self._lock = threading.Lock()
        super().__init__(self._play)

    def _answer(self, method: str, cseq: str, ports: str) -> bytes:
        with self._lock:
            dice = self._draw.random()
        if method == "DESCRIBE" and dice < 0.1:
            status = "401 Unauthorized" if dice < 0.05 else "404 Not Found"
            return f"RTSP/1.0 {status}\r\nCSeq: {cseq}\r\nContent-Length: 0\r\n\r\n".encode()
        return super()._answer(method, cseq, ports)

    def _play(self, client: rtsp.Client) -> None:
        with self._lock:
            draw = random.Random(self._draw.random())
        spoilt = draw.random() < 0.3

        def spoil(packet: bytes) -> bytes | None:
            at = draw.randrange(12, len(packet))
            dice = draw.random() if spoilt else 1.0
            return None if dice < 0.05 else packet[:at] + b"\x55" + packet[at + 1 :] if dice < 0.2 else packet

        end = client.play(self._small, pace=20, spoil=spoil)
        match draw.choice(("end", "end", "reset", "stall", "garbage", "resize")):
            case "reset":
                client.reset()
            case "stall":
                client.wait(1.0)
            case "garbage":
                client.say(draw.randbytes(5000))
            case "resize":
                client.play(self._large, start_s=end, pace=20)


def run(hours: float, reconnects: int) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the child's resources over time, and the problems found in them."""
    with tempfile.TemporaryDirectory(prefix="async_motion-soak-") as folder:
        size = (96, 64)
        box = crossing(size, start_s=20, length_s=6)
        images = scene(seconds=60, fps=5, size=size, box=box, noise=2)
        clip = write_clip(Path(folder) / "tape.mp4", images, fps=5, gop=25)
        with Flapping(Path(folder)) as server:
            told = json.dumps([str(clip), server.port, hours, reconnects])
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.soak", "--child", told], stdout=subprocess.PIPE, text=True
            )
            assert process.stdout is not None
            samples = []
            with process, process.stdout:
                for line in process.stdout:
                    samples.append(json.loads(line))
                    if len(samples) % 12 == 1:
                        print(_shown(samples[-1]), flush=True)
    problems = [] if process.returncode == 0 else [f"the child ended with {process.returncode}"]
    if samples:
        print(_shown(samples[-1]), flush=True)
        problems += _grown(samples)
    return samples, problems


def _grown(samples: list[dict[str, Any]]) -> list[str]:
    last = samples[-1]
    warm = [sample for sample in samples if sample["share"] >= WARM_SHARE][:6] or samples[-1:]
    most = {what: max(sample[what] for sample in warm) for what in ("rss", "threads", "fds")}
    problems = [
        f"{last[what]} {what} at the end, {most[what]} when warm"
        for what in ("threads", "fds")
        if last[what] > most[what]
    ]
    if last["rss"] > most["rss"] + MAX_GROWTH:
        problems.append(f"memory grew from {most['rss'] >> 20} to {last['rss'] >> 20} MiB")
    return problems


def _shown(sample: dict[str, Any]) -> str:
    return (
        f"{sample['hours']:5.1f} h, {sample['judged']} frames judged, {sample['events']} events; "
        f"{sample['reconnects']} connections: {sample['opened']} gave a stream, {sample['stalls']} stalled, "
        f"{sample['abandoned']} threads left behind, {sample['changed']} changes of size, "
        f"{sample['corrupt']} corrupt; "
        f"{sample['rss'] >> 20} MiB, {sample['threads']} threads, {sample['fds']} handles"
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description="A day of cameras in minutes.")
    parser.add_argument("--hours", type=float, default=24.0)
    parser.add_argument("--reconnects", type=int, default=2000)
    parser.add_argument("--child", type=json.loads, default=None, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child is not None:
        logging.disable()
        asyncio.run(child(*args.child))
        return 0
    began = time.monotonic()
    _, problems = run(args.hours, args.reconnects)
    print(f"{(time.monotonic() - began) / 60:.1f} min")
    for problem in problems:
        print(f"PROBLEM {problem}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
