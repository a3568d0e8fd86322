"""The day log: keys, lines, and what a reader refuses."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, date, datetime, timedelta

import pytest

from async_motion.core.day_log import (
    MAX_PROBLEM,
    HourLog,
    Outage,
    SubjectLog,
    day_log_key,
    day_log_root,
    encode_day_line,
    pack_day_log,
    parse_day_line,
    problem_line,
)
from async_motion.core.index import DayFile, parse_day_file, unpack
from async_motion.core.names import is_name
from async_motion.errors import UnreadableObject
from tests.unit.core.test_stored import validate

DAY = date(2026, 11, 22)
AT = datetime(2026, 11, 22, 7, 31, tzinfo=UTC)


def a_log() -> SubjectLog:
    return SubjectLog(
        hours={
            7: HourLog(
                watched_s=3312.0,
                frames=16560,
                suppressed=Counter(masked=31, below_area=2),
                stretches=Counter(masked=2, below_area=1),
                lost=Counter(corrupt=3),
            ),
            8: HourLog(paused_s=12.5, scene_changes=Counter(light=1)),
        },
        outages=[
            Outage(kind="offline", began=AT, ended=AT + timedelta(minutes=5), problem="no frame for 10 s")
        ],
        unlisted=Counter(offline=2),
        unlisted_s=31.0,
    )


def test_a_line_reads_back_and_keeps_the_contract() -> None:
    for camera in ("porch", None):
        line = encode_day_line(camera, a_log())
        assert parse_day_line(line) == (camera, a_log())
        validate("day_log", json.loads(line))
    packed = pack_day_log([encode_day_line(None, SubjectLog()), encode_day_line("porch", a_log())])
    assert [parse_day_line(line)[0] for line in unpack(packed)] == [None, "porch"]


def test_a_key_reads_back_and_is_no_camera() -> None:
    root = day_log_root("p/", "edge1")
    key = day_log_key("p/", "edge1", DAY, "a41c07")
    assert key == "p/edge1/.days/1/2026/11/22.a41c07.jsonl.gz"
    assert parse_day_file(key, root) == DayFile(day=DAY, writer="a41c07")
    assert not is_name(".days")
    for other in ("2026/11/99.a41c07.jsonl.gz", "2026/11/22.A41C07.jsonl.gz", "x", "2026/11/22.a41c07.json"):
        assert parse_day_file(root + other, root) is None
    assert parse_day_file("edge1" + key, root) is None


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"v": 2}, "v: expected 1"),
        ({"camera": "../x"}, "camera: expected a name"),
        ({"hours": {"24": {}}}, "hours: expected 00 to 23"),
        ({"hours": []}, "hours: expected an object"),
        ({"hours": {"07": {"watched_s": -1}}}, "watched_s: expected seconds"),
        ({"hours": {"07": {"watched_s": "1"}}}, "watched_s: expected seconds"),
        ({"hours": {"07": {"frames": True}}}, "frames: expected whole numbers"),
        ({"hours": {"07": {"lost": {"a b": 1}}}}, "lost: expected words"),
        ({"hours": {"07": 1}}, "hours: expected objects"),
        ({"outages": [{"kind": "offline"}]}, "problem: missing"),
        ({"outages": 3}, "not iterable"),
        ({"unlisted": {"offline": 1.5}}, "unlisted: expected whole numbers"),
    ],
)
def test_what_is_wrong_is_named(wrong: dict[str, object], why: str) -> None:
    said = json.loads(encode_day_line("porch", a_log())) | wrong
    with pytest.raises(UnreadableObject, match=why):
        parse_day_line(json.dumps(said))


@pytest.mark.parametrize("text", [b"", b"[]", b"{", b'{"v":1}', b'{"v":NaN}', b"\xff", b"[" * 9999])
def test_what_is_no_line_is_unreadable(text: bytes) -> None:
    with pytest.raises(UnreadableObject, match="day log"):
        parse_day_line(text)


def test_an_outage_ends_after_it_began() -> None:
    said = json.loads(encode_day_line("porch", a_log()))
    said["outages"][0]["ended_at"] = "2026-11-22T07:00:00Z"
    with pytest.raises(UnreadableObject, match="ended before it began"):
        parse_day_line(json.dumps(said))


def test_a_problem_is_one_line_of_a_bounded_length() -> None:
    assert problem_line("a\nb\x1b[2J") == "a b [2J"
    assert len(problem_line("x" * 999)) == MAX_PROBLEM
