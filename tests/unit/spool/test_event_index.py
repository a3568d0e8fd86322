"""The index's tables in the spool: retention of days, changed lines, due files."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace

import pytest

from async_motion.core.model import MotionEvent
from async_motion.spool import schema
from async_motion.spool.event_index import EventIndex
from tests.support.records import end_of, make_event


def event_of(day: int, second: int = 0) -> MotionEvent:
    return end_of(make_event(index=day * 86400 + second)).event


@pytest.fixture
def db() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as db:
        schema.prepare(db)
        yield db


def new_index(db: sqlite3.Connection, *, days: float = 1.0) -> EventIndex:
    return EventIndex(db, writer="a41c07", max_age_s=days * 86400)


def test_a_file_is_due_until_its_newest_lines_are_written(db: sqlite3.Connection) -> None:
    index = new_index(db)
    index.add(event_of(0), 1, [])
    (due,) = index.due()
    index.add(event_of(0, 60), 2, [])
    index.mark_written(due)
    (again,) = index.due()
    assert again.version == 2
    assert [json.loads(line)["no"] for line in index.lines(again)] == [1, 2]
    index.mark_written(again)
    assert index.due() == []


def test_the_same_line_makes_no_file_due(db: sqlite3.Connection) -> None:
    index = new_index(db)
    index.add(event_of(0), 1, [])
    index.mark_written(index.due()[0])
    index.add(event_of(0), 1, [])
    assert index.due() == []
    index.add(replace(event_of(0), peak_score=0.9), 1, [])
    assert len(index.due()) == 1


def test_old_days_go_once_they_are_written_and_never_come_back_with_less(db: sqlite3.Connection) -> None:
    index = new_index(db, days=1.0)  # so three days are kept
    for day in range(5):
        index.add(event_of(day), day + 1, [])
    assert len(index.due()) == 5, "what is not written stays"
    for due in index.due():
        index.mark_written(due)
    index.add(event_of(5), 6, [])
    days = [day for (day,) in db.execute("SELECT day FROM index_days ORDER BY day")]
    assert days == ["2026-11-25", "2026-11-26", "2026-11-27"]
    # The stored file of an evicted day holds more than could be written now.
    index.add(event_of(0, 60), 7, [])
    assert [due.day.isoformat() for due in index.due()] == ["2026-11-27"]


def test_an_event_that_makes_no_line_stops_nothing(
    db: sqlite3.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    new_index(db).add(replace(event_of(0), event_id="nonsense"), 1, [])
    assert new_index(db).due() == []
    assert "gets no line" in caplog.text
