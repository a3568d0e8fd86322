"""Statistics of the spool."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class SpoolStats:
    """What the spool holds. `bytes` counts JPEGs, rows and lines, as `max_bytes` does.

    `records` are not delivered yet, `phases` are starts and ends; `set_aside` counts records set aside.
    `dropped` counts since the start, by reason: `full`, `too_large` (records not yet stored), `full_stored`
    (announcements), `full_aside` (records set aside), `age` (records in any state), `age_phase`,
    `unreadable_phase` (starts, ends and summaries). `to_store` and `to_announce` tell whether there is work
    of each kind, `backlog` whether any of it is delayed. `oldest_age_s` is the age of the oldest of it.
    `problem` tells why the spool cannot accept records, None while it can. `alarm` warns the operator, while
    records are accepted, that some are set aside or dropped; None otherwise.
    """

    records: int = 0
    phases: int = 0
    bytes: int = 0
    max_bytes: int = 0
    oldest_age_s: float = 0.0
    to_store: bool = False
    to_announce: bool = False
    backlog: bool = False
    set_aside: int = 0
    accepted: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)
    commits: int = 0
    problem: str | None = None
    alarm: str | None = None

    @property
    def empty(self) -> bool:
        """True when nothing is left to deliver."""
        return not self.records and not self.phases
