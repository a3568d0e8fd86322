"""Leases on an in-memory bucket: compare-and-set, deadlines, writes without an answer."""

from __future__ import annotations

from contextlib import suppress

import pytest

from async_motion.errors import LeaseLost, LeaseUnavailable
from async_motion.fleet.leases import (
    CAMERA,
    MAX_VALUE_BYTES,
    Entry,
    Fence,
    KeyTaken,
    Lease,
    LeaseKeeper,
    parse_object,
    parse_owner,
)
from tests.support.buckets import MemoryBucket
from tests.support.clock import Clock

TTL_S = 10.0


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def bucket(clock: Clock) -> MemoryBucket:
    return MemoryBucket(TTL_S, clock)


def keeper(bucket: MemoryBucket, clock: Clock, worker: str = "w1") -> LeaseKeeper:
    return LeaseKeeper(bucket, worker, ttl_s=TTL_S, clock=clock)


async def acquired(bucket: MemoryBucket, clock: Clock, worker: str = "w1") -> Lease:
    lease = await keeper(bucket, clock, worker).acquire("porch")
    assert lease is not None
    return lease


async def test_a_lease_has_one_owner_and_the_next_epoch_is_higher(bucket: MemoryBucket, clock: Clock) -> None:
    first = await acquired(bucket, clock)
    assert await keeper(bucket, clock, "w2").acquire("porch") is None
    clock.seconds += TTL_S
    second = await acquired(bucket, clock, "w2")
    assert second.epoch > first.epoch
    with pytest.raises(LeaseLost, match="w2 holds it"):
        await keeper(bucket, clock).renew(first)


async def test_renewals_move_the_deadline_and_keep_the_epoch(bucket: MemoryBucket, clock: Clock) -> None:
    lease = await acquired(bucket, clock)
    assert lease.deadline == clock.seconds + TTL_S
    for _ in range(5):
        clock.seconds += TTL_S / 3
        renewed = await keeper(bucket, clock).renew(lease)
        assert (renewed.epoch, renewed.deadline) == (lease.epoch, clock.seconds + TTL_S)
        lease = renewed


async def test_an_expired_lease_that_no_other_worker_took_goes_on_with_a_new_epoch(
    bucket: MemoryBucket, clock: Clock
) -> None:
    lease = await acquired(bucket, clock)
    clock.seconds += TTL_S
    again = await keeper(bucket, clock).renew(lease, {"event_id": "cut"})
    assert again.epoch > lease.epoch
    assert again.deadline == clock.seconds + TTL_S
    entry = await bucket.get(CAMERA + "porch")
    assert entry is not None
    owner = parse_owner(entry)
    assert owner is not None
    assert (owner.tenure, owner.epoch, owner.note) == (lease.tenure, again.epoch, None)
    assert (await keeper(bucket, clock).renew(again)).epoch == again.epoch


async def test_a_creation_without_an_answer_is_found_again_after_an_expiry(
    bucket: MemoryBucket, clock: Clock
) -> None:
    lease = await acquired(bucket, clock)
    clock.seconds += TTL_S
    bucket.mute = True
    with pytest.raises(LeaseUnavailable):
        await keeper(bucket, clock).renew(lease)
    bucket.mute = False
    again = await keeper(bucket, clock).renew(lease)
    assert again.epoch > lease.epoch


@pytest.mark.parametrize("expired", [False, True])
async def test_a_refusal_without_another_owner_is_not_a_loss(
    bucket: MemoryBucket, clock: Clock, expired: bool
) -> None:
    lease = await acquired(bucket, clock)
    if expired:
        clock.seconds += TTL_S
    bucket.refusing = True  # as a leader does that waits for a quorum
    with pytest.raises(LeaseUnavailable, match="porch without another owner"):
        await keeper(bucket, clock).renew(lease)
    bucket.refusing = False
    assert (await keeper(bucket, clock).renew(lease)).tenure == lease.tenure


async def test_a_renewal_without_an_answer_is_found_again(bucket: MemoryBucket, clock: Clock) -> None:
    lease = await acquired(bucket, clock)
    bucket.mute = True
    with pytest.raises(LeaseUnavailable):
        await keeper(bucket, clock).renew(lease)
    bucket.mute = False
    clock.seconds += 1
    renewed = await keeper(bucket, clock).renew(lease)
    assert renewed.epoch == lease.epoch
    assert renewed.deadline == clock.seconds + TTL_S


async def test_an_acquisition_without_an_answer_is_ours_if_it_was_written(
    bucket: MemoryBucket, clock: Clock
) -> None:
    bucket.mute = True
    lease = await acquired(bucket, clock)
    bucket.mute = False
    assert lease.epoch == lease.revision
    assert (await keeper(bucket, clock).renew(lease)).epoch == lease.epoch


async def test_an_acquisition_whose_answer_cannot_be_read_is_resumed(
    bucket: MemoryBucket, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise its key blocks the camera for a whole TTL, and no worker watches it."""

    async def no_answer(_key: str) -> Entry | None:
        raise LeaseUnavailable("an election")

    ours = keeper(bucket, clock)
    bucket.mute = True
    with monkeypatch.context() as patch:
        patch.setattr(bucket, "get", no_answer)
        with pytest.raises(LeaseUnavailable):
            await ours.acquire("porch")
    bucket.mute = False
    written = bucket.live(CAMERA + "porch")
    assert written is not None
    owner = parse_owner(written)
    assert owner is not None
    assert ours.is_ours("porch", owner)
    assert not keeper(bucket, clock).is_ours("porch", owner), "another worker, or an earlier run"
    clock.seconds += TTL_S / 2
    lease = await ours.resume("porch")
    assert lease is not None
    assert (lease.epoch, lease.deadline) == (written.revision, clock.seconds + TTL_S)


class LateBucket(MemoryBucket):
    """A bucket whose first `late` creations are without an answer, and done by `catch_up`."""

    late = 1

    def __init__(self, ttl_s: float, clock: Clock) -> None:
        super().__init__(ttl_s, clock)
        self.pending: list[tuple[str, bytes]] = []

    async def create(self, key: str, value: bytes) -> int:
        if len(self.pending) < self.late:
            self.pending.append((key, value))
            raise LeaseUnavailable("an election")
        return await super().create(key, value)

    async def catch_up(self) -> None:
        for key, value in self.pending:
            with suppress(KeyTaken):
                await super().create(key, value)


async def test_a_write_that_is_done_after_a_second_acquisition_was_tried_is_ours(clock: Clock) -> None:
    """Otherwise its key blocks the camera for a whole TTL, and no worker watches it."""
    bucket = LateBucket(TTL_S, clock)
    ours = keeper(bucket, clock)
    assert await ours.acquire("porch") is None, "no answer, and not there yet"
    await bucket.catch_up()
    assert await ours.acquire("porch") is None, "the first write was done"
    written = bucket.live(CAMERA + "porch")
    assert written is not None
    owner = parse_owner(written)
    assert owner is not None
    assert ours.is_ours("porch", owner)
    clock.seconds += TTL_S / 2
    lease = await ours.resume("porch")
    assert lease is not None
    assert (lease.tenure, lease.epoch) == (owner.tenure, written.revision)
    assert lease.deadline == clock.seconds + TTL_S


async def test_an_earlier_write_does_not_get_the_deadline_of_a_later_one(clock: Clock) -> None:
    """The bucket counts its time to live from the earlier one."""

    class Answerless(LateBucket):
        late = 2

        async def get(self, key: str) -> Entry | None:
            if len(self.pending) == self.late:
                await self.catch_up()
            return await super().get(key)

    bucket = Answerless(TTL_S, clock)
    ours = keeper(bucket, clock)
    assert await ours.acquire("porch") is None
    clock.seconds += TTL_S / 2
    assert await ours.acquire("porch") is None, "the first write is there, not the second"
    lease = await ours.resume("porch")
    assert lease is not None


@pytest.mark.parametrize("owner", [None, "w2"])
async def test_a_lease_that_is_gone_is_not_resumed(
    bucket: MemoryBucket, clock: Clock, owner: str | None
) -> None:
    ours = keeper(bucket, clock)
    assert await ours.acquire("porch") is not None
    clock.seconds += TTL_S
    if owner is not None:
        await acquired(bucket, clock, owner)
    assert await ours.resume("porch") is None


async def test_a_released_camera_is_free_at_once(bucket: MemoryBucket, clock: Clock) -> None:
    lease = await acquired(bucket, clock)
    await keeper(bucket, clock).release(lease)
    other = await acquired(bucket, clock, "w2")
    # The first owner's late release must not touch the second one's lease.
    await keeper(bucket, clock).release(lease)
    assert (await keeper(bucket, clock, "w2").renew(other)).epoch == other.epoch


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"[" * 5000,
        b"NaN",
        b'"\\ud800"',
        b'{"worker": 7, "tenure": "x", "epoch": 1}',
        b'{"worker": "w", "tenure": "x", "epoch": true}',
        b'{"worker": "w", "tenure": "x", "epoch": 99}',
        b'{"worker": "w", "tenure": "x", "epoch": -1}',
        b'{"worker": "w"}',
        b"\xff\xfe",
    ],
)
def test_a_value_that_is_not_ours_has_no_owner(value: bytes) -> None:
    assert parse_owner(Entry(key=CAMERA + "porch", value=value, revision=7)) is None


def test_a_long_value_is_not_parsed() -> None:
    assert parse_object(b'{"a": "' + b"x" * MAX_VALUE_BYTES + b'"}') == {}


def test_the_fence_falls_before_the_deadline_and_never_holds_without_a_lease(clock: Clock) -> None:
    fence = Fence(1.5, clock)
    assert not fence.holds("porch")
    fence.set(Lease(camera="porch", epoch=1, tenure="t", revision=1, deadline=clock.seconds + TTL_S))
    assert fence.holds("porch")
    clock.seconds += TTL_S - 1.5
    assert not fence.holds("porch")
    fence.clear("porch")
    assert fence.left_s("porch") == float("-inf")
