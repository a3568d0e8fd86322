"""What nats-py swallows or does not translate is put right at our edge."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import pytest

from async_motion.errors import LeaseUnavailable
from async_motion.fleet.nats_bucket import NatsBucket


class DeafBucket:
    """A key-value bucket of nats-py whose calls end normally when they are cancelled."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()

    async def put(self, _key: str, _value: bytes) -> int:
        self.asked.set()
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        return 1


async def test_a_cancellation_that_nats_py_swallows_still_ends_the_task(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bucket: Any = NatsBucket(["nats://127.0.0.1:1"], "fleet", ttl_s=600.0, worker="w1")
    deaf = DeafBucket()
    monkeypatch.setattr(bucket, "_bucket", deaf)
    task = asyncio.create_task(bucket.put("key", b""))
    await deaf.asked.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


class ClosedClient:
    """A client of nats-py, and its bucket, whose connection uvloop has closed."""

    is_closed = False
    is_connected = True

    async def close(self) -> None:
        raise RuntimeError("unable to perform operation on <TCPTransport>; the handler is closed")

    async def put(self, _key: str, _value: bytes) -> int:
        raise RuntimeError("unable to perform operation on <TCPTransport>; the handler is closed")


async def test_a_connection_that_uvloop_has_closed_is_trouble_and_no_bug(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bucket: Any = NatsBucket(["nats://127.0.0.1:1"], "fleet", ttl_s=600.0, worker="w1")
    monkeypatch.setattr(bucket, "_client", ClosedClient())
    monkeypatch.setattr(bucket, "_bucket", ClosedClient())
    async with bucket:
        with pytest.raises(LeaseUnavailable, match="the handler is closed"):
            await bucket.put("key", b"")
