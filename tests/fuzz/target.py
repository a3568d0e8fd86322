"""The child: reads a case from each line of stdin and writes its result to stdout.

A case is `{"source": …, "transport": …, "decode": …}`. The result has `outcome` (`ended`, or the class of one
of our errors), `bug` (the traceback of any other error), `frames`, and the resources of the process
afterwards: `left` (reader threads), `rss`, `peak` (bytes), `threads`, `fds`.
"""

from __future__ import annotations

import asyncio
import base64
import gc
import json
import logging
import os
import sys
import threading
import time
import traceback
from contextlib import aclosing
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from async_motion.capture import CaptureSpec, open_source
from async_motion.core.detection.detector import Detector, DetectorSettings
from async_motion.core.events.image_health import ImageHealth
from async_motion.core.model import Image, Luma
from async_motion.errors import CameraUnavailable, FrameShapeError

CASE_S = 6.0
"""Time limit of a case: a stream may never end."""

MAX_FRAMES = 60
AHEAD_S = 0.2
"""Frames of a burst are a millisecond apart; the lead adds up."""

TOLERANCE = 16.0
"""Grey levels between a full-range JPEG and the output of another decoder."""

SETTLE_S = 15.0
"""Time for threads to end: the time-outs of a case's connection, and a slow machine."""


async def watch(case: dict[str, Any], shapes: list[tuple[int, ...]]) -> None:
    """Read one source as the pipeline does; append the shape of each frame to `shapes`."""
    spec = CaptureSpec(
        camera="x",
        source=case["source"],
        transport=case.get("transport", "tcp"),
        decode=case.get("decode", "all"),
        fps=float("inf"),
        open_timeout_s=1.5,
        stall_timeout_s=0.5,
        max_pixels=1_000_000,
        speed="max",
        loop=False,
        ring_bytes=4 << 20,
    )
    source = open_source(spec)
    truth = read_luma(base64.b64decode(case["truth"])) if "truth" in case else None
    settings = DetectorSettings()
    detector, health = Detector(settings), ImageHealth()
    before = None
    try:
        async with asyncio.timeout(CASE_S), aclosing(source.frames()) as connection:
            async for frame in connection:
                shapes.append(frame.luma.shape)
                assert before is None or frame.captured_at > before, "labels run backwards"
                before = frame.captured_at
                late_s = time.monotonic() - frame.monotonic
                assert late_s < case.get("late", float("inf")), f"a frame from {late_s:.0f} s ago"
                if "://" in case["source"]:
                    assert frame.monotonic <= time.monotonic() + AHEAD_S, "a frame from the future"
                if truth is not None:
                    assert_whole(frame.luma, truth)
                health.update(frame.luma, frame.monotonic)
                try:
                    detector.update(frame.luma, frame.monotonic)
                except FrameShapeError:
                    detector = Detector(settings)
                    detector.update(frame.luma, frame.monotonic)
                if len(shapes) % 4 == 1:
                    assert_fits(frame.bgr(), frame.luma)
                if len(shapes) == MAX_FRAMES:
                    break
    except TimeoutError:
        pass
    finally:
        await source.aclose()


def read_luma(jpeg: bytes) -> Luma:
    return np.asarray(cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_GRAYSCALE), np.uint8)


def assert_whole(luma: Luma, truth: Luma) -> None:
    """Assert that no band of the frame is missing, green, or of another frame."""
    away = np.abs(luma.astype(int) - truth)
    for top in range(0, len(away), 8):
        assert away[top : top + 8].mean() < TOLERANCE, f"damaged from row {top} on"


def assert_fits(image: Image, luma: Luma) -> None:
    """Assert that an image has its luma's shape, or is stretched along one side to square pixels."""
    (height, width, channels), (rows, columns) = image.shape, luma.shape
    assert channels == 3
    assert height >= rows
    assert width >= columns
    assert height == rows or width == columns


def readers() -> int:
    return sum(thread.name.startswith(("capture[", "rtsp_proxy[")) for thread in threading.enumerate())


def _peak_bytes() -> int:
    """Return the peak resident bytes of this process.

    Not `ru_maxrss`: it survives an exec, and so is at least that of the test runner when it forked.
    """
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return 1024 * int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")))


def run(case: dict[str, Any]) -> dict[str, Any]:
    """Run one case; return its result."""
    shapes: list[tuple[int, ...]] = []
    outcome, bug = "ended", None
    try:
        asyncio.run(watch(case, shapes))
    except CameraUnavailable as exc:
        outcome = type(exc).__name__
        if "secret" in str(exc):
            bug = f"a secret is told: {exc}"
    except Exception:  # noqa: BLE001  # any other error is a finding
        outcome, bug = "bug", traceback.format_exc()
    deadline = time.monotonic() + SETTLE_S
    while readers() and time.monotonic() < deadline:
        time.sleep(0.01)
    gc.collect()
    return {
        "outcome": outcome,
        "bug": bug,
        "frames": len(shapes),
        "left": readers(),
        "rss": int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE"),
        "peak": _peak_bytes(),
        "threads": threading.active_count(),
        "fds": len(list(Path("/proc/self/fd").iterdir())),
    }


if __name__ == "__main__":
    logging.disable()  # log lines about skipped input do not matter here
    for line in sys.stdin:
        print(json.dumps(run(json.loads(line))), flush=True)
