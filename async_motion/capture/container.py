"""A video file's creation time and duration, from its container."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import av

from async_motion.capture.address import attempt_of, parse
from async_motion.capture.ffmpeg.streams import LENIENT, translate
from async_motion.capture.spec import CaptureSpec

FIRST_YEAR = 1990
"""Earlier years are not true: recorders without a clock write 1904 or 1970."""


@dataclass(frozen=True, slots=True)
class ContainerFacts:
    """The file's creation time (UTC) and duration in seconds; None if the container does not have it."""

    created_at: datetime | None
    seconds: float | None


def read_facts(path: str) -> ContainerFacts:
    """Read the header of the container at `path`. Blocks. Raises CameraUnavailable, CameraRefused."""
    spec = CaptureSpec(camera="", source=path)
    address = parse(path)
    attempt = attempt_of(address, spec)
    try:
        with av.open(
            attempt.url,
            options=attempt.options,
            timeout=(spec.open_timeout_s, spec.stall_timeout_s),
            **LENIENT,
        ) as container:
            created = container.metadata.get("creation_time")
            seconds = None if container.duration is None else container.duration / av.time_base
    except av.FFmpegError as exc:
        raise translate(exc, address.shown) from None
    return ContainerFacts(_moment(created), seconds if seconds and seconds > 0 else None)


def _moment(text: str | None) -> datetime | None:
    try:
        at = datetime.fromisoformat(text or "")
        at = at.replace(tzinfo=at.tzinfo or UTC).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return at if at.year >= FIRST_YEAR else None
