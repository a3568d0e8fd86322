"""What the health page shows besides the state: records that were set aside, and the log's last warnings."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class SetAside:
    """A frame that the store refused for good, with the reason."""

    number: int
    camera: str
    event_id: str
    captured_at: str
    object_key: str
    size: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLine:
    """A line of the log, with its secrets masked."""

    at: str
    level: str
    logger: str
    text: str


class Upkeep(Protocol):
    """The spool and the log of the running service."""

    async def set_aside(self) -> list[SetAside]:
        """Return the frames that were set aside, oldest first. Raises SpoolError."""

    async def read_jpeg(self, number: int) -> bytes | None:
        """Return the JPEG of a frame that was set aside; None if there is none. Raises SpoolError."""

    async def retry(self, numbers: Collection[int] | None) -> int:
        """Requeue frames that were set aside, None: all; return how many. Raises SpoolError."""

    def warnings(self) -> Sequence[LogLine]:
        """Return the last lines at warning and above, oldest first."""
