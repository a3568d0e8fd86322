"""`async-motion scan` beside DVR-Scan: ``python -m tests.benchmarks.scan --data PATH --dvr-scan PROGRAM``.

PATH holds `evaluate.py` and folders of labelled sequences, as for `tests.benchmarks.accuracy`. Each sequence
is re-cut with quiet stretches (see `idling`), enlarged to `--width`, cut off at `MAX_S`, and encoded as
cameras do (H.264, a keyframe every 2 s, no B-frames). Both programs scan the same files with their defaults
and write no clips (`--scan-only`):

- one process each: `async-motion scan --processes 1`, and `dvr-scan`, one file after the other
- all cores: `async-motion scan`, and as many `dvr-scan` at a time as there are cores

PROGRAM is DVR-Scan's, from an environment of its own: ``pip install dvr-scan==1.8.*``. It brings an older
OpenCV. The figures are wall time and CPU seconds (all threads and children, start-up included) for a minute
of video: medians over rounds that alternate.

*Event F1.* An event of the footage is a run of frames that are labelled as motion; runs less than `JOIN_S`
apart are one. It is found if a reported event overlaps it within `NEAR_S`. A reported event that overlaps
neither an event nor unlabelled frames is false. The time that a program adds after the last motion
(`off_delay`, 10 s; DVR-Scan's 2 s) and before the first (1.5 s) is subtracted.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import av
import cv2
import numpy as np
from av.video.stream import VideoStream

from tests.benchmarks.idling import (
    DEFAULT_DATA,
    EMPTY,
    Recut,
    empty_scene,
    frames_of,
    recut,
    scoring,
    sequences,
)

SEQUENCES = (
    "sbi_HallAndMonitor,sbi_CAVIAR2,cdnet_fall_a,cdnet_highway,intel_car,syn_light_hall,syn_empty_light"
)
MAX_S = 90.0
GOP_S = 2.0
JOIN_S = 3.0
NEAR_S = 1.0
TAIL_S = {"async-motion": 10.0, "dvr-scan": 2.0}
HEAD_S = {"async-motion": 0.0, "dvr-scan": 1.5}

Span = tuple[float, float]


@dataclass(frozen=True, slots=True)
class ScanClip:
    """A file, its length, and the spans in which something moves and in which that is unknown."""

    path: Path
    seconds: float
    events: list[Span]
    unknown: list[Span]


def make(cut: Recut, images: list[cv2.typing.MatLike], path: Path, width: int) -> None:
    """Encode a re-cut sequence at `width`."""
    height = round(images[0].shape[0] * width / images[0].shape[1]) // 2 * 2
    order = cut.order[: round(MAX_S * cut.fps)]
    empty = empty_scene(images) if min(order) < 0 else []
    unfinished = path.with_name(f"unfinished-{path.name}")
    with av.open(str(unfinished), "w") as container:
        options = {"preset": "superfast", "tune": "zerolatency", "crf": "24", "sc_threshold": "0", "bf": "0"}
        stream = container.add_stream("libx264", rate=cut.fps, options=options)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.gop_size = round(GOP_S * cut.fps)
        for number, at in enumerate(order):
            image = images[at] if at >= 0 else empty[EMPTY - at]
            large = cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC)
            frame = av.VideoFrame.from_ndarray(np.asarray(large, np.uint8), format="bgr24")
            frame.pts, frame.time_base = number, 1 / cut.fps
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    unfinished.rename(path)


def spans(labels: Sequence[int], value: int, fps: float) -> list[Span]:
    """Return the runs of a label, in seconds."""
    found: list[Span] = []
    for number, label in enumerate(labels):
        if label != value:
            continue
        at = number / fps
        if found and at - found[-1][1] <= 1.5 / fps:
            found[-1] = (found[-1][0], at)
        else:
            found.append((at, at))
    return found


def joined(events: Sequence[Span]) -> list[Span]:
    """Return the events, with neighbours less than `JOIN_S` apart merged."""
    found: list[Span] = []
    for begin, end in events:
        if found and begin - found[-1][1] < JOIN_S:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((begin, end))
    return found


def clips(data: Path, only: str, folder: Path, width: int) -> list[ScanClip]:
    """Return the clips; make those that do not exist yet."""
    evaluate = scoring(data)
    found = []
    for place, meta in sequences(data, set(only.split(","))):
        cut = recut(place, meta, evaluate)
        if cut is None:
            continue
        path = folder / f"{cut.name}-{width}.mp4"
        if not path.exists():
            make(cut, frames_of(place, meta), path, width)
        fps = float(cut.fps)
        labels = cut.labels[: round(MAX_S * cut.fps)]
        found.append(ScanClip(path, len(labels) / fps, joined(spans(labels, 1, fps)), spans(labels, -1, fps)))
    return found


def score(clip: ScanClip, reported: Sequence[Span], program: str) -> tuple[int, int, int]:
    """Return the counts of (found, missed, false) events."""
    seen = [
        (begin + HEAD_S[program] - NEAR_S, max(begin, end - TAIL_S[program]) + NEAR_S)
        for begin, end in reported
    ]
    found = sum(any(meets(event, one) for one in seen) for event in clip.events)
    false = sum(not any(meets(event, one) for event in [*clip.events, *clip.unknown]) for one in seen)
    return found, len(clip.events) - found, false


def meets(one: Span, other: Span) -> bool:
    return one[0] <= other[1] and other[0] <= one[1]


def f1(counts: Sequence[tuple[int, int, int]]) -> float:
    found, missed, false = (sum(column) for column in zip(*counts, strict=True))
    return float(2 * found / max(1, 2 * found + missed + false))


# The programs


def ours(some: Sequence[ScanClip], *, processes: int) -> list[list[Span]]:
    """Run `async-motion scan`; return the reported events of each clip."""
    command = [sys.executable, "-m", "async_motion", "scan", *(str(clip.path) for clip in some), "--json"]
    said = run([*command, "--processes", str(processes)])
    by_file: dict[str, list[Span]] = {}
    for line in said.splitlines():
        event = json.loads(line)
        by_file.setdefault(event["file"], []).append((event["begin_s"], event["end_s"]))
    return [by_file.get(str(clip.path), []) for clip in some]


def theirs(some: Sequence[ScanClip], *, program: str, processes: int) -> list[list[Span]]:
    """Run `dvr-scan` on each file, `processes` at a time; return the reported events of each clip."""

    def one(clip: ScanClip) -> list[Span]:
        said = run([program, "-q", "-so", "--ignore-user-config", "-i", str(clip.path)])
        times = [seconds_of(*each) for each in re.findall(r"(\d+):(\d+):(\d+\.\d+)", said)]
        return list(zip(times[::2], times[1::2], strict=True))

    with ThreadPoolExecutor(processes) as pool:
        return list(pool.map(one, some))


def seconds_of(hours: str, minutes: str, seconds: str) -> float:
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)


def run(command: list[str]) -> str:
    root = str(Path(__file__).resolve().parents[2])
    with tempfile.TemporaryDirectory() as work:
        environment = {**os.environ, "PYTHONPATH": root if "async_motion" in command else ""}
        # As installed: the modules are compiled once, not at each start.
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        done = subprocess.run(command, cwd=work, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{command[0]}: ended with {done.returncode}: {done.stderr[-500:]}")
    return done.stdout


def main() -> int:
    parser = argparse.ArgumentParser(description="`async-motion scan` beside DVR-Scan")
    parser.add_argument("--data", type=Path, default=DEFAULT_DATA)
    parser.add_argument("--only", default=SEQUENCES, help="names of sequences, with commas between")
    parser.add_argument("--dvr-scan", default="dvr-scan", help="the program")
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--clips", type=Path, help="keep the encoded clips here and use them again")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory(prefix="async_motion-scan-") as name:
        folder = options.clips or Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        some = clips(options.data, options.only, folder, options.width)
        minutes = sum(clip.seconds for clip in some) / 60
        events = sum(len(clip.events) for clip in some)
        print(f"{len(some)} files, {minutes:.1f} min, {events} events, {cores} cores", flush=True)
        ways: dict[str, Callable[[Sequence[ScanClip]], list[list[Span]]]] = {}
        for count, words in ((1, "one process"), (cores, "all cores")):
            ways[f"async-motion, {words}"] = partial(ours, processes=count)
            ways[f"dvr-scan, {words}"] = partial(theirs, program=options.dvr_scan, processes=count)
        took: dict[str, list[Span]] = {way: [] for way in ways}
        for _ in range(options.rounds):
            for way, work in ways.items():
                before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
                reported = work(some)
                wall, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
                cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
                took[way].append((wall / minutes, cpu / minutes))
                program = way.partition(",")[0]
                counts = [score(clip, spans_, program) for clip, spans_ in zip(some, reported, strict=True)]
                totals = [sum(column) for column in zip(*counts, strict=True)]
                print(
                    f"{way}: {wall:.1f} s, {cpu:.1f} s CPU; found {totals[0]}, missed {totals[1]},"
                    f" false {totals[2]}, F1 {f1(counts):.3f}",
                    flush=True,
                )
    medians = {
        way: [statistics.median(column) for column in zip(*rounds, strict=True)]
        for way, rounds in took.items()
    }
    for way, (wall, cpu) in medians.items():
        other = medians[way.replace("async-motion", "dvr-scan")]
        faster = f", {other[0] / wall:.1f} times as fast, {other[1] / cpu:.1f} times less CPU"
        shown = faster if way.startswith("async") else ""
        print(f"{way}: {wall:.2f} s, {cpu:.2f} s CPU for a minute of video{shown}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
