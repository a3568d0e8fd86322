"""Accounts: the day logs of a range, added up."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, date, datetime, timedelta

from async_motion.core.day_log import (
    HourLog,
    Outage,
    SubjectLog,
    day_log_key,
    encode_day_line,
    pack_day_log,
)
from async_motion.retrieval import EventReader
from async_motion.retrieval.day_logs import accounts
from tests.support.bucket import INSTANCE, MemoryBucket

SUNDAY, MONDAY = date(2026, 11, 22), date(2026, 11, 23)
MIDNIGHT = datetime(2026, 11, 23, tzinfo=UTC)


def offline(begin: datetime, minutes: float, kind: str = "offline") -> Outage:
    return Outage(kind=kind, began=begin, ended=begin + timedelta(minutes=minutes), problem="no route")


def put(bucket: MemoryBucket, day: date, writer: str, **logs: SubjectLog) -> None:
    lines = [encode_day_line(None if name == "service" else name, log) for name, log in logs.items()]
    bucket.objects[day_log_key("", INSTANCE, day, writer)] = (pack_day_log(lines), {})


def whole(hours: range, **more: object) -> SubjectLog:
    return SubjectLog(
        hours={hour: HourLog(watched_s=3600.0, frames=10, lost=Counter(corrupt=1)) for hour in hours},
        **more,  # type: ignore[arg-type]  # fields of SubjectLog
    )


async def test_a_local_day_takes_its_hours_of_two_days() -> None:
    bucket = MemoryBucket()
    put(bucket, SUNDAY, "aaaaaa", service=whole(range(24)), porch=whole(range(24)))
    put(bucket, MONDAY, "aaaaaa", service=whole(range(24)), porch=whole(range(24)), yard=whole(range(2)))
    reader = EventReader(bucket, instance=INSTANCE)
    found = await accounts(
        reader, None, since=MIDNIGHT - timedelta(hours=5), until=MIDNIGHT + timedelta(hours=3)
    )
    assert found.service.total.watched_s == 8 * 3600
    assert found.cameras["porch"].total.lost == Counter(corrupt=8)
    assert found.cameras["yard"].total.frames == 20
    assert found.until == MIDNIGHT + timedelta(hours=3)
    alone = await accounts(reader, ["yard"], since=MIDNIGHT, until=MIDNIGHT + timedelta(days=1))
    assert list(alone.cameras) == ["yard"]


async def test_outages_are_cut_and_put_together() -> None:
    bucket = MemoryBucket()
    before = [offline(MIDNIGHT - timedelta(hours=9), 60), offline(MIDNIGHT - timedelta(minutes=4), 3.95)]
    put(bucket, SUNDAY, "aaaaaa", porch=whole(range(24), outages=before))
    after = [offline(MIDNIGHT, 10), offline(MIDNIGHT, 1, "image"), offline(MIDNIGHT + timedelta(hours=1), 60)]
    put(bucket, MONDAY, "bbbbbb", porch=whole(range(24), outages=after))
    since, until = MIDNIGHT - timedelta(hours=1), MIDNIGHT + timedelta(minutes=90)
    found = await accounts(EventReader(bucket, instance=INSTANCE), None, since=since, until=until)
    spans = [(o.kind, o.began - MIDNIGHT, o.ended - MIDNIGHT) for o in found.cameras["porch"].outages]
    assert spans == [
        ("offline", -timedelta(minutes=4), timedelta(minutes=10)),
        ("image", timedelta(), timedelta(minutes=1)),
        ("offline", timedelta(hours=1), timedelta(minutes=90)),
    ]
    assert found.cameras["porch"].outage_s("offline") == 44 * 60


async def test_what_cannot_be_read_is_skipped_and_counted() -> None:
    bucket = MemoryBucket()
    put(bucket, SUNDAY, "aaaaaa", service=whole(range(24)))
    good = bucket.objects[day_log_key("", INSTANCE, SUNDAY, "aaaaaa")][0]
    bucket.objects[day_log_key("", INSTANCE, SUNDAY, "bbbbbb")] = (good[:-9], {})
    bucket.objects[day_log_key("", INSTANCE, SUNDAY, "cccccc")] = (b"no gzip", {})
    bucket.objects[day_log_key("", INSTANCE, SUNDAY, "dddddd")] = (pack_day_log([b"{}"]), {})
    bucket.objects[f"{INSTANCE}/.days/1/2026/11/2\u00e9.x"] = (b"", {})
    reader = EventReader(bucket, instance=INSTANCE)
    found = await accounts(reader, None, since=MIDNIGHT - timedelta(days=1), until=MIDNIGHT)
    assert found.service.total.watched_s >= 24 * 3600
    assert reader.skipped.count == 3
    assert await reader.cameras() == [], "the folder is no camera"


async def test_without_logs_nothing_is_known() -> None:
    found = await accounts(
        EventReader(MemoryBucket(), instance=INSTANCE),
        None,
        since=MIDNIGHT,
        until=MIDNIGHT + timedelta(days=7),
    )
    assert (found.cameras, found.until, found.service.outages) == ({}, None, [])
