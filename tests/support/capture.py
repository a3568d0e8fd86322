"""Read a source in a test, to its end or for a number of frames."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing

from async_motion.capture import CameraSource
from async_motion.core.model import Frame


async def take(
    source: CameraSource, most: int | None = None, on_frame: Callable[[Frame], None] = lambda _frame: None
) -> list[Frame]:
    """Return the frames of one connection, all or the first `most`; call `on_frame` with each."""
    frames: list[Frame] = []
    async with aclosing(source.frames()) as connection:
        async for frame in connection:
            frames.append(frame)
            on_frame(frame)
            if len(frames) == most:
                break
    return frames


def read(
    source: CameraSource,
    most: int | None = None,
    *,
    within_s: float = 60.0,
    on_frame: Callable[[Frame], None] = lambda _frame: None,
) -> list[Frame]:
    """Do the same as `take` from a synchronous test, and close the source."""

    async def run() -> list[Frame]:
        async with asyncio.timeout(within_s):
            try:
                return await take(source, most, on_frame)
            finally:
                await source.aclose()

    return asyncio.run(run())
