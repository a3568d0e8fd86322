"""The oracle finds what it is there for: gaps, two owners, and excuses that do not cover either."""

from __future__ import annotations

import os
import socket

import pytest

from tests.fleet import oracle as module
from tests.fleet.oracle import ConnectionOracle, connected_ports
from tests.fleet.verdict import judge_connections, moved_of_others

EAST, WEST = 1, 2


class Stage:
    """The connections of two workers, by pid."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ports: dict[int, set[int]] = {EAST: set(), WEST: set()}
        monkeypatch.setattr(module, "connected_ports", lambda pid: self.ports[pid])
        self.oracle = ConnectionOracle(range(9000, 9001), pids=lambda: {"east": EAST, "west": WEST})
        self.oracle.excuse = None

    def at(self, now: float, *pids: int) -> None:
        for pid in self.ports:
            self.ports[pid] = {9000} if pid in pids else set()
        self.oracle._look(now)  # noqa: SLF001 - without its thread


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Stage:
    return Stage(monkeypatch)


def test_a_gap_lasts_from_the_last_owner_to_the_next(stage: Stage) -> None:
    stage.at(0.0, EAST)
    stage.at(1.0)
    stage.at(8.0)
    stage.at(9.0, WEST)
    (gap,) = stage.oracle.gaps
    assert (gap.begin_s, gap.end_s, gap.excused) == (1.0, 9.0, None)
    assert stage.oracle.overlaps == []


def test_two_owners_are_found_with_their_names(stage: Stage) -> None:
    stage.at(10.0, EAST)
    stage.at(11.0, EAST, WEST)
    assert not stage.oracle.covered()
    stage.at(14.0, WEST)
    (span,) = stage.oracle.overlaps
    assert (span.length_s, span.workers, span.excused) == (3.0, ("east", "west"), None)
    assert stage.oracle.covered()


def test_a_frozen_worker_has_no_camera_and_its_overlap_counts_from_the_thaw(stage: Stage) -> None:
    stage.oracle.frozen.add("east")
    stage.at(10.0, EAST)
    stage.at(12.0, EAST, WEST)
    assert [gap.length_s for gap in stage.oracle.gaps] == [2.0]
    stage.oracle.frozen.clear()
    stage.oracle.thawed["east"] = 20.0
    stage.at(20.1, EAST, WEST)
    stage.at(20.4, WEST)
    (span,) = stage.oracle.overlaps
    assert span.excused == "east was frozen"


def test_an_excuse_covers_a_gap_until_its_end_only(stage: Stage) -> None:
    stage.oracle.excuse = "no quorum"
    stage.at(1.0)
    stage.at(2.0, EAST)
    stage.at(3.0)
    stage.oracle.excuse = None
    stage.oracle.excuses.append((0.0, 5.0))
    stage.at(9.0, EAST)
    stage.at(10.0)
    stage.at(12.0, EAST)
    assert [(gap.length_s, gap.excused) for gap in stage.oracle.gaps] == [
        (1.0, "no quorum"),
        (4.0, None),
        (2.0, None),
    ]


def test_the_time_without_a_nats_leader_counts(stage: Stage) -> None:
    stage.oracle.leaderless += [(0.0, 3.0), (6.0, 7.0), (20.0, 30.0)]
    stage.at(1.0)
    stage.at(9.0, EAST)
    (gap,) = stage.oracle.gaps
    assert gap.length_s == 8.0
    assert stage.oracle.led_s(gap) == 5.0
    late = judge_connections(stage.oracle, bound_s=7.0, slack_s=0.0, keeps=False)
    assert late == ["camera 9000: no owner for 8.0 s "]


def test_only_cameras_of_workers_that_are_whole_count_as_moved() -> None:
    before = {1: ("east",), 2: ("west",), 3: (), 4: ("west",)}
    after = {1: ("west",), 2: ("east",), 3: ("east",), 4: ("west",)}
    assert moved_of_others(before, after, broken={"east"}) == 1


def test_the_kernel_tells_the_connections_of_a_process() -> None:

    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert port not in connected_ports(os.getpid())
        with socket.create_connection(("127.0.0.1", port)):
            assert port in connected_ports(os.getpid())
    assert connected_ports(2**22 + 1) == set()
