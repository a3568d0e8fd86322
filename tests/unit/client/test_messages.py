"""MQTT messages that a subscriber accepts: event ends and announcements of its own instance."""

from __future__ import annotations

from typing import Any

import pytest

from async_motion.client.messages import MAX_BYTES, SeenEpochs, parse_announcement, parse_event
from async_motion.core.model import Phase
from async_motion.core.payloads import encode, event_payload, frame_payload
from tests.support.clock import BEGIN
from tests.support.records import end_of, make_event, make_record, stored_of

ENDED = end_of(make_event()).event
RECORD = make_record(make_event(), 4)


def message(phase: Phase = Phase.END, **changes: Any) -> bytes:
    payload = event_payload(phase, ENDED, now=BEGIN, frames_stored=5, best_frame=RECORD.info.object_key)
    return encode({**payload, **changes})


def test_an_end_gives_the_event() -> None:
    event = parse_event(message(no=3, writer="a41c07"), "edge1").ended
    assert event is not None
    assert (event.event_id, event.duration_s, event.frames, event.best) == (ENDED.event_id, 5.0, 5, 4)
    assert (event.no, event.writer) == (3, "a41c07")


def test_other_phases_are_not_an_end() -> None:
    assert parse_event(message(Phase.START), "edge1").ended is None
    assert parse_event(message(Phase.UPDATE), "edge1").ended is None


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"[]",
        b" " * (MAX_BYTES + 1),
        message(schema="async_motion.event/9"),
        message(instance="edge2"),
        message(camera="../x"),
        message(event_id="x"),
        message(no=0),
        message(writer="x"),
        message(zones=None),
        message(started_at=5),
    ],
)
def test_an_end_that_is_not_ours_is_refused(payload: bytes) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        parse_event(payload, "edge1")


def test_a_zone_that_is_not_a_name_is_left_out() -> None:
    event = parse_event(message(zones=["drive", "../x", 5]), "edge1").ended
    assert event is not None
    assert event.zones == ("drive",)


def test_an_announcement_gives_the_frame_of_its_instance() -> None:
    stored = stored_of(RECORD)
    payload = encode(frame_payload(stored))
    assert parse_announcement(payload, "edge1").info == stored.info
    with pytest.raises(ValueError, match="instance"):
        parse_announcement(payload, "edge2")


def test_a_phase_tells_its_lease() -> None:
    for phase in Phase:
        told = parse_event(message(phase, epoch=7, worker="two", delayed=True), "edge1")
        assert (told.camera, told.epoch, told.delayed) == (ENDED.camera, 7, True)
    assert parse_event(message(), "edge1").epoch is None


@pytest.mark.parametrize("epoch", [0, "7", True])
def test_an_invalid_epoch_is_refused(epoch: Any) -> None:
    with pytest.raises(ValueError, match="epoch"):
        parse_event(message(Phase.START, epoch=epoch), "edge1")


def test_a_lower_epoch_is_admitted_only_when_delayed() -> None:
    seen = SeenEpochs()
    assert seen.admits("porch", 3, delayed=False)
    assert seen.admits("porch", 3, delayed=False)
    assert seen.admits("porch", 5, delayed=True)
    assert not seen.admits("porch", 4, delayed=False)
    assert seen.admits("porch", 4, delayed=True)
    assert seen.admits("porch", 5, delayed=False)
    assert seen.admits("yard", 1, delayed=False)
    assert seen.admits("porch", None, delayed=False)
