"""Removal of components and devices: shown, struck, then left out."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_motion.core.names import Topics
from async_motion.home_assistant.entities import CameraSite, ServiceInfo
from async_motion.home_assistant.payloads import camera_payload
from async_motion.home_assistant.removal import merged, removal_of

TOPICS = Topics("async_motion/edge1")
SITE = ServiceInfo(instance="edge1", version="0.1.0", topics=TOPICS, preview=True)
PORCH = CameraSite(name="porch", title="Front porch", zones=("drive", "path"))


def test_nothing_is_removed_where_nothing_went() -> None:
    payload = camera_payload(SITE, PORCH)
    assert removal_of(payload, payload) is None
    more = camera_payload(SITE, CameraSite(name="porch", zones=("drive", "path", "lawn")))
    assert removal_of(payload, more) is None


def test_a_component_is_shown_then_struck_by_its_platform_alone_then_left_out() -> None:
    before = camera_payload(SITE, PORCH)
    now = camera_payload(SITE, CameraSite(name="porch", zones=("path",)))
    removal = removal_of(before, now)
    assert removal is not None
    assert removal.shown["components"]["zone_drive"] == before["components"]["zone_drive"]
    assert removal.struck is not None
    assert removal.struck["components"]["zone_drive"] == {"platform": "binary_sensor"}
    assert removal.left == now
    for step in (removal.shown, removal.struck):
        assert {k: v for k, v in step["components"].items() if k != "zone_drive"} == now["components"]
    assert removal_of(removal.struck, now) is None, "what is struck cannot be shown again"


def test_a_component_that_changes_its_platform_is_struck_under_the_old_one() -> None:
    now = camera_payload(SITE, PORCH)
    before = {**now, "components": {**now["components"], "score": {"platform": "number", "unique_id": "x"}}}
    removal = removal_of(before, now)
    assert removal is not None
    assert removal.struck is not None
    assert removal.struck["components"]["score"] == {"platform": "number"}
    assert removal.left == now


def test_a_device_goes_by_an_empty_payload() -> None:
    before = camera_payload(SITE, PORCH)
    removal = removal_of(before, None)
    assert removal is not None
    assert (removal.shown, removal.struck, removal.left) == (before, None, None)


JSON: Any = st.recursive(
    st.none() | st.booleans() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["components", "platform", "motion", "device", "x"]), inner, max_size=3
        )
    ),
    max_leaves=10,
)


@given(before=st.dictionaries(st.sampled_from(["components", "device", "x"]), JSON, max_size=3))
def test_whatever_lies_on_the_broker_is_taken_or_left(before: dict[str, Any]) -> None:
    now = camera_payload(SITE, PORCH)
    for wanted in (now, None):
        removal = removal_of(before, wanted)
        if removal is not None:
            assert removal.left == wanted


@pytest.mark.parametrize("older", [{}, {"components": {"a": {"platform": "sensor", "name": "old"}}}])
def test_merging_keeps_the_newer(older: dict[str, Any]) -> None:
    newer = {"components": {"a": {"platform": "sensor", "name": "new"}, "b": {}}, "device": 1}
    assert merged(older, newer) == newer
    assert set(merged({"components": {"c": {}}}, newer)["components"]) == {"a", "b", "c"}
