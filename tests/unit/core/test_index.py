"""The index of events: keys, lines, and how a reader handles a damaged or hostile file."""

from __future__ import annotations

import json
import zlib
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_motion.core import index
from async_motion.core.index import DayFile, IndexLine
from async_motion.errors import UnreadableObject

EVENT = "20261122T073112345Z-7c1e9a"
AT = datetime(2026, 11, 22, 7, 31, 12, 345000, tzinfo=UTC)
FOLDER = "cams/edge1/.index/1/porch/"
LINE = IndexLine(
    event_id=EVENT,
    started_at=AT,
    ended_at=AT + timedelta(seconds=12.5),
    duration_s=12.5,
    reason="quiet",
    peak_score=0.0341,
    zones=("drive",),
    frames=4,
    bytes=332844,
    best=3,
    scores=(0.01, 0.02, 0.0341, 0.001),
    no=412,
    writer="a41c07",
)

EARLIEST = datetime(1970, 1, 1)  # noqa: DTZ001 - the zone is given apart
moments = st.datetimes(min_value=EARLIEST, timezones=st.just(UTC))

lines = st.builds(
    IndexLine,
    event_id=st.from_regex(r"\A20261122T0731[0-5][0-9][0-9]{3}Z-[0-9a-f]{6}\Z"),
    started_at=moments,
    ended_at=moments,
    duration_s=st.integers(0, 10**9).map(lambda ms: ms / 1000),
    reason=st.sampled_from(["quiet", "stopped", "max_length"]),
    peak_score=st.integers(0, 10**6).map(lambda parts: parts / 10**6),
    zones=st.lists(st.sampled_from(["drive", "door", "x" * 64]), max_size=3).map(tuple),
    frames=st.integers(0, 10**6),
    bytes=st.integers(0, 2**53 - 1),
    best=st.none() | st.integers(0, 10**6),
    scores=st.lists(st.integers(0, 10**4).map(lambda parts: parts / 10**4), max_size=16).map(tuple),
    no=st.none() | st.integers(1, 2**53 - 1),
    writer=st.none() | st.from_regex(r"\A[0-9a-f]{6}\Z"),
)


def test_keys_are_as_designed() -> None:
    key = index.index_key("cams/", "edge1", "porch", date(2026, 11, 2), "a41c07")
    assert key == "cams/edge1/.index/1/porch/2026/11/02.a41c07.jsonl.gz"
    assert index.index_folder("cams/", "edge1", "porch") == FOLDER
    assert index.parse_day_file(key, FOLDER) == DayFile(day=date(2026, 11, 2), writer="a41c07")


@pytest.mark.parametrize(
    "rest",
    [
        "2026/11/31.a41c07.jsonl.gz",
        "2026/11/02.a41c0.jsonl.gz",
        "2026/11/02.a41c07.jsonl",
        "2026/11/02.a41c07.jsonl.gz\n",
        "x/2026/11/02.a41c07.jsonl.gz",
        "0000/11/02.a41c07.jsonl.gz",
        "",
    ],
)
def test_an_invalid_index_key_is_none(rest: str) -> None:
    assert index.parse_day_file(FOLDER + rest, FOLDER) is None
    assert index.parse_day_file("other/" + rest, FOLDER) is None


def test_an_event_id_tells_its_day_and_start() -> None:
    assert index.event_day(EVENT) == date(2026, 11, 22)
    assert index.event_started(EVENT) == AT
    for bad in ("20261322T073112345Z-7c1e9a", "20261122T253112345Z-7c1e9a", "x", EVENT + "\n"):
        with pytest.raises(ValueError, match=r"."):
            index.event_started(bad)


@given(st.lists(lines, max_size=5))
def test_what_is_packed_is_read_back(some: list[IndexLine]) -> None:
    data = index.pack(some, "a41c07")
    read = [index.parse_line(line, "a41c07") for line in index.unpack(data)]
    assert read == sorted(some, key=lambda line: line.event_id)
    assert index.pack(list(read), "a41c07") == data


def test_a_line_has_the_fields_of_the_design() -> None:
    said = json.loads(index.encode_line(LINE, "a41c07"))
    assert said == {
        "no": 412,
        "event_id": EVENT,
        "started_at": "2026-11-22T07:31:12.345000Z",
        "ended_at": "2026-11-22T07:31:24.845000Z",
        "duration_s": 12.5,
        "reason": "quiet",
        "peak_score": 0.0341,
        "zones": ["drive"],
        "frames": 4,
        "bytes": 332844,
        "best": 3,
        "scores": [0.01, 0.02, 0.0341, 0.001],
        "v": 1,
    }
    assert len(index.encode_line(LINE, "a41c07")) < 400


def test_a_rebuilt_line_keeps_the_writer_of_its_event() -> None:
    said = index.encode_line(LINE, index.REBUILT)
    assert json.loads(said)["writer"] == "a41c07"
    assert index.parse_line(said, index.REBUILT) == LINE
    old = replace(LINE, no=None, writer=None)
    assert index.parse_line(index.encode_line(old, index.REBUILT), index.REBUILT) == old


def test_unknown_fields_are_ignored() -> None:
    said = {**json.loads(index.encode_line(LINE, "a41c07")), "colour": {"deep": [1, 2]}}
    assert index.parse_line(json.dumps(said), "a41c07") == LINE


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("v", 2),
        ("v", None),
        ("event_id", "../../etc/passwd"),
        ("event_id", 7),
        ("started_at", "yesterday"),
        ("started_at", "2026-11-22T07:31:12"),
        ("started_at", "0001-01-01T00:00:00+14:00"),
        ("ended_at", None),
        ("duration_s", -1),
        ("duration_s", "12"),
        ("duration_s", True),
        ("reason", "<script>"),
        ("peak_score", 1.5),
        ("zones", "drive"),
        ("zones", ["a/b"]),
        ("zones", [{}]),
        ("zones", ["z"] * 65),
        ("frames", -1),
        ("frames", 2.5),
        ("bytes", 2**63),
        ("best", -1),
        ("scores", [0.1] * 17),
        ("scores", ["0.1"]),
        ("scores", [0.5, 1.5]),
        ("scores", [0.5, -0.5]),
        ("scores", [0.5, float("nan")]),
        ("no", 0),
        ("writer", "A41C07"),
    ],
)
def test_a_bad_field_is_named(field: str, value: Any) -> None:
    said = {**json.loads(index.encode_line(LINE, "a41c07")), field: value}
    with pytest.raises(UnreadableObject, match=field):
        index.parse_line(json.dumps(said), "a41c07")


@pytest.mark.parametrize("field", ["event_id", "started_at", "zones", "scores", "best", "v"])
def test_a_missing_field_is_named(field: str) -> None:
    said = json.loads(index.encode_line(LINE, "a41c07"))
    del said[field]
    with pytest.raises(UnreadableObject, match=f"{field}: missing"):
        index.parse_line(json.dumps(said), "a41c07")


@pytest.mark.parametrize("text", [b"", b"\xff\xfe", b"[1]", b"null", b"{", b"[" * 60_000, b'{"v": NaN}'])
def test_an_invalid_line_raises_one_error(text: bytes) -> None:
    with pytest.raises(UnreadableObject):
        index.parse_line(text, "a41c07")


@given(st.binary(max_size=300))
def test_no_bytes_raise_another_error(data: bytes) -> None:
    try:
        for line in index.unpack(data):
            index.parse_line(line, "a41c07")
    except UnreadableObject:
        pass


def test_a_cut_file_gives_its_beginning() -> None:
    some = [replace(LINE, event_id=f"20261122T0731{n:05d}Z-{n * 7919:06x}") for n in range(2000)]
    data = index.pack(some, "a41c07")
    got = []

    def read() -> None:
        for line in index.unpack(data[: len(data) // 2]):
            got.append(index.parse_line(line, "a41c07"))  # noqa: PERF401 - what came before the error counts

    with pytest.raises(UnreadableObject, match="truncated"):
        read()
    assert got == some[: len(got)]
    assert len(got) > 500


def test_a_bomb_is_not_unpacked() -> None:
    bomb = zlib.compress(bytes(30_000_000), wbits=31)
    with pytest.raises(UnreadableObject, match="a line of more than"):
        list(index.unpack(bomb))
    many = zlib.compress((b" " * 9_999 + b"\n") * (index.MAX_UNPACKED_BYTES // 10_000 + 1), wbits=31)
    with pytest.raises(UnreadableObject, match="unpacks to more than"):
        for _ in index.unpack(many):
            pass
    with pytest.raises(UnreadableObject, match="longer than"):
        list(index.unpack(bytes(index.MAX_PACKED_BYTES + 1)))


def test_scores_are_thinned_to_the_highest_of_each_run() -> None:
    assert index.thin_scores([]) == ()
    assert index.thin_scores([0.123456, 0.2]) == (0.1235, 0.2)
    thinned = index.thin_scores([n / 100 for n in range(100)])
    assert len(thinned) == 16
    assert thinned[-1] == 0.99
    assert list(thinned) == sorted(thinned)


def summary(**changes: Any) -> dict[str, Any]:
    folder = f"edge1/porch/2026/11/22/{EVENT}/"
    frames = [
        {"seq": seq, "object_key": f"{folder}{seq:06d}.jpg", "size": 1000 + seq, "score": 0.01 * seq}
        for seq in (2, 0, 1)
    ]
    return {
        "schema": "async_motion.event_summary/1",
        "event_id": EVENT,
        "started_at": "2026-11-22T07:31:12.345000Z",
        "ended_at": "2026-11-22T07:31:24.845000Z",
        "duration_s": 12.5,
        "reason": "quiet",
        "peak_score": 0.02,
        "zones": [],
        "best_frame": f"{folder}000002.jpg",
        "frames": frames,
        **changes,
    }


def test_a_line_is_made_from_the_summary() -> None:
    line = index.line_of(summary(no=7, writer="a41c07"))
    assert (line.no, line.writer, line.frames, line.bytes, line.best) == (7, "a41c07", 3, 3003, 2)
    assert line.scores == (0.0, 0.01, 0.02)
    assert index.parse_line(index.encode_line(line, "a41c07"), "a41c07") == line


def test_a_summary_of_before_the_numbers_has_a_line_too() -> None:
    line = index.line_of(summary())
    assert (line.no, line.writer) == (None, None)
    assert index.line_of(summary(frames=[], best_frame=None)).best is None


@pytest.mark.parametrize(
    "changes",
    [{"ended_at": None}, {"frames": [1]}, {"frames": None}, {"frames": [{"seq": "x"}]}, {"zones": None}],
)
def test_an_invalid_summary_raises_one_error(changes: dict[str, Any]) -> None:
    with pytest.raises(UnreadableObject):
        index.line_of(summary(**changes))
