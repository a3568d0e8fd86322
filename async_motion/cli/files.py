"""Files that a command writes for a person: each appears whole or not at all."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from async_motion.errors import AsyncMotionError


def write_whole(target: Path, data: bytes) -> None:
    """Write a file, replacing an existing one. Raises AsyncMotionError, and then leaves nothing behind."""
    part = target.with_name(f".{target.name}.part")
    try:
        part.write_bytes(data)
        part.replace(target)
    except OSError as exc:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise AsyncMotionError(f"{target}: {exc.strerror or exc}") from exc
