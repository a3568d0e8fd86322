"""A client's cursor: one line of JSON, in the program's hands or in a file.

    {"v": 1, "instance": …, "origin": …, "cameras": …, "open": {event_id: seq}}

`cameras` and `origin` are the ledger's (`ledger`). `open` has the last frame yielded of each event whose
frames are being yielded. Cursors of earlier releases have no `instance`.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from async_motion.client.ledger import Ledger

log = logging.getLogger(__name__)

SYNC_EVERY_S: Final = 1.0


def parse_cursor(text: str, instance: str) -> dict[str, Any]:
    """Return a cursor's fields. Raises ValueError if it is invalid, or a cursor of another instance."""
    try:
        fields = json.loads(text)
        if not isinstance(fields, dict):
            raise ValueError("expected an object")
        Ledger.of(fields)
        opened = fields.get("open", {})
        if not isinstance(opened, dict) or not all(type(seq) is int for seq in opened.values()):
            raise ValueError("open: expected numbers of frames")
    except (ValueError, RecursionError) as exc:
        raise ValueError(f"not a cursor: {str(exc)[:200]}") from exc
    if fields.get("instance", instance) != instance:
        raise ValueError(f"not a cursor of instance {instance}: it is of {str(fields['instance'])[:64]!r}")
    return fields


class CursorFile:
    """The file of one client's cursor. It is locked while it is open: two clients would overwrite it.

    A write is atomic. It is synced at most once in `SYNC_EVERY_S`: only power loss loses a write without it,
    not SIGKILL. On XFS the file is then empty, so the last synced cursor keeps a hidden name.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Touch no file."""
        self._path = Path(path)
        self._synced = self._path.with_name(f".{self._path.name}.synced")
        self._lock: int | None = None
        self._synced_at = float("-inf")

    def read(self) -> str | None:
        """Return the cursor, or None if there is none yet. Raises OSError, ValueError."""
        try:
            text = self._path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        if not text.strip("\0"):
            with suppress(FileNotFoundError):
                synced = self._synced.read_text(encoding="utf-8")
                log.warning("client: %s is empty; resuming at the cursor synced before it", self._path)
                return synced
        return text

    def open(self) -> None:
        """Lock the file. Raises ValueError if another client has it open, OSError."""
        place = self._path.with_name(f".{self._path.name}.lock")
        # For other users too, as far as the umask permits: the file stays after this process.
        lock = os.open(place, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise ValueError(f"{self._path}: another client uses this cursor_file") from None
        except OSError:
            pass  # this file system has no locks
        self._lock = lock

    def close(self) -> None:
        """Release the lock."""
        lock, self._lock = self._lock, None
        if lock is not None:
            with suppress(OSError):
                os.close(lock)

    def write(self, cursor: str, *, monotonic: float) -> None:
        """Replace the cursor. `monotonic` is in seconds. Raises OSError."""
        part = self._path.with_name(f".{self._path.name}.part")
        is_due = monotonic - self._synced_at >= SYNC_EVERY_S
        with part.open("w", encoding="utf-8") as file:
            file.write(cursor)
            if is_due:
                self._synced_at = monotonic
                file.flush()
                os.fsync(file.fileno())
        part.replace(self._path)
        if is_due:
            with suppress(OSError):  # this file system has no links
                link = self._synced.with_name(f"{self._synced.name}.part")
                link.unlink(missing_ok=True)
                link.hardlink_to(self._path)
                link.replace(self._synced)
