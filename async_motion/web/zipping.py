"""Stream an event as a ZIP file, with one frame in memory at a time."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import Final

from async_motion.core.model import FrameInfo
from async_motion.errors import StoreUnavailable, UnreadableObject
from async_motion.retrieval import Event

MAX_FAILURES: Final = 3
FIRST_DATE: Final = (1980, 1, 1, 0, 0, 0)
"""The first date that a ZIP file can hold: a clock that was not set is earlier."""
LAST_DATE: Final = (2107, 12, 31, 23, 59, 58)
"""The last date that a ZIP file can hold."""


class _Pipe(io.RawIOBase):
    """Buffers what the ZIP file writes until `taken`. It cannot seek, so zipfile never goes back."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        part = bytes(data)  # type: ignore[call-overload]  # a buffer
        self._parts.append(part)
        return len(part)

    def taken(self) -> bytes:
        """Return the bytes written since the last call."""
        data, self._parts = b"".join(self._parts), []
        return data


async def zipped(
    name: str, event: Event, frames: Sequence[FrameInfo], fetch: Callable[[FrameInfo], Awaitable[bytes]]
) -> AsyncGenerator[bytes, None]:
    """Yield the parts of a ZIP file: the frames, `event.json` and `SHA256SUMS`, in a folder `name`.

    A frame that cannot be read is omitted and listed in `MISSING`. If the store fails `MAX_FAILURES` times in
    a row, it is not asked for the rest: each answer may take as long as its timeout.
    """
    pipe = _Pipe()
    missing: list[str] = []
    sums: list[str] = []
    failures = 0
    failure = ""
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_STORED) as archive:
        for frame in frames:
            member = f"{frame.seq:06d}.jpg"
            if failures >= MAX_FAILURES:
                missing.append(f"{member}: {failure}")
                continue
            try:
                data = await fetch(frame)
            except (UnreadableObject, StoreUnavailable) as exc:
                failure = str(exc)
                failures = failures + 1 if isinstance(exc, StoreUnavailable) else 0
                missing.append(f"{member}: {failure}")
                continue
            failures = 0
            sums.append(f"{frame.sha256}  {member}")
            stamp = min(LAST_DATE, max(FIRST_DATE, frame.captured_at.timetuple()[:6]))
            archive.writestr(zipfile.ZipInfo(f"{name}/{member}", stamp), data)
            yield pipe.taken()
        payload = json.dumps(event.payload(), ensure_ascii=False, indent=1)
        archive.writestr(f"{name}/event.json", payload)
        archive.writestr(f"{name}/SHA256SUMS", "".join(f"{line}\n" for line in sums))
        if missing:
            archive.writestr(f"{name}/MISSING", "".join(f"{line}\n" for line in missing))
    yield pipe.taken()
