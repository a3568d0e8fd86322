"""Filters of events: by times, zones, score and length."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from async_motion.core.names import event_id
from async_motion.retrieval.model import Event, Filter, Skipped
from tests.support.clock import BEGIN

SECOND = timedelta(seconds=1)


def stored(**more: Any) -> Event:
    values: dict[str, Any] = {
        "instance": "edge1",
        "camera": "porch",
        "event_id": event_id(BEGIN, 1),
        "started_at": BEGIN,
        "ended_at": BEGIN + 8 * SECOND,
        "duration_s": 8.0,
        "peak_score": 0.2,
        "zones": ("drive",),
    }
    return Event(**{**values, **more})


@pytest.mark.parametrize(
    ("wanted", "taken"),
    [
        (Filter(), True),
        (Filter(since=BEGIN), True),
        (Filter(since=BEGIN + SECOND), False),
        (Filter(until=BEGIN), False),
        (Filter(until=BEGIN + SECOND), True),
        (Filter(zones=["gate", "drive"]), True),
        (Filter(zones=["gate"]), False),
        (Filter(min_score=0.2), True),
        (Filter(min_score=0.21), False),
        (Filter(min_duration_s=8), True),
        (Filter(min_duration_s=8.1), False),
    ],
)
def test_what_a_filter_takes(wanted: Filter, taken: bool) -> None:
    assert wanted.takes(stored()) is taken


def test_an_ongoing_event_has_no_length_yet() -> None:
    open_event = stored(ended_at=None, duration_s=None)
    assert Filter().takes(open_event)
    assert not Filter(min_duration_s=1).takes(open_event)


def test_an_id_is_not_a_reason_to_miss_an_event_within_its_millisecond() -> None:
    started = BEGIN.replace(microsecond=123_456)
    wanted = Filter(since=started)
    assert wanted.may_hold(event_id(started, 1))
    assert not wanted.may_hold(event_id(started - timedelta(milliseconds=1), 1))
    assert not Filter(until=BEGIN).may_hold(event_id(BEGIN, 1))


def test_an_id_with_an_impossible_date_holds_nothing() -> None:
    assert not Filter().may_hold("20261399T000000000Z-000000")


def test_the_payload_has_the_fields_of_the_index() -> None:
    payload = stored(no=3, writer="a41c07", scores=(0.1, 0.2)).payload()
    assert payload["started_at"].endswith("Z")
    assert (payload["no"], payload["writer"]) == (3, "a41c07")
    assert payload["zones"] == ["drive"]
    assert stored(ended_at=None).payload()["ended_at"] is None


def test_only_the_latest_skipped_objects_are_kept() -> None:
    skipped = Skipped()
    for number in range(50):
        skipped.add(f"key {number}", "damaged")
    assert skipped.count == 50
    assert len(skipped.latest) == 20
    assert skipped.latest[-1] == ("key 49", "damaged")
