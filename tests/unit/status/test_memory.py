"""Remembered values: no value left by an earlier run or a damaged spool makes a start fail."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from async_motion.broker.fake import FakeBroker
from async_motion.core import payloads
from async_motion.core.health import DeliveryHealth, PeerHealth
from async_motion.core.names import Topics
from async_motion.status import Reporter
from async_motion.status.memory import RememberedValues
from tests.unit.status.test_reporter import FakeControls

JSON: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=6,
)
FIELDS = st.sampled_from(["value", "configured", "day", "events", "last_motion", "mode", "basis"])
JUNK = st.binary(max_size=60) | st.dictionaries(FIELDS, JSON).map(lambda value: json.dumps(value).encode())
NOW = datetime(2026, 11, 22, 7, 31, 12, tzinfo=UTC)


async def forget(_key: str, _value: bytes) -> None:
    """Keep nothing."""


@given(JUNK)
@example(b"[" * 5000)
@example(b'{"value": NaN}')
def test_what_is_recalled_is_an_object(junk: bytes) -> None:
    recalled = RememberedValues(forget, {"k": junk}).recall("k")
    assert isinstance(recalled, dict)
    payloads.encode(recalled)


@given(JUNK)
@example(b"[" * 5000)
@example(b'{"events": 1e308, "day": "2026-11-22"}')
@example(b'{"last_motion": "0001-01-01T00:00:00+14:00"}')
@example(b'{"value": "\\u0000", "configured": "ON"}')
def test_a_reporter_starts_with_whatever_was_remembered(junk: bytes) -> None:
    keys = Reporter.memory_keys(["porch"])
    broker = FakeBroker()
    reporter = Reporter(
        broker,
        Topics("async_motion/edge1"),
        {"porch": ("drive",)},
        instance="edge1",
        version="1",
        spool_stats=lambda: {"records": 0, "bytes": 0, "oldest_age_s": 0.0},
        delivery_health=lambda: DeliveryHealth(store=PeerHealth(), broker=PeerHealth()),
        remember=forget,
        recalled=dict.fromkeys(keys, junk),
        now=lambda: NOW,
        monotonic=lambda: 0.0,
    )
    reporter.attach("porch", FakeControls())
    reporter.republish()
    state = json.loads(broker.server.retained["async_motion/edge1/porch/state"])
    assert state["events_today"] >= 0
