"""Write a response in parts, to a client that may have stopped reading."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Final

from aiohttp import web

WRITE_S: Final = 10.0
"""Maximum seconds for a part of a live stream."""
DOWNLOAD_S: Final = 60.0
"""Maximum seconds for a part of a download: a slow link reads `CHUNK` in that time."""
CHUNK: Final = 256 * 1024
"""Maximum bytes of a part of a download."""


async def write(response: web.StreamResponse, data: bytes | memoryview, within_s: float = WRITE_S) -> None:
    """Write a part. Raises ConnectionResetError if the client does not take it `within_s`."""
    await _taken(response.write(data), within_s)


async def download(response: web.StreamResponse, data: bytes) -> None:
    """Write data of any length in parts. Raises ConnectionResetError if the client stops reading."""
    view = memoryview(data)
    for start in range(0, len(view), CHUNK):
        await write(response, view[start : start + CHUNK], DOWNLOAD_S)


async def finish(response: web.StreamResponse) -> None:
    """End a download. Raises ConnectionResetError if the client does not read the rest."""
    await _taken(response.write_eof(), DOWNLOAD_S)


async def _taken(writing: Awaitable[None], within_s: float) -> None:
    try:
        async with asyncio.timeout(within_s):
            await writing
    except TimeoutError:
        raise ConnectionResetError("the client does not read") from None
