"""A capture process does not keep the decoders of what it has read."""

from __future__ import annotations

import sys
from contextlib import aclosing
from pathlib import Path

import pytest

from async_motion.capture import CaptureSpec, open_source
from tests.support.video import make_clip

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux only")


async def test_a_file_read_again_and_again_stays_below_the_bound(tmp_path: Path) -> None:
    """PyAV's container and streams refer to each other: each pass would add 20 MiB until collected."""
    path = make_clip(tmp_path / "clip.mp4", size=(1280, 720), fps=5, seconds=2.0, gop=10)
    camera = open_source(
        CaptureSpec(
            camera="porch", source=str(path), fps=5.0, isolation="process", speed="max",
            process_memory=256 * 2**20,
        )
    )  # fmt: skip
    frames = 0
    async with aclosing(camera.frames()) as connection:
        async for _ in connection:
            frames += 1
            if frames == 300:  # 30 passes
                break
    await camera.aclose()
    assert camera.counters.frames >= 300
