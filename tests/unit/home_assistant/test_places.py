"""Data read back from the broker and the spool is well-formed, or is dropped."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_motion.core import payloads
from async_motion.core.names import Topics
from async_motion.home_assistant.entities import CameraSite, ServiceInfo
from async_motion.home_assistant.payloads import camera_payload
from async_motion.home_assistant.places import (
    MISSED_DAYS,
    MISSED_KEY,
    PLACES_KEY,
    AnnouncedPlace,
    is_topic,
    owner,
    read_config,
    read_missed,
    read_places,
)
from async_motion.home_assistant.removal import merged, removal_of

NOW = datetime(2026, 11, 22, 7, 31, 12, tzinfo=UTC)
SITE = ServiceInfo(instance="edge1", version="1", topics=Topics("async_motion/edge1"))
PORCH = camera_payload(SITE, CameraSite(name="porch", zones=("drive",)))
PLACE = AnnouncedPlace("async_motion/edge1", "homeassistant", "edge1", frozenset({"frigate/porch/motion"}))

KEYS = st.sampled_from(["components", "device", "platform", "availability", "topic", "places", "before"])
JSON: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(KEYS | st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=12,
)
PAYLOADS = st.binary(max_size=60) | JSON.map(lambda value: json.dumps(value).encode())


@given(PAYLOADS, PAYLOADS)
def test_a_config_that_is_read_can_be_merged_removed_and_written(first: bytes, second: bytes) -> None:
    found = [config for config in (read_config(first), read_config(second)) if config is not None]
    for config in (*found, PORCH):
        base = owner(config)
        assert base is None or is_topic(f"{base}/status")
        for before in (config, merged(found[0], config) if found else config):
            for now in (PORCH, None):
                removal = removal_of(before, now)
                if removal is not None:
                    payloads.encode(removal.shown)
                    payloads.encode(removal.struck or {})


@given(PAYLOADS)
def test_whatever_the_spool_remembers_is_read_or_nothing(junk: bytes) -> None:
    for place in read_places({PLACES_KEY: junk}):
        assert AnnouncedPlace.from_json(place.to_json()) == place
    for topic, (_, before) in read_missed({MISSED_KEY: junk}, NOW).items():
        assert is_topic(topic)
        payloads.encode(before)


def test_a_payload_of_ours_is_read_as_it_is() -> None:
    assert read_config(payloads.encode(PORCH)) == PORCH
    assert owner(PORCH) == "async_motion/edge1"


def test_places_and_what_was_missed_come_back() -> None:
    recalled = {
        PLACES_KEY: payloads.encode({"places": [PLACE.to_json(), {"base": 3}, PLACE.to_json()]}),
        MISSED_KEY: payloads.encode(
            {
                "a/config": {"since": payloads.iso(NOW), "before": PORCH},
                "b/config": {"since": payloads.iso(NOW - timedelta(days=MISSED_DAYS)), "before": PORCH},
                "+/config": {"since": payloads.iso(NOW), "before": PORCH},
                "c/config": {"since": "0001-01-01T00:00:00+14:00", "before": PORCH},
            }
        ),
    }
    assert read_places(recalled) == [PLACE, PLACE]
    assert read_missed(recalled, NOW) == {"a/config": (NOW, PORCH)}


@pytest.mark.parametrize("topic", ["", "a/+", "#", "$SYS/x", "a\0", "a\nb", "\ud800", "x" * 1025, 3, None])
def test_invalid_topics(topic: object) -> None:
    assert not is_topic(topic)
