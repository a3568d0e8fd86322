"""The NATS servers lose their majority and get it back, under a lease and under real workers."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from async_motion.errors import LeaseUnavailable
from async_motion.fleet.leases import Lease, LeaseKeeper
from async_motion.fleet.nats_bucket import NatsBucket
from tests.fleet.stage import TTL_S, FleetStage, fleet_stage, older_epochs
from tests.support.nats import LEADER_S, nats_cluster
from tests.support.wait import eventually, eventually_async

WITHOUT_S = 4 * TTL_S
"""Long enough for the keys to expire, and for a leader to notice that it has no quorum (10 s)."""


@pytest.mark.fleet
@pytest.mark.timeout(300)
async def test_a_lease_outlasts_the_loss_of_the_majority(tmp_path: Path) -> None:
    with nats_cluster(tmp_path) as servers:
        urls = [server.url for server in servers]
        async with NatsBucket(urls, "fleet", ttl_s=TTL_S, worker="w1") as bucket:
            keeper = LeaseKeeper(bucket, "w1", ttl_s=TTL_S)

            async def acquired() -> Lease | None:
                try:
                    return await keeper.acquire("porch")
                except LeaseUnavailable:
                    return None

            async def renewed(lease: Lease) -> Lease | None:
                # LeaseLost fails the test: no other worker wants this lease.
                try:
                    return await keeper.renew(lease)
                except LeaseUnavailable:
                    return None

            first = await eventually_async(acquired, within_s=LEADER_S, what="a lease")
            assert first is not None
            lease = first
            for server in servers[:2]:
                server.kill()
            until = time.monotonic() + WITHOUT_S
            while time.monotonic() < until:
                # A leader may have sent the last renewal to a follower before it died.
                lease = await renewed(lease) or lease
                await asyncio.sleep(0.2)
            for server in servers[:2]:
                server.start()
            again = await eventually_async(lambda: renewed(lease), within_s=LEADER_S, what="a renewal")
            assert again is not None
            assert again.tenure == first.tenure
            assert again.epoch >= first.epoch
            assert again.deadline > lease.deadline


def fleet_problem(stage: FleetStage) -> str | None:
    state = stage.newest("state")
    return "no state yet" if state is None or "fleet" not in state else state["fleet"]["problem"]


@pytest.mark.fleet
@pytest.mark.timeout(300)
def test_without_a_quorum_the_cameras_go_on_and_the_service_says_so(tmp_path: Path) -> None:
    with fleet_stage(tmp_path, servers=3) as stage:
        stage.worker("east")
        stage.worker("west")
        before = stage.wait_until_watched(LEADER_S)
        eventually(lambda: fleet_problem(stage) is None, within_s=60, what="a state without a problem")
        for server in stage.nats[:2]:
            server.kill()
        eventually(
            lambda: "cameras go on without a lease" in (fleet_problem(stage) or ""),
            within_s=60,
            what="the state that says so",
        )
        # No worker gave a camera up, though a key may have expired and a write may have been refused.
        without = len(stage.world.messages)
        eventually(
            lambda: (
                len({camera for camera, _ in stage.said()}) == len(stage.cameras)
                and len(stage.world.messages) > without + 20
            ),
            within_s=90,
            what="announcements without a lease",
        )
        assert stage.owners() == before
        assert stage.offline() == []
        for server in stage.nats[:2]:
            server.start()
        eventually(lambda: fleet_problem(stage) is None, within_s=LEADER_S, what="the end of the problem")
        after = stage.wait_until_watched()
        assert all(after[camera][1] >= before[camera][1] for camera in stage.cameras)
        assert stage.offline() == []
        assert older_epochs(stage.said()) == []
        for name in ("east", "west"):
            assert stage.workers[name].stop() == 0
