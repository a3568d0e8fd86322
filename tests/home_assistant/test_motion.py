"""Motion as Home Assistant sees it: at once, in order, with the right image, and never too often."""

from __future__ import annotations

import json
import re
import threading
from datetime import UTC, datetime
from pathlib import Path

import cv2
import numpy as np

from tests.home_assistant.ha_harness import HarnessError, WebSocket
from tests.home_assistant.lab import Change, Lab, Watch, eventually
from tests.support.mqtt import Recorder
from tests.support.ports import free_port
from tests.support.video import Image, Place, scene, write_clip


def watching_now(lab: Lab) -> None:
    """Wait until the camera has learned its scene."""
    lab.wait(lab.entity("sensor", "status"), "Watching")


def one_event(lab: Lab, side: str = "both", *, updates: int = 0) -> None:
    """Move something until Home Assistant shows motion, then wait until it shows the end.

    `updates` is the number of updates to be published meanwhile.
    """
    with Recorder(lab.broker.port, (f"{lab.base}/{lab.name}/event",)) as recorder, lab.camera.moving(side):
        lab.wait(lab.entity("binary_sensor", "motion"), "on")
        lab.wait(lab.entity("event", "motion_event"), lambda s: s["attributes"].get("frames_stored", 0) >= 1)
        eventually(
            lambda: sum(message.json()["type"] == "update" for message in list(recorder.messages)) >= updates,
            what="the event's updates",
        )
    lab.wait(lab.entity("binary_sensor", "motion"), "off")
    lab.wait(lab.entity("event", "motion_event"), lambda s: s["attributes"].get("phase") == "end")


def test_an_event_from_its_start_to_its_end(lab: Lab) -> None:
    with lab.running(), lab.watching() as watch:
        watching_now(lab)
        began = datetime.now(UTC)
        one_event(lab, "left", updates=1)
        assert watch.states(lab.entity("binary_sensor", "motion"))[-2:] == ["on", "off"]
        assert watch.states(lab.entity("binary_sensor", "zone_drive"))[-2:] == ["on", "off"]
        told = watch.of(lab.entity("event", "motion_event"))
        kinds = [change.attributes["event_type"] for change in told if "event_type" in change.attributes]
        assert kinds[0] == "Motion started"
        assert kinds[-1] == "Motion ended"
        last = told[-1].attributes
        assert last["zones"] == ["drive"]
        assert last["frames_stored"] >= 2
        assert last["url"] is None, "links are not made unless asked for"
        assert 0 < last["score"] <= 1
        assert last["bucket"] == "motion"
        assert last["reason"] == "quiet"
        assert stored(lab, last["object_key"]).is_file()
        lab.wait(lab.entity("sensor", "events_today"), "1")
        moved = lab.wait(lab.entity("sensor", "last_motion"), lambda s: s["state"] != "unknown")
        assert datetime.fromisoformat(moved["state"]) >= began.replace(microsecond=0)

        # motion in the other half touches no zone
        one_event(lab, "right")
        assert watch.states(lab.entity("binary_sensor", "zone_drive"))[-1] == "off"
        assert watch.of(lab.entity("event", "motion_event"))[-1].attributes["zones"] == []


def stored(lab: Lab, key: str) -> Path:
    return lab.folder / "service" / "objects" / key


def test_the_snapshot_is_the_stored_frame_scaled(lab: Lab) -> None:
    settings = lab.settings(mqtt=lab.mqtt(snapshot={"max_width": 160, "quality": 90}))
    with lab.running(settings):
        watching_now(lab)
        one_event(lab)
        image = lab.entity("image", "last_motion_image")
        shown = lab.wait(image, lambda s: "object_key" in s["attributes"])["attributes"]
        status, kind, data = lab.ha.image(image)
        assert (status, kind) == (200, "image/jpeg")
        assert data == lab.retained()[f"{lab.base}/{lab.name}/snapshot"]
        small = decoded(data)
        original = decoded(stored(lab, shown["object_key"]).read_bytes())
        assert small.shape == (120, 160, 3)
        assert original.shape == (240, 320, 3)
        expected = cv2.resize(original, (160, 120), interpolation=cv2.INTER_AREA)
        assert np.abs(small.astype(int) - expected.astype(int)).mean() < 4
        assert shown["event_id"] in shown["object_key"]
        assert shown["frame_id"].startswith(shown["event_id"])


def decoded(data: bytes) -> Image:
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    return np.asarray(image, np.uint8)


def test_an_automation_on_an_event_finds_the_new_snapshot(lab: Lab) -> None:
    with lab.running(), lab.watching() as watch:
        watching_now(lab)
        for _ in range(3):
            one_event(lab)
        event, image = lab.entity("event", "motion_event"), lab.entity("image", "last_motion_image")
        starts = 0
        watch.settle()
        for number, change in enumerate(watch.changes):
            if change.entity_id == event and change.attributes.get("event_type"):
                starts += change.attributes["phase"] == "start"
                assert shown_before(watch.changes[:number], image) == change.attributes["event_id"]
        assert starts == 3
        assert_attributes_of(watch.of(image))


def assert_attributes_of(changes: list[Change]) -> None:
    """Assert that an image's state, the time of the image, never changes before its attributes."""
    frames: dict[str, str] = {}
    for change in changes:
        if change.state in (None, "unknown", "unavailable"):
            continue
        frame = change.attributes["frame_id"]
        # Attributes may come a moment before their image, so for each state the first frame counts.
        assert change.state in frames or frame not in frames.values(), f"{frame} of an older image"
        frames.setdefault(change.state, frame)
    assert len(frames) >= 3


def shown_before(changes: list[Change], image: str) -> str | None:
    """Return the event of the image that an image entity shows after these changes."""
    shown = [change.attributes.get("event_id") for change in changes if change.entity_id == image]
    return shown[-1] if shown else None


def test_motion_is_on_at_once_with_the_store_away(lab: Lab) -> None:
    nowhere = {"endpoint": f"127.0.0.1:{free_port()}", "access_key": "key", "secret_key": "secret-key"}
    with lab.running(lab.settings(minio=nowhere)) as service:
        watching_now(lab)
        hub = f"async_motion_{lab.instance}"
        with lab.camera.moving():
            lab.wait(lab.entity("binary_sensor", "motion"), "on")
        lab.wait(lab.entity("binary_sensor", "motion"), "off")
        lab.wait(f"binary_sensor.{hub}_storage_problem", "on")
        lab.wait(f"sensor.{hub}_upload_queue", lambda s: float(s["state"]) > 0)
        assert lab.state("event", "motion_event") == "unknown", "nothing is announced that is not stored"
        service.kill()  # a stop would wait for the store


def test_device_triggers_are_listed_and_fire(lab: Lab) -> None:
    with lab.running(), lab.ha.websocket() as connection:
        watching_now(lab)
        triggers = eventually(
            lambda: found if len(found := lab.ha.triggers_for(lab.identifier())) == 3 else None,
            what="three triggers",
        )
        assert triggers is not None
        fired: list[str] = []
        listening = threading.Event()

        def listen(one: WebSocket) -> None:
            for trigger in triggers:
                one.command(type="subscribe_trigger", trigger=trigger)
            listening.set()
            try:
                while True:
                    event = one.next_event(120)
                    fired.append(event["variables"]["trigger"]["payload_json"]["event_type"])
            except (HarnessError, OSError):
                return

        thread = threading.Thread(target=listen, args=(connection,), daemon=True)
        thread.start()
        assert listening.wait(30)
        one_event(lab, updates=1)
        eventually(
            lambda: set(fired) == {"motion_started", "motion_updated", "motion_ended"}, what=f"{fired}"
        )
        assert fired[0] == "motion_started"
        assert fired[-1] == "motion_ended"
        assert fired.count("motion_started") == fired.count("motion_ended") == 1
        connection.shut()
    thread.join(10)


BURST = 100
EVENT_S = 2.4


def many_events(at_s: float) -> Place | None:
    """Return a box that crosses for 1 s in every `EVENT_S`, once the scene is learned; else None."""
    since = (at_s - 15) % EVENT_S
    return (int(since * 120), 45, 30, 30) if at_s >= 15 and since < 1 else None


def test_a_hundred_events_in_a_burst_leave_the_states_right(lab: Lab) -> None:
    images = scene(seconds=15 + BURST * EVENT_S + 3, fps=5, size=(160, 120), box=many_events)
    clip = write_clip(lab.folder / "burst.mp4", images, fps=5)
    burst = {
        "source": str(clip),
        "capture": {"speed": "max", "loop": False},
        "event": {"frames": "first", "pre": "0s", "off_delay": "600ms"},
    }
    cameras = {lab.name: lab.camera_settings(), "burst": burst}
    service = lab.service(lab.settings(cameras=cameras))
    with lab.watching() as watch, service:
        lab.wait("binary_sensor.burst_motion", "off")
        eventually(lambda: finished(lab, watch), within_s=240, what="the end of the last event")
        lab.wait("sensor.burst_events_today", lambda s: int(s["state"]) >= BURST * 0.95)
        eventually(lambda: lab.ha.state("binary_sensor.burst_motion") in ("off", "unavailable"))
        image = lab.ha.states()["image.burst_last_motion_image"]["attributes"]
        event = lab.ha.states()["event.burst_motion_event"]["attributes"]
        assert image["event_id"] == event["event_id"], "both show the last event"
        watch.settle()
        counts = {
            entity: len(watch.of(entity)) / BURST
            for entity in sorted({change.entity_id for change in watch.changes})
            if ".burst_" in entity
        }
        print(json.dumps(counts, indent=1))
        assert sum(counts.values()) < 12, "state changes for each event, over all entities"


def finished(lab: Lab, watch: Watch) -> bool:
    """Return whether the event entity has reported the end of the last event, and no record is waiting."""
    queue = lab.ha.state(f"sensor.async_motion_{lab.instance}_upload_queue")
    told = watch.of("event.burst_motion_event")
    said = lab.services[0].log_text()
    ended = re.findall(r"burst: motion ended after .*, event ([\w-]+)", said)
    if "the recording has ended" not in said or not ended or not told or queue != "0":
        return False
    last = told[-1].attributes
    return (last.get("event_id"), last.get("phase")) == (ended[-1], "end")
