"""The codec: values of columns survive a round trip, and a damaged column is reported as such."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from async_motion.core.model import Box
from async_motion.spool import codec
from tests.support.records import end_of, make_event, make_record, stored_of

EVENT = make_event()
ENDED = end_of(EVENT).event
INFO = replace(make_record(EVENT, 3).info, boxes=(Box(0.1, 0.2, 0.3, 0.4),), zones=("drive", "gate"))
STORED = replace(stored_of(make_record(EVENT, 3)), info=INFO)


def test_a_frames_description_comes_back() -> None:
    assert codec.load_info(codec.dump_info(INFO)) == INFO


@pytest.mark.parametrize("event", [EVENT, ENDED], ids=["open", "ended"])
def test_an_event_comes_back(event: Any) -> None:
    assert codec.load_event(codec.dump_event(event)) == event


def test_a_stored_frame_comes_back() -> None:
    text = codec.dump_stored(STORED)
    assert codec.load_stored(text) == STORED
    assert codec.load_line(text)["frame_id"] == json.loads(text)["frame_id"]


LOADS: list[tuple[Callable[[str], object], str]] = [
    (codec.load_info, codec.dump_info(INFO)),
    (codec.load_event, codec.dump_event(ENDED)),
    (codec.load_stored, codec.dump_stored(STORED)),
    (codec.load_line, codec.dump_stored(STORED)),
]


@pytest.mark.parametrize(
    "damage", ["", "[]", "null", "{}", "[" * 100_000, '"text"'], ids=lambda text: text[:6]
)
@pytest.mark.parametrize(("load", "text"), LOADS, ids=lambda value: getattr(value, "__name__", ""))
def test_a_damaged_column_is_unreadable(load: Callable[[str], object], text: str, damage: str) -> None:
    with pytest.raises(codec.Unreadable):
        load(damage)
    with pytest.raises(codec.Unreadable):
        load(text[: len(text) // 2])


@pytest.mark.parametrize("load", [codec.load_info, codec.load_event])
@pytest.mark.parametrize(
    "damage",
    [
        {"camera": "\ud800"}, {"camera": 5}, {"event_id": "../../x"}, {"zones": [{}]}, {"zones": "drive"},
        {"epoch": "7"}, {"captured_at": 5, "started_at": 5},
        {"score": float("nan"), "peak_score": float("nan")}, {"score": "1", "peak_score": "1"},
        {"size": "1", "ended_at": "1"}, {"boxes": [[0, 0, 1]], "end_reason": "whim"},
    ],
    ids=str,
)  # fmt: skip
def test_a_column_with_a_wrong_value_is_unreadable(
    load: Callable[[str], object], damage: dict[str, Any]
) -> None:
    text = codec.dump_info(INFO) if load is codec.load_info else codec.dump_event(ENDED)
    load(text)
    with pytest.raises(codec.Unreadable):
        load(json.dumps(json.loads(text) | damage))


def test_a_damaged_time_is_unreadable() -> None:
    with pytest.raises(codec.Unreadable):
        codec.load_time("2026-13-01")


def test_a_damaged_column_is_no_damaged_file() -> None:
    assert not issubclass(codec.Unreadable, sqlite3.Error)
