"""The spool's set-aside records and the log's last warnings, for the health page."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from datetime import UTC, datetime
from pathlib import Path

from async_motion.core.payloads import iso
from async_motion.logs import recent_warnings
from async_motion.settings import Settings
from async_motion.spool import look, read_jpeg, retry
from async_motion.web.upkeep import LogLine, SetAside


class SpoolUpkeep:
    """Reads the spool's file in threads, beside the service. A spool in memory shows nothing."""

    def __init__(self, settings: Settings) -> None:
        self._path = None if settings.spool.path == ":memory:" else Path(settings.spool.path)

    async def set_aside(self) -> list[SetAside]:
        """Return the records that were set aside, oldest first. Raises SpoolError."""
        if self._path is None:
            return []
        report = await asyncio.to_thread(look, self._path)
        return [
            SetAside(
                number=one.number,
                camera=one.info.camera,
                event_id=one.info.event_id,
                captured_at=iso(one.info.captured_at),
                object_key=one.info.object_key,
                size=one.info.size,
                reason=one.reason,
            )
            for one in report.aside
        ]

    async def read_jpeg(self, number: int) -> bytes | None:
        """Return the JPEG of a set-aside frame; None if there is none. Raises SpoolError."""
        return None if self._path is None else await asyncio.to_thread(read_jpeg, self._path, number)

    async def retry(self, numbers: Collection[int] | None) -> int:
        """Queue set-aside frames for delivery again (None: all); return how many. Raises SpoolError."""
        return 0 if self._path is None else await asyncio.to_thread(retry, self._path, numbers)

    def warnings(self) -> list[LogLine]:
        """Return the last log lines at level warning and above, oldest first."""
        return [
            LogLine(at=iso(datetime.fromtimestamp(at, UTC)), level=level, logger=logger, text=text)
            for at, level, logger, text in recent_warnings()
        ]
