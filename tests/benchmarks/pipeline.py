"""Cost of a camera: ``python -m tests.benchmarks.pipeline [--quick]``.

Prints five tables: CPU of each stage at 720p and 1080p; detection as a share of decoding; the speed of
processing a recording; the latency from a frame's capture to its announcement at a subscriber; resident
memory with 1, 4 and 8 cameras.

The stages are measured one by one in this process, as CPU time of the thread (of the process for the spool,
which has a thread of its own). All else is the real service as a process, `python -m async_motion run`, with
its directory store on a disk, a broker beside it and a synthetic H.264 clip as its camera: 25 fps, 4 Mbit/s,
an object crossing the frame for half of the time.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import av
import cv2
from av.video.frame import VideoFrame

from async_motion.capture.ffmpeg.frames import luma_of, to_bgr
from async_motion.core import names, payloads
from async_motion.core.detection.detector import Detector, DetectorSettings
from async_motion.core.model import Record
from async_motion.jpeg import encode
from async_motion.spool import Spool
from tests.support.mqtt import Received, Recorder, Rumqttd
from tests.support.ports import free_port
from tests.support.records import make_event, make_record
from tests.support.service import Service
from tests.support.video import make_clip
from tests.support.wait import eventually

T = TypeVar("T")

SIZES = {"720p": (1280, 720), "1080p": (1920, 1080)}
FPS = 25
CLIP_S = 8.0
INSTANCE = "bench"
RESTING, MOVING = "detect, nothing moves", "detect, motion"
TOPICS = names.Topics(f"async_motion/{INSTANCE}")


def clip(folder: Path, size: tuple[int, int]) -> Path:
    """Make the clip: quiet for a quarter of it, motion for a half, quiet for a quarter."""
    path = folder / f"{size[1]}.mp4"
    return make_clip(
        path,
        seconds=CLIP_S,
        fps=FPS,
        size=size,
        gop=2 * FPS,
        start_s=CLIP_S / 4,
        length_s=CLIP_S / 2,
        noise=2.0,
        bit_rate=4_000_000,
        options={"preset": "veryfast"},
    )


# The stages, one by one


def decoded_frames(path: Path) -> Iterator[VideoFrame]:
    with av.open(str(path)) as container:
        container.streams.video[0].codec_context.thread_count = 1
        yield from container.decode(video=0)


def stages(path: Path, folder: Path) -> dict[str, float]:
    """Return the median CPU ms of each stage for one frame, every frame judged.

    The detector has seen the clip once before: a camera is past its first seconds nearly all the time.
    """
    found: dict[str, list[float]] = {"decode H.264": [], "luma plane": [], RESTING: [], MOVING: []}

    def measure(stage: str, work: Callable[..., T], *arguments: object) -> T:
        began = time.thread_time()
        result = work(*arguments)
        found.setdefault(stage, []).append((time.thread_time() - began) * 1000)
        return result

    detector = Detector(DetectorSettings())
    for number, decoded in enumerate(decoded_frames(path)):
        detector.update(luma_of(decoded), number / FPS)
    event, records = make_event(), list[Record]()
    source = decoded_frames(path)
    for number in range(round(CLIP_S * FPS)):
        decoded = measure("decode H.264", next, source)
        luma = measure("luma plane", luma_of, decoded)
        began = time.thread_time()
        detection = detector.update(luma, CLIP_S + number / FPS)
        took_ms = (time.thread_time() - began) * 1000
        found.setdefault(MOVING if detection.motion else RESTING, []).append(took_ms)
        if number % 5 == 0:
            bgr = measure("colour", to_bgr, decoded)
            jpeg, width, height = measure("JPEG, quality 85", encode, bgr)
            made = make_record(event, len(records), jpeg=jpeg)
            records.append(replace(made, info=replace(made.info, width=width, height=height)))
    typical = {stage: statistics.median(times) for stage, times in found.items()}
    typical["spool, durable"] = asyncio.run(spool_ms(records, folder / f"{path.stem}.db"))
    return typical


async def spool_ms(records: Sequence[Record], path: Path) -> float:
    """Return the process's CPU ms for accepting a single record."""
    async with Spool(path) as spool:
        began = time.process_time()
        for one in records:
            await spool.accept([one])
        return (time.process_time() - began) * 1000 / len(records)


# The service as a process


class Stamped(Recorder):
    """Records the arrival time of each message, in Unix time."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.times: list[tuple[float, Received]] = []

    def _on_message(self, client: Any, userdata: object, message: Any) -> None:
        now = time.time()
        super()._on_message(client, userdata, message)
        self.times.append((now, self.messages[-1]))

    def since(self, topic: str, text: str | None = None) -> float:
        """Wait for the first message on a topic; return its arrival time."""

        def found() -> float | None:
            for at, message in list(self.times):
                if message.topic == topic and text in (None, message.text) and not message.retain:
                    return at
            return None

        at = eventually(found, within_s=300, what=f"{text or 'a message'} on {topic}")
        assert at is not None
        return at


def settings(port: int, sources: Sequence[Path], **capture: Any) -> dict[str, Any]:
    return {
        "instance": INSTANCE,
        "mqtt": {"host": "127.0.0.1", "port": port},
        "web": {"port": free_port()},
        "cameras": {
            f"cam{number}": {"source": str(path), "capture": capture, "event": {"off_delay": "1s"}}
            for number, path in enumerate(sources)
        },
    }


def status_kib(pid: int, field: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1])
    raise ValueError(f"{field} of process {pid}")


def cpu_s(pid: int) -> float:
    """Return the CPU seconds that a process and its threads have used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def full_speed(path: Path, folder: Path) -> float:
    """Return the frames processed per second of a recording; five of each recorded second are judged."""
    with Rumqttd(folder / "broker") as broker, Stamped(broker.port, (f"{TOPICS.base}/#",)) as heard:
        config = settings(broker.port, [path], speed="max", loop=False)
        with Service(config, folder / "service") as service:
            assert service.wait(300) == 0, service.log_text()
        topic = TOPICS.camera_status("cam0")
        online = heard.since(topic, "online")
        offline = next(at for at, message in heard.times if message.topic == topic and at > online)
        return CLIP_S * FPS / (offline - online)


def latency(path: Path, folder: Path, seconds: float) -> tuple[list[float], list[float], float]:
    """Return ms from capture to announcement, of opening frames and of later ones, and CPU % of a core."""
    with Rumqttd(folder / "broker") as broker, Stamped(broker.port, (f"{TOPICS.base}/#",)) as heard:
        config = settings(broker.port, [path])
        config["cameras"]["cam0"]["event"] |= {"frames": "all", "pre": "0s"}
        with Service(config, folder / "service") as service:
            heard.since(TOPICS.camera_status("cam0"), "online")
            before, began = cpu_s(service.pid), time.monotonic()
            time.sleep(seconds)
            share = (cpu_s(service.pid) - before) / (time.monotonic() - began)
        opening: list[float] = []
        later: list[float] = []
        for at, message in heard.times:
            if message.topic == TOPICS.frame("cam0"):
                info = payloads.parse_frame(message.payload).info
                took_ms = (at - info.captured_at.timestamp()) * 1000
                (later if info.seq else opening).append(took_ms)
        return opening, later, share * 100


def memory(path: Path, folder: Path, cameras: int, seconds: float) -> tuple[float, float]:
    """Return the service's resident MiB with `cameras` cameras after `seconds`, and its peak."""
    with Rumqttd(folder / "broker") as broker, Stamped(broker.port, (f"{TOPICS.base}/#",)) as heard:
        with Service(settings(broker.port, [path] * cameras), folder / "service") as service:
            for number in range(cameras):
                heard.since(TOPICS.camera_status(f"cam{number}"), "online")
            time.sleep(seconds)
            now, most = status_kib(service.pid, "VmRSS"), status_kib(service.pid, "VmHWM")
        return now / 1024, most / 1024


# Output


def table(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    widths = [max(len(row[i]) for row in [heads, *rows]) for i in range(len(heads))]

    def line(cells: Sequence[str]) -> str:
        return "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )

    print(f"\n{title}\n{line(heads)}\n{line(['-' * width for width in widths])}")
    for row in rows:
        print(line(row), flush=True)


def percentile(values: Sequence[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def main() -> None:
    parser = argparse.ArgumentParser(description="what a camera costs")
    parser.add_argument("--quick", action="store_true", help="a shorter run, with figures that vary more")
    seconds = 10.0 if parser.parse_args().quick else 40.0
    cv2.setNumThreads(1)
    print(
        f"Python {sys.version.split()[0]}, OpenCV {cv2.__version__}, PyAV {av.__version__}; "
        f"{os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f} before the start"
    )
    with tempfile.TemporaryDirectory(prefix="async_motion-bench-") as name:
        folder = Path(name)
        clips = {size: clip(folder, pixels) for size, pixels in SIZES.items()}

        costs = {size: stages(path, folder) for size, path in clips.items()}
        table(
            "CPU ms a frame, by stage (the last three for kept frames only)",
            ["stage", *SIZES],
            [[stage, *(f"{costs[size][stage]:.2f}" for size in SIZES)] for stage in costs["720p"]],
        )
        table(
            "CPU of detection as a share of decoding the same frame",
            ["stage", *SIZES],
            [
                [stage, *(f"{costs[size][stage] / costs[size]['decode H.264']:.2f}" for size in SIZES)]
                for stage in (RESTING, MOVING)
            ],
        )
        table(
            "a recording at full speed",
            ["", *SIZES],
            [
                [
                    "video frames/s",
                    *(f"{full_speed(path, folder / f'max-{size}'):.0f}" for size, path in clips.items()),
                ]
            ],
        )
        rows = []
        for size, path in clips.items():
            opening, later, share = latency(path, folder / f"latency-{size}", seconds)
            for kind, values in (("opening frame", opening), ("later frames", later)):
                p50, p99 = percentile(values, 0.5), percentile(values, 0.99)
                rows.append([f"{size}, {kind}", str(len(values)), f"{p50:.0f}", f"{p99:.0f}", f"{share:.0f}"])
        table(
            "from capture to announcement, ms (an opening frame waits for its confirmation)",
            ["", "frames", "p50", "p99", "CPU %"],
            rows,
        )
        found = [
            (cameras, *memory(clips["720p"], folder / f"memory-{cameras}", cameras, seconds / 2))
            for cameras in (1, 4, 8)
        ]
        table(
            "resident memory, 720p cameras",
            ["cameras", "MiB", "at most"],
            [[str(cameras), f"{now:.0f}", f"{most:.0f}"] for cameras, now, most in found],
        )


if __name__ == "__main__":
    main()
