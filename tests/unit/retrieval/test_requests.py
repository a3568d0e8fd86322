"""Requests to the bucket: retried where the failure may be transient, and counted."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from async_motion.core.listing import Page
from async_motion.errors import StoreUnavailable
from async_motion.retrieval import requests
from async_motion.retrieval.requests import MAX_STUCK_PAGES, PAUSES_S, Requests
from tests.support.bucket import MemoryBucket


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "PAUSES_S", (0.0,) * len(PAUSES_S))


async def test_a_transient_failure_is_not_seen() -> None:
    bucket = MemoryBucket()
    bucket.objects["a"] = (b"x", {})
    bucket.failures = len(PAUSES_S)
    sent = Requests(bucket, max_requests=1)
    assert await sent.read("a", 10) == b"x"
    assert sent.sent["read"] == 1 + len(PAUSES_S), "tries are counted"


async def test_a_lasting_failure_is_raised() -> None:
    bucket = MemoryBucket()
    bucket.failures = 1 + len(PAUSES_S)
    with pytest.raises(StoreUnavailable):
        await Requests(bucket, max_requests=1).read("a", 10)


async def test_a_listing_goes_on_to_its_end() -> None:
    bucket = MemoryBucket()
    bucket.objects |= {f"a/{number:04d}": (b"", {}) for number in range(2500)}
    sent = Requests(bucket, max_requests=1)
    keys = [listed.key async for page in sent.pages("a/") for listed in page.objects]
    assert keys == sorted(bucket.objects)
    assert sent.sent["list"] == 3


async def test_a_listing_that_never_ends_is_refused() -> None:
    class Endless(MemoryBucket):
        async def page(self, *args: Any, **kwargs: Any) -> Page:
            page = await super().page(*args, **{**kwargs, "token": None})
            return replace(page, next=f"token {len(self.requests)}")

    async def pages() -> None:
        async for _ in Requests(bucket, max_requests=1).pages("a/"):
            pass

    bucket = Endless()
    bucket.objects["a/1"] = (b"", {})
    with pytest.raises(StoreUnavailable, match="a/: the store's listing does not end"):
        await pages()
    assert len(bucket.asked("list")) == MAX_STUCK_PAGES + 2
