"""The ledger hands out each event once, in the order of the numbers, and waits for missing ones."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_motion.client.ledger import MAX_HOLES, MAX_WAITING, QUICK_S, Ledger
from async_motion.retrieval import Event

ORIGIN = datetime(2026, 11, 22, tzinfo=UTC)
PATIENCE_S = 300.0


def event(
    no: int | None, *, camera: str = "porch", writer: str | None = "aaaaaa", at_s: float | None = None
) -> Event:
    at = ORIGIN + timedelta(seconds=(no or 0) if at_s is None else at_s)
    return Event(
        instance="edge1",
        camera=camera,
        event_id=f"{at:%Y%m%dT%H%M%S}{at.microsecond // 1000:03d}Z-{no or 0:06x}",
        started_at=at,
        ended_at=at,
        no=no,
        writer=writer if no is not None else None,
    )


def opened(upto: int = 0) -> Ledger:
    ledger = Ledger(ORIGIN)
    ledger.open(event(1), upto)
    return ledger


def numbers(ledger: Ledger, monotonic: float = 0.0, *, searched: bool = True) -> list[int | None]:
    return [e.no for e in ledger.ready(monotonic=monotonic, patience_s=PATIENCE_S, searched=searched)]


def test_events_go_out_in_order_and_once() -> None:
    ledger = opened()
    for no in (3, 1, 1, 2):
        ledger.add(event(no))
    assert numbers(ledger) == [1, 2, 3]
    assert not any(ledger.add(event(no)) for no in (1, 2, 3))
    assert numbers(ledger) == []


def test_what_began_before_the_subscription_is_not_news() -> None:
    ledger = opened(upto=411)
    assert not ledger.add(event(411))
    assert ledger.add(event(412))
    assert numbers(ledger) == [412]


def test_an_event_that_says_it_began_before_is_passed_over_without_a_wait() -> None:
    ledger = opened(upto=1)
    for no, at_s in ((2, -50.0), (4, -30.0), (6, 10.0), (5, 5.0)):
        ledger.add(event(no, at_s=at_s))
    assert numbers(ledger) == [5, 6]
    # Number 3 was missing among those before: whenever it comes, it is no news either.
    ledger = Ledger.of(json.loads(json.dumps(ledger.state())))
    ledger.add(event(3, at_s=-40.0))
    assert numbers(ledger) == []


def test_a_missing_number_among_early_ones_is_news_if_it_began_later() -> None:
    ledger = opened()
    ledger.add(event(2, at_s=-50.0))
    assert numbers(ledger) == []
    ledger.add(event(1, at_s=5.0))
    assert numbers(ledger) == [1]


def test_once_a_lane_has_begun_a_clock_set_back_loses_nothing() -> None:
    origin = ORIGIN + timedelta(microseconds=345678)
    ledger = Ledger(origin)
    ledger.open(event(1), 0)
    ledger.add(event(1))
    assert numbers(ledger) == [1]
    ledger = Ledger.of(json.loads(json.dumps(ledger.state())))
    ledger.add(event(2, at_s=-3600.0))
    assert numbers(ledger) == [2]


def test_no_frame_of_an_early_event_is_live() -> None:
    ledger = opened()
    assert ledger.is_next(event(1))
    assert not ledger.is_next(event(1, at_s=-5.0))


def test_a_missing_event_is_waited_for() -> None:
    ledger = opened()
    ledger.add(event(2))
    assert ledger.is_blocked()
    assert numbers(ledger, 0.0) == []
    assert numbers(ledger, PATIENCE_S - 1) == []
    ledger.add(event(1))
    assert numbers(ledger, PATIENCE_S - 1) == [1, 2]
    assert not ledger.is_blocked()


def test_after_the_patience_it_goes_on_and_still_hands_out_the_late_event() -> None:
    ledger = opened()
    ledger.add(event(2))
    assert numbers(ledger, 0.0) == []
    assert numbers(ledger, PATIENCE_S, searched=False) == [], "never without a look into the bucket"
    assert numbers(ledger, PATIENCE_S) == [2]
    ledger = Ledger.of(json.loads(json.dumps(ledger.state())))
    assert ledger.since("porch") == ORIGIN
    assert ledger.add(event(1))
    assert numbers(ledger) == [1]
    assert not ledger.add(event(1))


def test_behind_old_events_nothing_is_waited_for_long() -> None:
    ledger = opened()
    ledger.add(event(2))
    ledger.add(event(400))
    assert numbers(ledger, 0.0) == []
    assert numbers(ledger, QUICK_S) == [2], "400 is 398 s younger than 2, and waits for what is before it"
    assert numbers(ledger, QUICK_S) == []
    assert numbers(ledger, QUICK_S + PATIENCE_S) == [400]


def test_too_many_do_not_wait() -> None:
    ledger = opened()
    for no in range(2, MAX_WAITING + 3):
        ledger.add(event(no))
    assert numbers(ledger, searched=False) == list(range(2, MAX_WAITING + 3))


def test_a_jump_of_the_numbers_is_bounded() -> None:
    ledger = opened()
    ledger.add(event(2**52, at_s=5))
    numbers(ledger, 0.0)
    assert numbers(ledger, PATIENCE_S) == [2**52]
    assert len(ledger.state()["cameras"]["porch"]["aaaaaa"]["holes"]) <= MAX_HOLES


def test_writers_and_cameras_are_apart() -> None:
    ledger = opened()
    for camera, writer in (("porch", "bbbbbb"), ("yard", "aaaaaa")):
        ledger.open(event(1, camera=camera, writer=writer), 0)
        ledger.add(event(1, camera=camera, writer=writer))
    ledger.add(event(2))
    assert numbers(ledger) == [1, 1]


def test_events_without_numbers_are_ordered_by_their_ids() -> None:
    ledger = Ledger(ORIGIN)
    ledger.open(event(None), 0)
    for at_s in (20, 10, 10, -5):
        ledger.add(event(None, at_s=at_s))
    ids = [e.event_id for e in ledger.ready(monotonic=0, patience_s=1, searched=True)]
    assert ids == [event(None, at_s=at_s).event_id for at_s in (10, 20)]
    ledger = Ledger.of(ledger.state())
    assert not ledger.add(event(None, at_s=20))


@pytest.mark.parametrize(
    "state",
    [
        {},
        {"v": 2},
        {"v": 1, "origin": "x"},
        {"v": 1, "origin": "2026-11-22T00:00:00Z", "cameras": []},
        {"v": 1, "origin": "2026-11-22T00:00:00Z", "cameras": {"porch": {"aaaaaa": {"upto": "x"}}}},
    ],
)
def test_an_invalid_state_is_refused(state: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"."):
        Ledger.of(state)


@given(st.data())
def test_in_any_order_with_any_restart_nothing_is_missed_or_repeated(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 12))
    arrivals = data.draw(st.permutations(list(range(1, count + 1)) * 2))
    ledger, out = opened(), []
    for no in arrivals:
        ledger.add(event(no))
        if data.draw(st.booleans()):
            for given_out in ledger.ready(monotonic=0.0, patience_s=PATIENCE_S, searched=True):
                out.append(given_out.no)
                if data.draw(st.booleans()):
                    # A crash: the waiting events are in the bucket and arrive again.
                    waiting = [event(n) for n in arrivals]
                    ledger = Ledger.of(json.loads(json.dumps(ledger.state())))
                    for again in waiting[: arrivals.index(no) + 1]:
                        ledger.add(again)
                    break
    for no in arrivals:
        ledger.add(event(no))
    out += numbers(ledger)
    assert out == list(range(1, count + 1))
