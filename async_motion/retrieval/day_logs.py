"""The day logs of a range of time, added up for each camera and for the service.

Files that cannot be read are skipped and counted, as events are. A range of local time covers parts of two
days (UTC): counts are taken by the hour in which they begin, outages to the second.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta

from async_motion.core.day_log import (
    HourLog,
    Outage,
    SubjectLog,
    day_log_key,
    day_log_root,
    parse_day_line,
)
from async_motion.core.index import MAX_PACKED_BYTES, parse_day_file, unpack
from async_motion.errors import UnreadableObject
from async_motion.retrieval.days import last_day
from async_motion.retrieval.reader import EventReader
from async_motion.retrieval.requests import together

MAX_FILES = 1024
"""More day logs in a range are not read, and are counted as skipped."""
SAME_OUTAGE = timedelta(seconds=15)
"""Outages of one kind that are closer than this are one: it went on over midnight or a restart."""


@dataclass(slots=True, kw_only=True)
class Account:
    """What a camera, or the service, did in a range of time. `outages` are in the order of their start."""

    total: HourLog = field(default_factory=HourLog)
    outages: list[Outage] = field(default_factory=list)
    unlisted: Counter[str] = field(default_factory=Counter)
    unlisted_s: float = 0.0

    def outage_s(self, kind: str) -> float:
        """Return the seconds of the listed outages of one kind."""
        return sum((each.ended - each.began).total_seconds() for each in self.outages if each.kind == kind)


@dataclass(frozen=True, slots=True, kw_only=True)
class Accounts:
    """The accounts of the service, of all its workers together, and of each camera."""

    service: Account
    cameras: dict[str, Account]
    until: datetime | None
    """The end of the last logged hour; None without any log."""


async def accounts(
    reader: EventReader, cameras: Collection[str] | None, *, since: datetime, until: datetime
) -> Accounts:
    """Add up the day logs from `since` to `until`. Raises StoreUnavailable, StoreRefused."""
    service, of = Account(), defaultdict[str, Account](Account)
    latest: datetime | None = None
    files = await _files(reader, since.astimezone(UTC).date(), last_day(until))
    for day, subjects in await together("read day logs", (_read(reader, *each) for each in files)):
        for camera, log in subjects:
            if camera is not None and cameras is not None and camera not in cameras:
                continue
            account = service if camera is None else of[camera]
            hours = [hour for hour in log.hours if since <= _begin(day, hour) < until]
            for hour in hours:
                account.total.add(log.hours[hour])
                latest = max(filter(None, (latest, _begin(day, hour) + timedelta(hours=1))))
            account.outages += _within(log.outages, since, until)
            if hours:
                account.unlisted.update(log.unlisted)
                account.unlisted_s += log.unlisted_s
    for account in (service, *of.values()):
        account.outages = _merged(account.outages)
    return Accounts(service=service, cameras=dict(sorted(of.items())), until=latest)


async def _files(reader: EventReader, first: date, last: date) -> list[tuple[date, str]]:
    """Return the (day, writer) of each log from `first` to `last`."""
    root = day_log_root(reader.prefix, reader.instance)
    found: list[tuple[date, str]] = []
    async for page in reader.requests.pages(root, start_after=f"{root}{first:%Y/%m/%d}"):
        for listed in page.objects:
            file = parse_day_file(listed.key, root)
            if file is None:
                continue
            if file.day > last:
                return found
            if len(found) == MAX_FILES:
                reader.skipped.add(root, f"more than {MAX_FILES} day logs")
                return found
            found.append((file.day, file.writer))
    return found


async def _read(
    reader: EventReader, day: date, writer: str
) -> tuple[date, list[tuple[str | None, SubjectLog]]]:
    key = day_log_key(reader.prefix, reader.instance, day, writer)
    subjects: list[tuple[str | None, SubjectLog]] = []
    try:
        data = await reader.requests.read(key, MAX_PACKED_BYTES)
        for number, text in enumerate(unpack(data) if data is not None else (), 1):
            try:
                subjects.append(parse_day_line(text))
            except UnreadableObject as exc:
                reader.skipped.add(key, f"line {number}: {exc}")
    except UnreadableObject as exc:
        reader.skipped.add(key, str(exc))
    return day, subjects


def _begin(day: date, hour: int) -> datetime:
    return datetime(day.year, day.month, day.day, hour, tzinfo=UTC)


def _within(outages: Iterable[Outage], since: datetime, until: datetime) -> list[Outage]:
    """Return the parts of outages that lie in the range."""
    cut = [replace(o, began=max(o.began, since), ended=min(o.ended, until)) for o in outages]
    return [outage for outage in cut if outage.began < outage.ended]


def _merged(outages: Iterable[Outage]) -> list[Outage]:
    """Return the outages in order, with the parts of each put together."""
    merged: list[Outage] = []
    last: dict[str, int] = {}
    for outage in sorted(outages, key=lambda each: (each.began, each.ended)):
        at = last.get(outage.kind)
        if at is not None and outage.began - merged[at].ended <= SAME_OUTAGE:
            merged[at] = replace(merged[at], ended=max(merged[at].ended, outage.ended))
        else:
            last[outage.kind] = len(merged)
            merged.append(outage)
    return merged
