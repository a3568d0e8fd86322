"""The same cases for the leases' bucket in memory and for real NATS JetStream servers, one and three."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import nats
import pytest

from async_motion.errors import LeaseLost, LeaseUnavailable
from async_motion.fleet.leases import KeyTaken, Lease, LeaseKeeper
from async_motion.fleet.model import WatchedBucket
from async_motion.fleet.nats_bucket import NatsBucket
from tests.support.buckets import MemoryBucket
from tests.support.nats import LEADER_S, nats_cluster, nats_server
from tests.support.wait import eventually_async

TTL_S = 4.0


@pytest.fixture(params=["memory", "one server", "three servers"])
async def bucket(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[WatchedBucket]:
    async with AsyncExitStack() as stack:
        if request.param == "memory":
            yield MemoryBucket(TTL_S)
            return
        if request.param == "one server":
            servers = [stack.enter_context(nats_server(tmp_path))]
        else:
            servers = stack.enter_context(nats_cluster(tmp_path))
        found = NatsBucket([server.url for server in servers], "fleet", ttl_s=TTL_S, worker="w1")
        await stack.enter_async_context(found)
        await eventually_async(lambda: answers(found), within_s=LEADER_S, what="the servers' leader")
        yield found


async def answers(bucket: WatchedBucket) -> bool:
    try:
        await bucket.put("hello", b"x")
    except LeaseUnavailable:
        return False
    return True


async def test_keys_are_created_and_updated_by_compare_and_set(bucket: WatchedBucket) -> None:
    first = await bucket.create("a", b"1")
    with pytest.raises(KeyTaken):
        await bucket.create("a", b"2")
    second = await bucket.update("a", b"3", first)
    assert second > first
    with pytest.raises(KeyTaken):
        await bucket.update("a", b"4", first)
    with pytest.raises(KeyTaken):
        await bucket.delete("a", first)
    entry = await bucket.get("a")
    assert entry is not None
    assert (entry.value, entry.revision) == (b"3", second)
    await bucket.delete("a", second)
    assert await bucket.get("a") is None
    assert await bucket.create("a", b"5") > second


async def test_a_key_expires_and_revisions_grow_on(bucket: WatchedBucket) -> None:
    keeper = LeaseKeeper(bucket, "w1", ttl_s=TTL_S)
    lease = await keeper.acquire("porch")
    assert lease is not None
    other = LeaseKeeper(bucket, "w2", ttl_s=TTL_S)
    assert await other.acquire("porch") is None

    async def taken() -> int:
        found = await other.acquire("porch")
        return found.epoch if found is not None else 0

    assert await eventually_async(taken, what="the lease's end") > lease.epoch
    with pytest.raises(LeaseLost):
        await keeper.renew(lease)


async def test_a_watch_gives_what_there_is_then_changes(bucket: WatchedBucket) -> None:
    await bucket.create("camera.a", b"1")
    seen: dict[str, bytes] = {}
    complete = False
    async for entry in bucket.watch():
        if entry is None:
            complete = True
            await bucket.create("camera.b", b"2")
        else:
            seen[entry.key] = entry.value
        if complete and len(seen.keys() & {"camera.a", "camera.b"}) == 2:
            break
    assert (seen["camera.a"], seen["camera.b"]) == (b"1", b"2")


async def test_a_bucket_that_was_lost_begins_above_every_epoch_of_the_last(tmp_path: Path) -> None:
    with nats_server(tmp_path) as server:

        async def lose() -> None:
            client = await nats.connect(server.url)
            assert await client.jetstream().delete_key_value("fleet")
            await client.close()

        async with NatsBucket([server.url], "fleet", ttl_s=TTL_S, worker="w1") as first:
            await eventually_async(lambda: answers(first), within_s=LEADER_S)
            keeper = LeaseKeeper(first, "w1", ttl_s=TTL_S)
            lease = await keeper.acquire("porch")
            assert lease is not None
            await lose()

            async def renewed() -> Lease | None:
                try:
                    return await keeper.renew(lease)
                except LeaseUnavailable:
                    return None

            again = await eventually_async(renewed, what="a renewal in the new bucket")
            assert again is not None
            assert again.epoch > lease.revision
        await lose()
        # A worker that never saw the old bucket, and whose clock is not set, must not create one.
        async with NatsBucket([server.url], "fleet", ttl_s=TTL_S, worker="w2", wall=lambda: 0.0) as unset:
            with pytest.raises(LeaseUnavailable, match="clock is not set"):
                await unset.get("x")
        async with NatsBucket([server.url], "fleet", ttl_s=TTL_S, worker="w3") as third:
            last = await LeaseKeeper(third, "w3", ttl_s=TTL_S).acquire("porch")
            assert last is not None
            assert last.epoch > again.revision
