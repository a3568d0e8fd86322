"""CPU and memory for watching a camera, beside others: ``python -m tests.benchmarks.capture [--file VIDEO]``.

All read the same H.264 files: a textured scene with sensor noise at 4 Mbit/s, keyframes every 2 s, 720p at
15 fps and 1080p at 25 fps, once empty (idle) and once with an object that crosses for half of the time
(busy). `--file` takes a video of your own instead.

- `decode alone` is a bare PyAV loop that decodes every frame on one thread: the lower bound for `all`.
- `capture, all` is our source without a detector behind it; `all`, `auto` and the sub-stream have our
  detector behind them at its defaults, at 5 fps, as in the service. The sub-stream is 640x360 at 0.5 Mbit/s
  in `auto`, with the packets of the main stream received into the ring.
- `cv2 + MOG2` is the usual loop: `VideoCapture.read`, then MOG2 on the whole frame.
- Debian's `motion` reads the file as a network camera (`netcam_url file://`), at its pace.
- PyPI's `dvr-scan` scans it (`--scan-only`), with its defaults. Install it in another environment and put it
  on PATH: it brings an older OpenCV, which would replace ours.

Each runs in a process of its own. The figure is CPU time as counted by the system (all threads) for a minute
of video, without start-up: the difference between a long and a short run over the same scene (`motion` never
ends: between two moments). Memory is the peak resident size, ours without that of the bare interpreter.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal, cast

import av
import cv2
import numpy as np
from av.video.stream import VideoStream
from numpy.typing import NDArray

from async_motion.capture import CaptureSpec, open_source
from async_motion.capture.selective.gop_buffer import GopBuffer
from async_motion.core.detection.detector import Detector, DetectorSettings
from tests.benchmarks.pipeline import cpu_s, status_kib, table
from tests.support.video import BOX, crossing, ground

SCENES = {"720p15": (1280, 720, 15), "1080p25": (1920, 1080, 25)}
SUB = (640, 360)
KINDS = ("idle", "busy")
SHORT_S, LONG_S = 20.0, 40.0
"""The short run covers one-time costs: `auto` decodes everything in the first ten seconds."""
MOTION_S = 10.0
"""How long `motion` is measured."""
BITS, SUB_BITS = 4_000_000, 500_000
GRAINS = 12


@dataclass(frozen=True, slots=True)
class Clip:
    """One scene and its files."""

    name: str
    kind: str
    long: Path
    short: Path
    sub_long: Path | None
    sub_short: Path | None
    seconds: float
    """Length of the long file less that of the short one."""


@dataclass(frozen=True, slots=True)
class Cost:
    """CPU seconds for a minute of video; peak resident MiB."""

    cpu: float
    memory: float


# The videos


def planes(size: tuple[int, int], fps: int, *, busy: bool) -> Iterator[NDArray[np.uint8]]:
    """Yield a scene's grey frames: grain that never repeats in the same place, and a crossing object."""
    width, height = size
    back = cv2.cvtColor(ground(width, height), cv2.COLOR_BGR2GRAY).astype(np.int16)
    draw = np.random.default_rng(3)
    grains = [draw.normal(0, 2.0, (height + 64, width + 64)).astype(np.int8) for _ in range(GRAINS)]
    period_s = 10.0
    box = crossing(size, start_s=period_s / 4, length_s=period_s / 2, share=0.15)
    for number in range(round(LONG_S * fps)):
        image = back.copy()
        if busy and (place := box(number / fps % period_s)) is not None:
            x, y, wide, high = place
            image[y : y + high, x : x + wide] = BOX[1]
        top, left = (int(at) for at in draw.integers(0, 64, 2))
        image += grains[number % GRAINS][top : top + height, left : left + width]
        yield np.clip(image, 0, 255).astype(np.uint8)


class _Writer:
    """Encode as a camera does: H.264, constant bit rate, no B-frames, keyframes every 2 s."""

    def __init__(self, path: Path, size: tuple[int, int], fps: int, bits: int) -> None:
        self._path, self._unfinished = path, path.with_name(f"unfinished-{path.name}")
        self._container = av.open(str(self._unfinished), "w")
        options = {"preset": "veryfast", "tune": "zerolatency", "sc_threshold": "0", "bf": "0"}
        options |= {"maxrate": str(bits), "bufsize": str(bits)}
        stream = self._container.add_stream("libx264", rate=fps, options=options)
        self._stream: VideoStream = stream
        self._stream.width, self._stream.height = size
        self._stream.pix_fmt = "yuv420p"
        self._stream.codec_context.gop_size = 2 * fps
        self._stream.codec_context.bit_rate = bits
        self._stream.codec_context.thread_count = 1
        self._size, self._fps, self._count = size, fps, 0

    def write(self, luma: NDArray[np.uint8]) -> None:
        width, height = self._size
        planes = np.full((height * 3 // 2, width), 128, np.uint8)
        planes[:height] = luma
        frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
        frame.pts, frame.time_base = self._count, Fraction(1, self._fps)
        self._count += 1
        self._container.mux(self._stream.encode(frame))

    def close(self) -> None:
        self._container.mux(self._stream.encode(None))
        self._container.close()
        self._unfinished.rename(self._path)


def make(folder: Path, name: str, kind: str) -> Clip:
    """Write one scene, as main stream and as sub-stream."""
    width, height, fps = SCENES[name]
    long, sub = folder / f"{name}-{kind}.mp4", folder / f"{name}-{kind}-sub.mp4"
    if not (long.exists() and sub.exists()):
        large, small = _Writer(long, (width, height), fps, BITS), _Writer(sub, SUB, fps, SUB_BITS)
        for luma in planes((width, height), fps, busy=kind == "busy"):
            large.write(luma)
            small.write(cast("NDArray[np.uint8]", cv2.resize(luma, SUB, interpolation=cv2.INTER_AREA)))
        small.close()
        large.close()
    return Clip(name, kind, long, head(long), sub, head(sub), LONG_S - SHORT_S)


def own(path: Path, folder: Path) -> Clip:
    """Use an existing video: its first seconds are the short run."""
    with av.open(str(path)) as container:
        length_s = float(container.duration or 0) / 1e6
    if length_s < SHORT_S + 10:
        raise SystemExit(f"{path}: expected at least {SHORT_S + 10:g} s of video")
    return Clip(path.stem, "own", path, head(path, folder), None, None, length_s - SHORT_S)


def head(path: Path, folder: Path | None = None) -> Path:
    """Copy a video's first `SHORT_S` without re-encoding."""
    short = (folder or path.parent) / f"{path.stem}-short{path.suffix}"
    with av.open(str(path)) as source, av.open(str(short), "w") as target:
        stream = source.streams.video[0]
        copy = target.add_stream_from_template(stream)
        for packet in source.demux(stream):
            if packet.dts is None or packet.pts is None or float(packet.pts * packet.time_base) >= SHORT_S:
                continue
            packet.stream = copy
            target.mux(packet)
    return short


# Run in a child


def decode_alone(path: str, _sub: str) -> None:
    with av.open(path) as container:
        container.streams.video[0].codec_context.thread_count = 1
        for _ in container.decode(video=0):
            pass


def mog2(path: str, _sub: str) -> None:
    cv2.setNumThreads(1)
    capture = cv2.VideoCapture(path, cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
    subtractor = cv2.createBackgroundSubtractorMOG2()
    while True:
        good, image = capture.read()
        if not good:
            return
        subtractor.apply(image)


def ours(path: str, decode: Literal["auto", "all"], *, judged: bool = True) -> None:
    cv2.setNumThreads(1)
    spec = CaptureSpec(camera="bench", source=path, decode=decode, speed="max", loop=False)
    detector = Detector(DetectorSettings())

    async def run() -> None:
        source = open_source(spec)
        async for frame in source.frames():
            if judged:
                source.judged(frame.monotonic, detector.update(frame.luma, frame.monotonic))
        await source.aclose()

    asyncio.run(run())


def sub_and_ring(path: str, sub: str) -> None:
    spec = CaptureSpec(camera="bench", source=sub)
    ring = GopBuffer(max_bytes=spec.ring_bytes, max_seconds=spec.ring_seconds)

    def receive() -> None:
        with av.open(path) as container:
            for packet in container.demux(video=0):
                if packet.size and packet.pts is not None:
                    ring.add(float(packet.pts * packet.time_base), packet)

    receiving = threading.Thread(target=receive, name="record[bench]")
    receiving.start()
    ours(sub, "auto")
    receiving.join()


WORK: dict[str, Callable[[str, str], None]] = {
    "decode alone": decode_alone,
    "capture, all": lambda path, _sub: ours(path, "all", judged=False),
    "all": lambda path, _sub: ours(path, "all"),
    "auto": lambda path, _sub: ours(path, "auto"),
    "auto, sub-stream + ring": sub_and_ring,
    "cv2 + MOG2": mog2,
}


def child(what: str, path: str, sub: str) -> None:
    """Run one workload; print the KiB resident before it and at its peak."""
    before = status_kib(os.getpid(), "VmRSS")
    WORK[what](path, sub)
    print(before, status_kib(os.getpid(), "VmHWM"))


# Measurement


def run(command: list[str], cwd: Path) -> tuple[float, float, str]:
    """Run a command; return (CPU seconds, peak resident MiB, output)."""
    process = subprocess.Popen(
        command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=_environment()
    )
    assert process.stdout is not None
    said = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    process.stdout.close()
    if process.returncode:
        raise SystemExit(f"{command[0]}: ended with {process.returncode}: {said[-500:]}")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, said


def _environment() -> dict[str, str]:
    root = str(Path(__file__).resolve().parents[2])
    return {**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def measure(what: str, clip: Clip, folder: Path) -> Cost | None:
    """Return the cost of a minute of video; None if the clip lacks the file."""
    if what == "auto, sub-stream + ring" and clip.sub_long is None:
        return None
    used, memory = [], 0.0
    for path, sub in ((clip.short, clip.sub_short), (clip.long, clip.sub_long)):
        if what == "dvr-scan":
            command = [_program(what), "-q", "-so", "-i", str(path), "--ignore-user-config"]
            cpu, memory, _ = run(command, folder)
        else:
            command = [sys.executable, "-m", "tests.benchmarks.capture", "--child", what, str(path), str(sub)]
            cpu, _, said = run(command, folder)
            before, most = (int(kib) for kib in said.split()[-2:])
            memory = (most - before) / 1024
        used.append(cpu)
    return Cost((used[1] - used[0]) * 60 / clip.seconds, memory)


def measure_motion(clip: Clip, folder: Path) -> Cost:
    """Let Debian's motion watch the file as a camera; read its CPU time twice."""
    with av.open(str(clip.long)) as container:
        stream = container.streams.video[0]
        width, height = stream.width, stream.height
        rate = round(float(stream.average_rate or 25))
    settings = {
        "daemon": "off",
        "netcam_url": f"file://{clip.long.resolve()}",
        "width": width,
        "height": height,
        "framerate": rate,
        "picture_output": "off",
        "movie_output": "off",
        "webcontrol_port": 0,
        "stream_port": 0,
        "target_dir": folder,
        "log_file": folder / "motion.log",
    }
    config = folder / "motion.conf"
    config.write_text("".join(f"{key} {value}\n" for key, value in settings.items()))
    command = [_program("motion"), "-n", "-c", str(config)]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        time.sleep(5)
        before, began = cpu_s(process.pid), time.monotonic()
        time.sleep(MOTION_S)
        cpu, passed = cpu_s(process.pid) - before, time.monotonic() - began
        return Cost(cpu * 60 / passed, status_kib(process.pid, "VmHWM") / 1024)
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(10)
        process.kill()


def _program(name: str) -> str:
    beside = Path(sys.executable).parent / name
    return str(beside) if beside.exists() else shutil.which(name) or ""


def main() -> None:
    parser = argparse.ArgumentParser(description="what watching a camera costs, beside others")
    parser.add_argument("--scenes", help="720p15-idle, 720p15-busy, 1080p25-idle, 1080p25-busy: some of them")
    parser.add_argument("--file", type=Path, help="a video of your own, 30 s or longer")
    parser.add_argument("--clips", type=Path, help="keep the videos here, and use those that are there")
    parser.add_argument("--only", help="rows to measure, with semicolons between")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(*options.child)
        return
    programs = {"motion": "apt install motion", "dvr-scan": "pip install dvr-scan"}
    for name, how in programs.items():
        if not _program(name):
            print(f"{name}: not installed ({how}): left out")
    rows = [*WORK, *(name for name in programs if _program(name))]
    if options.only:
        rows = [row for row in rows if row in options.only.split(";")]
    print(
        f"Python {sys.version.split()[0]}, OpenCV {cv2.__version__}, PyAV {av.__version__}; "
        f"{os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f} before the start"
    )
    with tempfile.TemporaryDirectory(prefix="async_motion-capture-") as name:
        folder = Path(name)
        where = options.clips or folder
        where.mkdir(parents=True, exist_ok=True)
        if options.file:
            clips = [own(options.file, folder)]
        else:
            wanted = options.scenes.split(",") if options.scenes else None
            scenes = [(scene, kind) for scene in SCENES for kind in KINDS]
            clips = [make(where, *one) for one in scenes if wanted is None or "-".join(one) in wanted]
        costs = {
            (row, clip): measure_motion(clip, folder) if row == "motion" else measure(row, clip, folder)
            for row in rows
            for clip in clips
        }
    heads = ["", *(f"{clip.name} {clip.kind}" for clip in clips)]

    def cells(show: Callable[[Cost], str]) -> list[list[str]]:
        def cell(cost: Cost | None) -> str:
            return "" if cost is None else show(cost)

        return [[row, *(cell(costs[row, clip]) for clip in clips)] for row in rows]

    table("CPU seconds for a minute of video", heads, cells(lambda cost: f"{cost.cpu:.2f}"))
    table("cameras that one core carries", heads, cells(lambda cost: f"{60 / max(cost.cpu, 0.01):.0f}"))
    table("MiB for a camera", heads, cells(lambda cost: f"{cost.memory:.0f}"))


if __name__ == "__main__":
    main()
