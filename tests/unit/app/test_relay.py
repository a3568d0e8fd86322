"""Observations of one camera, until it is abandoned."""

from __future__ import annotations

from unittest.mock import Mock, call

from async_motion.app.relay import ObserverRelay
from tests.support.records import make_event


def test_what_an_abandoned_camera_left_on_is_off_and_it_says_no_more() -> None:
    observer = Mock()
    relay = ObserverRelay(observer)
    event = make_event(camera="porch")
    relay.camera_online("porch")
    relay.motion("porch", on=True)
    relay.zone_motion("porch", "drive", on=True)
    relay.zone_motion("porch", "lawn", on=True)
    relay.zone_motion("porch", "lawn", on=False)
    relay.event_started(event)
    assert len(observer.mock_calls) == 6
    seen = Mock()
    viewer = relay.viewer(seen)
    viewer(frame := Mock(), detection := Mock())
    seen.assert_called_once_with(frame, detection)
    observer.reset_mock()
    relay.close("porch", "hangs")
    assert observer.mock_calls == [
        call.zone_motion("porch", "drive", on=False),
        call.motion("porch", on=False),
        call.camera_offline("porch", "hangs"),
    ]
    observer.reset_mock()
    relay.camera_online("porch")
    relay.camera_offline("porch", "stopped")
    relay.motion("porch", on=False)
    relay.zone_motion("porch", "drive", on=True)
    relay.event_ended(event)
    relay.dropped("porch", "encode", 1)
    relay.problem("porch", "dark")
    viewer(frame, detection)
    assert observer.mock_calls == []
    seen.assert_called_once()
