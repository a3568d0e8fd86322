"""Further edges of `test_edges`, which take longer to import: atheris fuzzes those there, not these."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given

from async_motion.camera.detector_state import recalled
from async_motion.client import messages
from async_motion.core import day_log, index
from async_motion.core.detection.detector import DetectorSettings
from async_motion.errors import SettingsError, UnreadableObject, UsageError
from async_motion.retrieval.summaries import parse_summary
from async_motion.settings import load_text
from async_motion.spool import codec
from async_motion.status.memory import RememberedValues
from async_motion.store.s3errors import S3Answer
from async_motion.tune.clips import parse_labels
from tests.unit import test_edges

NOW = test_edges.NOW


def read_answer(data: bytes) -> object:
    """Read an S3 error whose headers and body are `data`."""
    text = data.decode("latin-1")
    headers = dict.fromkeys(("Date", "Retry-After", "x-amz-bucket-region"), text)
    answer = S3Answer.read(503, headers, data, NOW)
    return answer.verdict, str(answer)


def read_row(data: bytes) -> None:
    """Read each column of the spool that holds JSON."""
    text = data.decode("latin-1")
    for load_column in (
        codec.load_info, codec.load_event, codec.load_time, codec.load_stored, codec.load_line
    ):  # fmt: skip
        with suppress(codec.Unreadable):
            load_column(text)


def read_values(data: bytes) -> dict[str, Any]:
    async def forget(_key: str, _value: bytes) -> None: ...

    return RememberedValues(forget, {"a": data}).recall("a")


EDGES: dict[str, test_edges.Edge] = {
    "settings": (lambda data: load_text(data, Path("v.yaml"), {}), SettingsError),
    "labels": (lambda data: parse_labels(Path("labels.yaml"), data), UsageError),
    "labels in JSON": (lambda data: parse_labels(Path("labels.json"), data), UsageError),
    "labels in CSV": (lambda data: parse_labels(Path("labels.csv"), data), UsageError),
    "an S3 answer": (read_answer, test_edges.NoError),
    "a row of the spool": (read_row, test_edges.NoError),
    "a remembered value": (read_values, test_edges.NoError),
    "a learned state": (
        lambda data: recalled("a", DetectorSettings(), data, source="", now=NOW),
        test_edges.NoError,
    ),
    "a phase of an event": (lambda data: messages.parse_event(data, "edge1"), ValueError),
    "a line of the index": (lambda data: index.parse_line(data, "a41c07"), UnreadableObject),
    "a line of a day log": (day_log.parse_day_line, UnreadableObject),
    "an event's summary": (lambda data: parse_summary(data, "a"), UnreadableObject),
}

HOSTILE = (
    *test_edges.HOSTILE,
    b"a: 2026-13-45",
    b"a: !!bool x",
    b'a: !!int ""',
    b"a: !!timestamp x",
    b"[" * 3000,
    b'{"taken_at": "0001-01-01T00:00:00Z", "source": ""}\nPK',
    b"Sun, 29 Nov 2026 13:00:00 +99999999",
    b"Fri, 31 Dec 9999 23:59:59 -2359",
    b'<?xml version="1.0" encoding="klingon"?><Error><Code>SlowDown</Code></Error>',
    b"<Error>" + b"<a>" * 20_000,
    "\u30e1\u30f3\u30c6\u30ca\u30f3\u30b9".encode("shift_jis"),
)


@pytest.mark.parametrize("edge", EDGES)
@pytest.mark.parametrize("data", HOSTILE, ids=range(len(HOSTILE)))
def test_what_is_hostile_raises_what_its_edge_names(edge: str, data: bytes) -> None:
    test_edges.read_at(EDGES[edge], data)


@pytest.mark.parametrize("edge", EDGES)
@given(data=test_edges.ANYTHING)
def test_whatever_comes_raises_what_its_edge_names(edge: str, data: bytes) -> None:
    test_edges.read_at(EDGES[edge], data)
