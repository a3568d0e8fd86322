"""A worker takes no camera before it has heard of the others: after its start, and after an outage."""

from __future__ import annotations

import pytest

from async_motion.fleet.bucket_view import WORKER, BucketView
from async_motion.fleet.leases import Entry
from async_motion.fleet.settling import RETURN_S, SETTLE_S, Settling
from tests.support.buckets import MemoryBucket

TTL_S = 9.0


class Stage:
    def __init__(self) -> None:
        self.now = 100.0
        self._revision = 0
        bucket = MemoryBucket(TTL_S, self._clock)
        self.view = BucketView(
            bucket, worker="a", run="r1", cameras=("porch",), ttl_s=TTL_S, clock=self._clock
        )
        self.settling = Settling(self.view, ttl_s=TTL_S, clock=self._clock)

    def _clock(self) -> float:
        return self.now

    def hear(self, *workers: str) -> None:
        for worker in workers:
            self._revision += 1
            self.view.see(Entry(key=WORKER + worker, value=b'{"capacity": 4}', revision=self._revision))

    def look(self, after_s: float = 0.0) -> bool:
        self.now += after_s
        return self.settling.look()


@pytest.fixture
def stage() -> Stage:
    """Return a worker that has settled beside another one."""
    stage = Stage()
    stage.view.completed()
    stage.hear("a", "b")
    assert not stage.look()
    assert not stage.look(SETTLE_S - 0.1)
    assert stage.look(0.2)
    return stage


def lose(stage: Stage, for_s: float) -> None:
    stage.view.failed("gone")
    assert not stage.look()
    assert not stage.look(for_s)
    stage.view.completed()


def test_it_listens_from_the_first_complete_watch_not_from_its_start() -> None:
    stage = Stage()
    assert not stage.look()
    assert not stage.look(60.0)
    stage.view.answered()
    assert not stage.look(60.0), "an answer to its report brings no other worker's"
    stage.view.completed()
    assert not stage.look()
    assert stage.look(SETTLE_S)


def test_after_a_long_outage_it_waits_for_each_worker_that_it_knew(stage: Stage) -> None:
    stage.hear("c")
    assert stage.look()
    lose(stage, TTL_S)
    assert not stage.look()
    stage.hear("a", "b")
    assert not stage.look(0.1)
    stage.hear("c")
    assert stage.look(0.1)


def test_a_worker_that_does_not_come_back_is_not_awaited_for_long(stage: Stage) -> None:
    lose(stage, TTL_S)
    stage.hear("a")
    assert not stage.look()
    assert not stage.look(RETURN_S - 0.1)
    assert stage.look(0.2)


def test_after_an_outage_the_time_counts_from_the_complete_watch(stage: Stage) -> None:
    stage.view.failed("gone")
    assert not stage.look()
    assert not stage.look(TTL_S)
    stage.view.answered()
    assert not stage.look()
    assert not stage.look(2 * RETURN_S)
    stage.view.completed()
    assert not stage.look()
    assert not stage.look(RETURN_S - 0.1)
    assert stage.look(0.2)


def test_a_worker_that_is_heard_before_the_watch_is_complete_is_back(stage: Stage) -> None:
    stage.view.failed("gone")
    assert not stage.look()
    assert not stage.look(TTL_S)
    stage.view.answered()
    assert not stage.look()
    stage.hear("a", "b")
    assert stage.look()


def test_after_a_short_outage_it_goes_on_at_once(stage: Stage) -> None:
    lose(stage, TTL_S / 3)
    assert stage.look()


def test_answers_that_stop_again_prolong_the_outage(stage: Stage) -> None:
    lose(stage, TTL_S)
    assert not stage.look()
    stage.view.failed("gone")
    assert not stage.look(0.1)
    stage.view.completed()
    assert not stage.look(0.1), "the reports are as old as before"
    stage.hear("a", "b")
    assert stage.look()
