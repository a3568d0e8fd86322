"""What the page of health shows besides the state: what was set aside, and the log's last warnings."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class SetAside:
    """A frame that the store refused for good, and why."""

    number: int
    camera: str
    event_id: str
    captured_at: str
    object_key: str
    size: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLine:
    """A line of the log, its secrets masked."""

    at: str
    level: str
    logger: str
    text: str


class Upkeep(Protocol):
    """The spool and the log of the running service."""

    async def set_aside(self) -> list[SetAside]:
        """Return what was set aside, the oldest first. Raises SpoolError."""

    async def picture(self, number: int) -> bytes | None:
        """Return the JPEG of a frame that was set aside. Raises SpoolError."""

    async def retry(self, numbers: Collection[int] | None) -> int:
        """Let frames try again, None: all; return how many. Raises SpoolError."""

    def warnings(self) -> Sequence[LogLine]:
        """Return the last lines at warning and above, the oldest first."""
