"""The spool: the durable outbox on the disk, between detection and delivery.

    spool         coroutines for the event loop
    worker        the thread with the connection: transactions, damage, bugs
    housekeeping  between calls: space, expiry, reports of drops
    tables        items, events, memory, and every change to them
    eviction      what goes at the bounds
    leases        what delivery may do next
    event_index   the lines of the event index, and which of its files are due
    schema        the tables as SQL, migration, repair
    codec, files, inspect, backup, stats

Goals
  - A record is *accepted* when `accept` returns: its commit has reached the disk. SIGKILL and power loss do
    not lose it from then on.
  - Acceptance is cheap: calls that come within a few milliseconds share one commit, one fsync.
  - Bounded in bytes and in age, whatever delivery does. What goes at the bound is chosen, counted and logged.
  - A spool that cannot be used (a newer version wrote it, it is damaged) is moved away and a fresh one
    begins: the cameras never stay dark because of it. One of an older version is migrated in place.
  - A read that fails once is repeated; a disk that fails is no damage; a disk that hangs blocks neither the
    event loop nor the exit.
Non-goals: more than one process (a lock keeps others out; `async-motion spool` only looks, or asks for a
retry in one transaction); order by capture time; a queue for anything but motion frames and event phases.

How a record gets through, with every point at which the machine may die
  1. `accept(records and phases)`: one transaction with `synchronous=FULL`. SQLite appends the pages to the
     WAL and fsyncs it; on its creation also the folder. Dead before the fsync has returned: `accept` has not
     returned either, nothing was promised; the WAL's checksums cut off what is torn.
  2. Delivery takes it (in memory only) and puts it into the store. Dead: the next run puts it again, same
     key, same bytes.
  3. `mark_stored`: the row says so, its JPEG goes. This and everything below is written without an fsync
     of its own: it survives SIGKILL at once, and a power loss from the next acceptance (or checkpoint) on.
     Lost: the frame is put and announced again, which subscribers recognise by its `frame_id`. Never out of
     order: the WAL is one log, so that no later note can survive an earlier one.
  4. Announced; `remove`: the row goes. Dead before it: announced again.
  5. Records gone, START gone: `event.json` is due, then END, then the event with its lines leaves the tables.
     With `event.json` noted, the event has its line in the index, and its day's file is due: in the tables,
     so that a crash forgets neither. Records set aside keep their event; delivered later, they revise both.
  6. `open` after a crash: SQLite replays the WAL; events that were open get an END with reason `interrupted`,
     as of their last accepted frame, in one durable transaction before anything is leased.
  A failed fsync is not believed a second time: after any I/O error the WAL is checkpointed (written to the
  database and fsynced there) before the next acceptance is promised, because the pages that the kernel has
  marked clean are on no disk.

Numbers: a spool has an id, its `writer`, drawn when it is made. In the transaction that accepts an event's
start, the event gets the next number (`no`) of its camera: from 1, without a gap.

Space: `auto_vacuum=INCREMENTAL`; freed pages are reused, and what is beyond a few MiB goes back to the file
system in small steps while nothing else is to be done. Acceptance stops (SpoolError) before the disk is quite
full, so that deletions, which need room in the WAL, still find some, and a full disk drains by itself.

Threads: the connection lives in one daemon thread of its own. The loop hands it functions and gets futures
back.
"""

from async_motion.spool.backup import restore, snapshot
from async_motion.spool.files import DAMAGED, NEWER
from async_motion.spool.inspect import Aside, SpoolReport, WaitingItems, export, look, picture, retry
from async_motion.spool.spool import Spool
from async_motion.spool.stats import SpoolStats

__all__ = [
    "DAMAGED",
    "NEWER",
    "Aside",
    "Spool",
    "SpoolReport",
    "SpoolStats",
    "WaitingItems",
    "export",
    "look",
    "picture",
    "restore",
    "retry",
    "snapshot",
]
