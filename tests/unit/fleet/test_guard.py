"""The last fence: cameras are cut in time, and the process ends where that does not free them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from async_motion.fleet.guard import LeaseGuard
from tests.support.wait import eventually


class Cameras:
    """Cameras that are cut by the guard's thread, at a time that the test sets."""

    def __init__(self) -> None:
        self.now = 0.0
        self.stuck: set[str] = set()
        self.cuts: dict[str, float] = {}
        self.ended: dict[str, float] = {}

    def cut(self, camera: str) -> bool:
        self.cuts.setdefault(camera, self.now)
        return camera not in self.stuck

    def end(self, camera: str) -> None:
        self.ended.setdefault(camera, self.now)


@contextmanager
def guarding(cameras: Cameras) -> Iterator[LeaseGuard]:
    guard = LeaseGuard(cut=cameras.cut, end=cameras.end, early_s=1.0, clock=lambda: cameras.now)
    guard.start()
    try:
        yield guard
    finally:
        cameras.stuck.clear()
        cameras.now += 1000.0
        guard.stop()
        eventually(lambda: not guards(), what="the end of the thread")


def guards() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "fleet: guard"]


def test_a_camera_is_cut_before_its_lease_ends_and_not_before() -> None:
    cameras = Cameras()
    with guarding(cameras) as guard:
        guard.set("porch", 10.0)
        guard.set("yard", 1000.0)
        cameras.now = 8.9
        eventually(lambda: not guard.has_cut("porch"))
        cameras.now = 9.0
        eventually(lambda: "porch" in cameras.cuts, what="the cut")
        assert guard.has_cut("porch")
        assert not guard.has_cut("yard")
        assert cameras.cuts == {"porch": 9.0}
        cameras.now = 20.0
        guard.set("garden", 20.0)
        eventually(lambda: "garden" in cameras.cuts)
    assert cameras.ended == {}


def test_a_renewal_postpones_the_cut() -> None:
    cameras = Cameras()
    with guarding(cameras) as guard:
        guard.set("porch", 10.0)
        guard.set("porch", 20.0)
        guard.set("yard", 10.0)
        cameras.now = 10.0
        eventually(lambda: "yard" in cameras.cuts)
        assert "porch" not in cameras.cuts


def test_a_camera_that_is_free_is_guarded_no_longer() -> None:
    cameras = Cameras()
    with guarding(cameras) as guard:
        guard.set("porch", 10.0)
        guard.clear("porch")
        guard.set("yard", 10.0)
        cameras.now = 10.0
        eventually(lambda: "yard" in cameras.cuts)
        assert "porch" not in cameras.cuts
        assert not guard.has_cut("porch")


def test_the_process_ends_when_a_cut_does_not_free_a_camera_in_time() -> None:
    cameras = Cameras()
    cameras.stuck.add("porch")
    with guarding(cameras) as guard:
        guard.set("porch", 10.0)
        guard.set("yard", 10.0)
        cameras.now = 9.5
        eventually(lambda: len(cameras.cuts) == 2)
        assert cameras.ended == {}
        cameras.now = 10.5
        eventually(lambda: cameras.ended, what="the end of the process")
        assert cameras.ended == {"porch": 10.5}


def test_after_a_suspend_a_camera_has_time_to_be_freed() -> None:
    cameras = Cameras()
    cameras.stuck.add("porch")
    with guarding(cameras) as guard:
        guard.set("porch", 10.0)
        cameras.now = 3600.0
        eventually(lambda: "porch" in cameras.cuts)
        cameras.now = 3600.9
        assert cameras.ended == {}
        cameras.now = 3601.0
        eventually(lambda: cameras.ended, what="the end of the process")
        assert cameras.ended == {"porch": 3601.0}


def test_the_thread_ends_only_when_no_camera_is_guarded() -> None:
    cameras = Cameras()
    guard = LeaseGuard(cut=cameras.cut, end=cameras.end, early_s=1.0, clock=lambda: cameras.now)
    guard.start()
    guard.set("porch", 10.0)
    guard.stop()
    assert guards()
    cameras.now = 9.0
    eventually(lambda: not guards(), what="the end of the thread")
    assert cameras.cuts == {"porch": 9.0}
