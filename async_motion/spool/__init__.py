"""The spool: the durable outbox on the disk, between detection and delivery.

    spool         coroutines for the event loop
    worker        the thread with the connection: transactions, damage, bugs
    housekeeping  between calls: space, expiry, reports of drops
    tables        items, events, memory, and every change to them
    eviction      which items are dropped at the bounds
    leases        which items delivery may process next
    event_index   the lines of the event index, and which of its files are due
    schema        the tables as SQL, migration, repair
    codec, files, inspect, backup, stats

Goals
  - A record is *accepted* when `accept` returns: its commit has reached the disk. From then on, SIGKILL and
    power loss do not lose it.
  - Acceptance is cheap: calls that come within a few milliseconds share one commit, one fsync.
  - Bounded in bytes and in age, at any speed of delivery. Drops at the bounds follow a policy, are counted
    and logged.
  - A spool that cannot be used (written by a newer version, or damaged) is renamed and a new one created:
    the cameras go on. One of an older version is migrated in place.
  - A read that fails once is repeated, on a new connection if it met damage: open events, leases and counts
    go on. A row that cannot be decoded costs what it describes, not the file. A failing disk is not treated
    as damage. A disk that hangs blocks neither the event loop nor the exit.
Non-goals: more than one process (a lock keeps others out; `async-motion spool` only reads, or requests a
retry in one transaction); order by capture time; a queue for anything but motion frames and event phases.

The path of a record, with every point at which the machine may crash
  1. `accept(records and phases)`: one transaction with `synchronous=FULL`. SQLite appends the pages to the
     WAL and fsyncs it; on its creation also the folder. Crash before the fsync returns: `accept` has not
     returned either, so nothing was promised; SQLite discards torn pages by the WAL's checksums.
  2. Delivery leases it (in memory only) and puts it into the store. Crash: the next run puts it again, with
     the same key and bytes.
  3. `mark_stored`: the row changes its state, its JPEG is deleted (one for a snapshot is kept until 4). This
     and everything below is written without an fsync of its own: it survives SIGKILL at once, and power loss
     after the next acceptance or checkpoint. If it is lost, the frame is put and announced again; subscribers
     recognise it by its `frame_id`. Order holds: the WAL is one log, so no change survives without those
     before it.
  4. Announced; `remove`: the row is deleted. Crash before that: announced again.
  5. Once its records and START are gone, `event.json` is due, then END; then the event and its lines leave
     the tables. When `event.json` is noted as stored, the event gets its line in the index, and its day's
     file is due: both in the tables, so that a crash loses neither. Records set aside keep their event;
     stored later, they revise both.
  6. `open` after a crash: SQLite replays the WAL; events that were open get an END with reason `interrupted`,
     as of their last accepted frame, in one durable transaction before anything is leased.
  After a failed fsync, a later successful one proves nothing: the kernel has marked pages clean that are on
  no disk. So after any I/O error the WAL is checkpointed (written to the database and fsynced there) before
  the next acceptance is promised.

Who changes what about an item
    items.state: from HELD on         Tables._settle                the items that it waits for are gone
    items.state: to TO_ANNOUNCE       Tables.mark_stored            the uploader: the store has confirmed it
    items.state: ASIDE, and back      Tables.set_aside, .restore    the uploader; delivery.Retries
    deletion                          Tables.remove, .expire        the publisher; bounds in age and bytes
    events.ended: ENDED               Tables._accept_phase          its end is accepted
    events.ended: TOLD                Tables._forget                its end is announced, or dropped
    events.revise                     Tables.mark_stored            its summary may lack this frame
    leases (in memory)                Leases                        a take; ended by a report or `release`
    failures of an item (in memory)   delivery.Retries              its peer has failed
    rejections in a row (in memory)   delivery.Rejections           the store has rejected it

Numbers: a spool has an id, its `writer`, drawn when it is created. In the transaction that accepts an event's
start, the event gets the next number (`no`) of its camera: from 1, without a gap.

Space: `auto_vacuum=INCREMENTAL`; freed pages are reused, and those beyond a few MiB are returned to the file
system in small steps while the spool is idle. Acceptance stops (SpoolError) before the disk is completely
full: deletions need room in the WAL, and with it a full disk drains by itself.

Threads: the connection lives in one daemon thread of its own. The loop hands it functions and gets futures
back.
"""

from async_motion.spool.backup import restore, snapshot
from async_motion.spool.files import DAMAGED, NEWER
from async_motion.spool.inspect import Aside, SpoolReport, WaitingItems, export, look, read_jpeg, retry
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
    "read_jpeg",
    "restore",
    "retry",
    "snapshot",
]
