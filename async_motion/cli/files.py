"""Files that a command writes for a person: each appears whole or not at all."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from async_motion.errors import AsyncMotionError


def write_whole(target: Path, data: bytes) -> None:
    """Write a file, replacing an existing one. Raises AsyncMotionError, and then leaves nothing behind.

    What is no regular file, such as `/dev/stdout` or a pipe, is written to as it is; a link stays a link.
    """
    file = Path(os.path.realpath(target))
    part = file.parent / f".{file.name}.part"
    try:
        if file.exists() and not file.is_file():
            file.write_bytes(data)
            return
        part.write_bytes(data)
        part.replace(file)
    except OSError as exc:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise AsyncMotionError(f"{target}: {exc.strerror or exc}") from exc
