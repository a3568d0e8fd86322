"""Work between calls: return space, expire items, notice changes by other processes, report drops."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from async_motion.spool import files
from async_motion.spool.tables import Tables

log = logging.getLogger(__name__)

SPARE_PAGES = 4 * 1024 * 1024 // files.PAGE_BYTES
"""Free pages that the file keeps for the next records (4 MiB)."""
VACUUM_PAGES = 64
"""Free pages returned to the file system in one step: half a MiB."""
SUMMARY_S = 60.0
"""How often continued drops are reported, and how long without a drop counts as the end."""


class Housekeeping:
    """Keeps one spool tidy, in small steps. `on_foreign_change`: another process changed the tables."""

    def __init__(
        self, *, max_bytes: int, clock: Callable[[], float], on_foreign_change: Callable[[], None]
    ) -> None:
        self._max_bytes = max_bytes
        self._clock = clock
        self._on_foreign_change = on_foreign_change
        self._spare_pages = 0
        self._data_version = 0
        self._reported: dict[str, int] = {}
        self._dropping_since: float | None = None
        self._last_drop = 0.0
        self._next_summary = 0.0

    @property
    def has_work(self) -> bool:
        """True while there is space to return: run again soon."""
        return self._spare_pages > 0

    @property
    def dropping(self) -> bool:
        """True from the first drop until none has happened for a minute."""
        return self._dropping_since is not None

    def begin(self, tables: Tables) -> None:
        """Remember the state of tables that have just been opened."""
        self._data_version = tables.data_version()

    def run(self, tables: Tables, *, idle: bool) -> None:
        """Do one step; only counts and reports unless the spool is idle. Raises sqlite3.Error."""
        self._spare_pages = max(0, tables.spare_pages() - SPARE_PAGES)
        if idle:
            self._return_space(tables)
            if tables.has_expired():
                with tables.transaction(durable=False):
                    tables.expire()
            self._notice_others(tables)
        self._report_drops(tables)

    def _return_space(self, tables: Tables) -> None:
        if not self._spare_pages:
            return
        tables.vacuum(min(self._spare_pages, VACUUM_PAGES))
        if self._spare_pages <= VACUUM_PAGES:
            tables.checkpoint()  # the file is truncated only by this

    def _notice_others(self, tables: Tables) -> None:
        """Recount after `async-motion spool retry` has changed the tables."""
        version = tables.data_version()
        if version == self._data_version:
            return
        self._data_version = version
        before, tables.counters = tables.counters, tables.recount()
        tables.counters.continue_from(before)
        self._on_foreign_change()

    def _report_drops(self, tables: Tables) -> None:
        """Log when dropping begins, continues and ends."""
        now, dropped = self._clock(), tables.counters.dropped
        new = {reason: count - self._reported.get(reason, 0) for reason, count in dropped.items()}
        new = {reason: count for reason, count in new.items() if count}
        fill = f"{tables.counters.bytes / 2**20:.1f} of {self._max_bytes / 2**20:.1f} MiB are used"
        if new:
            self._last_drop = now
        if new and self._dropping_since is None:
            self._dropping_since, self._next_summary = now, now + SUMMARY_S
            log.warning("spool: dropping records (%s); %s", _counts(new), fill)
            self._reported = dict(dropped)
        elif new and now >= self._next_summary:
            self._next_summary = now + SUMMARY_S
            log.warning("spool: still dropping records: %s more; %s", _counts(new), fill)
            self._reported = dict(dropped)
        elif self._dropping_since is not None and now - self._last_drop >= SUMMARY_S:
            log.info("spool: drops no more records; %s", fill)
            self._dropping_since = None


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{reason}: {count}" for reason, count in sorted(counts.items()))
