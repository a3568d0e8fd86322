"""Parse times as people write them: local time in, aware UTC out.

    2h, 30min, 7d                       this long ago
    today, yesterday, monday            midnight of that day, local time; a weekday is the last one
    2026-11-22                          midnight, local time
    2026-11-22T07:30, 2026-11-22 07:30  local time; with Z or +01:00 that zone's
    07:30, yesterday 07:30              local time

A day is a local day: 23 or 25 hours when daylight saving time begins or ends. A local time that occurs
twice means its first occurrence as the start of a range, its second as the end.
"""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import UTC, date, datetime, time, timedelta

from async_motion.errors import UsageError
from async_motion.settings.quantities import duration_of

EXPECTED = "expected a time such as 2h, yesterday, 2026-11-22, 07:30 or 2026-11-22T07:30+01:00"

_DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_CLOCK = re.compile(r"\d{1,2}:\d{2}(:\d{2}(\.\d{1,6})?)?")


def moment(text: str, now: datetime, option: str, *, end: bool = False) -> datetime:
    """Return the moment (UTC) that `text` means; `now` is aware. `end`: it ends a range.

    As an end, a day means the next midnight: `--to yesterday` includes yesterday. Raises UsageError.
    """
    given = text.strip()
    ago = duration_of(given)
    try:
        if ago is not None:
            return now.astimezone(UTC) - timedelta(seconds=ago)
        day = _day(given.lower(), now)
        if day is not None:
            return _local(day + timedelta(days=1) if end else day, time())
        name, _, clock = given.rpartition(" ")
        if _CLOCK.fullmatch(clock) and (not name or _day(name.lower(), now) is not None):
            day = _day(name.lower(), now) if name else now.astimezone().date()
            assert day is not None
            return _local(day, time.fromisoformat(clock.zfill(5) if len(clock) < 5 else clock), end=end)
        at = datetime.fromisoformat(given)
        if at.tzinfo is None:
            return _local(at.date(), at.time(), end=end)
        return at.astimezone(UTC)
    except (ValueError, OverflowError) as exc:
        raise UsageError(f"{option}: {text}: {EXPECTED}") from exc


def whole_day(text: str, now: datetime, option: str, *, days: int = 1) -> tuple[datetime, datetime]:
    """Return the beginning and the end (UTC) of the `days` local days that end with the one of `text`.

    Raises UsageError.
    """
    day = _day(text.strip().lower(), now)
    with suppress(ValueError, OverflowError):  # at the ends of the calendar
        if day is not None:
            first, after = day - timedelta(days=days - 1), day + timedelta(days=1)
            return _local(first, time()), _local(after, time())
    raise UsageError(f"{option}: {text}: expected a day such as today, yesterday, monday or 2026-11-22")


def hours_of(since: datetime, until: datetime) -> list[datetime]:
    """Return hourly marks from `since`, and `until` as the last, in local time: 24, 23 or 25 hours a day."""
    marks = [since]
    while marks[-1] < until:
        marks.append(min(until, marks[-1] + timedelta(hours=1)))
    return [mark.astimezone() for mark in marks]


def local(at: datetime) -> str:
    """Return a moment in local time, to the second, with its offset: unambiguous when clocks change."""
    return f"{at.astimezone():%Y-%m-%d %H:%M:%S%z}"


def _day(name: str, now: datetime) -> date | None:
    today = now.astimezone().date()
    if name == "today":
        return today
    if name == "yesterday":
        return today - timedelta(days=1)
    if name in _DAYS:
        return today - timedelta(days=(today.weekday() - _DAYS.index(name) - 1) % 7 + 1)
    try:
        return date.fromisoformat(name) if re.fullmatch(r"\d{4}-\d{2}-\d{2}", name) else None
    except ValueError:
        return None


def _local(day: date, clock: time, *, end: bool = False) -> datetime:
    """Return the moment (UTC) at which the local clock shows `day` and `clock`; with `end` the second one."""
    return datetime.combine(day, clock.replace(fold=int(end))).astimezone(UTC)
