"""Workers on real servers: an owner that dies, one that is stopped, and what the world sees of it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.fleet.stage import BASE, FAILOVER_S, SLACK_S, FleetStage, fleet_stage, older_epochs
from tests.support.wait import eventually


def devices(stage: FleetStage) -> set[str]:
    """Return where Home Assistant's devices were announced."""
    messages = list(stage.world.messages)
    return {message.topic for message in messages if message.topic.startswith("homeassistant/device/")}


def open_events(stage: FleetStage) -> dict[str, str]:
    """Return the events that have started and not ended, by camera."""
    found = {}
    for camera, message in stage.said():
        payload = message.json()
        if payload.get("type") == "start":
            found[camera] = payload["event_id"]
        elif payload.get("type") == "end" and found.get(camera) == payload["event_id"]:
            del found[camera]
    return found


@pytest.mark.fleet
@pytest.mark.timeout(240)
def test_a_worker_that_dies_is_replaced_and_nothing_blinks(tmp_path: Path) -> None:
    with fleet_stage(tmp_path) as stage:
        stage.worker("east")
        stage.worker("west")
        before = stage.wait_until_watched()
        eventually(lambda: stage.newest("status") == "online", what="the instance online")
        eventually(lambda: len(devices(stage)) == 1 + len(stage.cameras), what="the hub and the cameras")
        announced = devices(stage)
        # One with an open event, so that its end has to come from the other worker.
        eventually(lambda: open_events(stage), within_s=90, what="an open event")
        camera, event = next(iter(open_events(stage).items()))
        dead, epoch = before[camera]
        stage.world.publish(f"{BASE}/{camera}/sensitivity/set", b"high")
        eventually(lambda: stage.newest(f"{camera}/sensitivity") == "high", what="the command's confirmation")
        eventually(lambda: stage.newest(f"{camera}/memory"), what="what the next owner must know")
        counted = eventually(lambda: stage.newest(f"{camera}/state")["events_today"], what="the day's count")
        time.sleep(1.5)  # the note of the event reaches the lease
        stage.workers[dead].kill()
        killed = time.monotonic()
        eventually(
            lambda: stage.watched() and all(owner != dead for owner, _ in stage.owners().values()),
            within_s=FAILOVER_S + SLACK_S,
            what="the other worker to take all cameras",
        )
        print(f"all cameras were watched again {time.monotonic() - killed:.1f} s after the kill")
        assert stage.owners()[camera][1] > epoch
        # The commands and the count of the day have followed it.
        assert stage.newest(f"{camera}/sensitivity") == "high"
        assert stage.newest(f"{camera}/state")["events_today"] >= counted
        assert stage.offline() == []

        def cut() -> bool:
            return any(
                payload.get("type") == "end" and payload["event_id"] == event
                for _, message in stage.said()
                if (payload := message.json())
            )

        eventually(cut, what="the end of the event that was cut")
        eventually(lambda: stage.newest(f"{camera}/motion") is not None)
        # The dead one comes back: what it had accepted is delivered, and says that it is late.
        stage.worker(dead)
        stage.workers[dead].wait_for_log("fleet: connected to the NATS servers")
        stage.wait_until_watched()
        time.sleep(3)
        assert older_epochs(stage.said()) == []
        assert devices(stage) == announced
        for name in ("east", "west"):
            assert stage.workers[name].stop() == 0
        # With no worker left the wills tell, after their delay.
        eventually(lambda: stage.newest(f"{camera}/status") == "offline", within_s=30, what="the will")
        assert stage.newest("status") == "offline"
