"""Write a response in parts, to a client that may have stopped reading."""

from __future__ import annotations

import asyncio
from typing import Final

from aiohttp import web

WRITE_S: Final = 10.0
"""Maximum seconds for a part of a live stream."""
DOWNLOAD_S: Final = 60.0
"""Maximum seconds for a part of a download: a slow link reads a quarter of a megabyte in that time."""


async def write(response: web.StreamResponse, data: bytes, within_s: float = WRITE_S) -> None:
    """Write a part. Raises ConnectionResetError if the client does not take it `within_s`."""
    try:
        async with asyncio.timeout(within_s):
            await response.write(data)
    except TimeoutError:
        raise ConnectionResetError("the client does not read") from None
