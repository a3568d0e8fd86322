"""What a process for each camera costs, beside a thread: ``python -m tests.benchmarks.isolation [--quick]``.

Both read the same synthetic H.264 clips (4 Mbit/s, keyframes every 2 s) and hand over 5 fps:

- CPU: of all processes together for a minute of video read at full speed, from the first frame on. The luma
  of every frame is read; one frame in a second is converted to colour.
- start: from the request for frames to the first frame.
- latency: from the time at which a frame of a file is due at its own speed to its handover; the median.
- memory: what each of four cameras at their own speed adds: resident memory of this process, and the
  proportional set size (PSS) of the children.

Each figure is the minimum of `ROUNDS` runs. Each run has a process of its own; the modes take turns.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import aclosing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from av.video.frame import VideoFrame

from async_motion.capture import CameraSource, CaptureSpec, open_source
from async_motion.capture.clock import Stamp
from async_motion.capture.ffmpeg.frames import frame_of
from async_motion.capture.worker.shm import pack, unpack
from tests.benchmarks.pipeline import cpu_s, status_kib, table
from tests.support.children import capture_processes
from tests.support.video import make_clip

SCENES = {"720p15": ((1280, 720), 15), "1080p25": ((1920, 1080), 25)}
MODES = ("thread", "process")
CLIP_S = 4.0
COST_S = 60.0
LIVE_S = 5.0
CAMERAS = 4
ROUNDS = 2
HAND_OVERS = 200
DETECT_FPS = 5.0


def source(path: Path, mode: Any, name: str = "cam", **changes: Any) -> CameraSource:
    return open_source(CaptureSpec(camera=name, source=str(path), fps=DETECT_FPS, isolation=mode, **changes))


def cpu_of_all() -> float:
    return time.process_time() + sum(cpu_s(pid) for pid in capture_processes().values())


async def cost(path: Path, mode: str, seconds: float) -> dict[str, float]:
    """Return CPU seconds for a minute of video, and seconds to the first frame."""
    camera = source(path, mode, speed="max")
    asked = time.monotonic()
    frames, start, before = 0, 0.0, 0.0
    async with aclosing(camera.frames()) as connection:
        async for frame in connection:
            if not frames:
                start, before = time.monotonic() - asked, cpu_of_all()
            frame.luma[::4, ::4].mean()
            if frames % DETECT_FPS == 0:
                frame.bgr()
            frames += 1
            if frames == seconds * DETECT_FPS:
                break
        used = cpu_of_all() - before
    await camera.aclose()
    return {"cpu": used * 60 / seconds, "start": start}


def hand_over(size: tuple[int, int]) -> float:
    """Return the CPU seconds for a frame to be written to shared memory, mapped and released."""
    stamp = Stamp(datetime.now(UTC), 0.0)
    frame = frame_of("cam", stamp, VideoFrame(*size, "yuv420p"))
    before = time.process_time()
    for _ in range(HAND_OVERS):
        message, handle = pack(frame)
        unpack(message, handle, camera="cam", max_pixels=10**8).luma[::4, ::4].mean()
        os.close(handle)
    return (time.process_time() - before) / HAND_OVERS


async def live(path: Path, mode: str, seconds: float) -> dict[str, float]:
    """Return the median latency in seconds, and the KiB added by each of `CAMERAS`."""
    before = status_kib(_own(), "VmRSS")
    cameras = [source(path, mode, f"cam{number}") for number in range(CAMERAS)]
    late: list[float] = []
    enough = asyncio.Event()

    async def watch(camera: CameraSource) -> None:
        async with aclosing(camera.frames()) as connection:
            async for frame in connection:
                frame.luma[::4, ::4].mean()
                if all(one.counters.frames for one in cameras):
                    late.append(time.monotonic() - frame.monotonic)
                if len(late) >= CAMERAS * DETECT_FPS * seconds:
                    enough.set()
                if enough.is_set() and measured.is_set():
                    return

    memory = 0.0
    measured = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        for camera in cameras:
            tasks.create_task(watch(camera), name=f"watch[{camera.camera}]")
        await enough.wait()
        memory = status_kib(_own(), "VmRSS") - before
        memory += sum(_pss(pid) for pid in capture_processes().values())
        measured.set()
    for camera in cameras:
        await camera.aclose()
    return {"late": statistics.median(late), "memory": memory / CAMERAS}


def _own() -> int:
    return int(Path("/proc/self").readlink().name)


def _pss(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def alone(what: str, path: Path, mode: str, seconds: float) -> dict[str, float]:
    """Measure a figure in a process of its own."""
    command = [
        sys.executable,
        "-m",
        "tests.benchmarks.isolation",
        "--take",
        what,
        str(path),
        mode,
        str(seconds),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="less video, one run of each")
    parser.add_argument("--take", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.take:
        what, path, mode, seconds = options.take
        figure = (cost if what == "cost" else live)(Path(path), mode, float(seconds))
        print(json.dumps(asyncio.run(figure)))
        return
    rounds, cost_s, live_s = (1, 10.0, 2.0) if options.quick else (ROUNDS, COST_S, LIVE_S)
    rows: list[list[str]] = []
    with tempfile.TemporaryDirectory() as folder:
        for name, (size, fps) in SCENES.items():
            file = Path(folder) / f"{name}.mp4"
            path = make_clip(
                file, seconds=CLIP_S, fps=fps, size=size, gop=2 * fps, noise=2.0, bit_rate=4_000_000
            )
            taken: dict[str, list[dict[str, float]]] = {mode: [] for mode in MODES}
            for _ in range(rounds):
                for mode in MODES:  # in turns: other load on the machine affects both
                    run = alone("cost", path, mode, cost_s) | alone("live", path, mode, live_s)
                    taken[mode].append(run)
            for mode, runs in taken.items():
                cpu, start, late, memory = (
                    min(run[key] for run in runs) for key in ("cpu", "start", "late", "memory")
                )
                figures = (f"{cpu:.2f}", f"{1000 * start:.0f}", f"{1000 * late:.1f}", f"{memory / 1024:.0f}")
                rows.append([f"{name}, {mode}", *figures])
    for name, (size, _) in SCENES.items():
        print(f"{name}: {1000 * hand_over(size):.2f} ms of CPU to hand over a frame")
    table(
        "One camera, five frames a second",
        ["", "CPU s a minute", "start ms", "latency ms", "memory MiB"],
        rows,
    )


if __name__ == "__main__":
    main()
