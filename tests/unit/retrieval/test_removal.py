"""Deletion of events: their objects go, a line stays, and a repeat completes an interrupted deletion."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from async_motion.core.listing import Page
from async_motion.errors import StoreRefused
from async_motion.retrieval import Event, EventReader
from async_motion.retrieval.removal import delete
from tests.support.bucket import INSTANCE, MemoryBucket, make_event
from tests.support.clock import BEGIN

FIRST = make_event(at=BEGIN, frames=3, no=1)
SECOND = make_event(at=BEGIN + timedelta(minutes=1), frames=2, no=2)
NOW = BEGIN + timedelta(hours=1)


@pytest.fixture
def bucket() -> MemoryBucket:
    made = MemoryBucket()
    made.add(FIRST, SECOND)
    made.index([FIRST, SECOND])
    return made


def reader_of(bucket: MemoryBucket) -> EventReader:
    return EventReader(bucket, instance=INSTANCE, now=lambda: NOW)


async def listed(bucket: MemoryBucket) -> list[Event]:
    return [event async for event in reader_of(bucket).events()]


async def test_a_deleted_event_is_gone_although_the_index_still_has_it(bucket: MemoryBucket) -> None:
    first, second = await listed(bucket)
    assert await delete(reader_of(bucket), [first]) == len(FIRST.objects)
    assert await listed(bucket) == [second]
    assert not bucket.objects.keys() & FIRST.objects.keys()
    assert SECOND.objects.keys() <= bucket.objects.keys()


async def test_a_repeat_is_harmless(bucket: MemoryBucket) -> None:
    first, second = await listed(bucket)
    await delete(reader_of(bucket), [first])
    assert await delete(reader_of(bucket), [first]) == 0
    await delete(reader_of(bucket), [second])
    assert await listed(bucket) == [], "the line of the first outlives the second's"


async def test_empty_pages_do_not_end_a_deletion(
    bucket: MemoryBucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = await listed(bucket)
    whole = bucket.page

    async def page(prefix: str, *, token: str | None = None, **options: Any) -> Page:
        if token is None:
            return Page(objects=(), folders=(), next="further on")
        return await whole(prefix, **options)

    monkeypatch.setattr(bucket, "page", page)
    assert await delete(reader_of(bucket), [first]) == len(FIRST.objects)
    monkeypatch.setattr(bucket, "page", whole)
    assert await listed(bucket) == [second]


async def test_a_store_that_keeps_what_it_should_delete_is_named(
    bucket: MemoryBucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def keep(_keys: object) -> None:
        pass

    first, _ = await listed(bucket)
    monkeypatch.setattr(bucket, "remove", keep)
    with pytest.raises(StoreRefused, match="is it locked"):
        await delete(reader_of(bucket), [first])
