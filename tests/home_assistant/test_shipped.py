"""The files shipped for Home Assistant, and the automations of their README, in a real Home Assistant."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml

from tests.home_assistant.ha_harness import WebSocket
from tests.home_assistant.lab import Lab, eventually
from tests.support.mqtt import Recorder
from tests.support.service import ROOT

SHIPPED = ROOT / "config" / "homeassistant"
BLUEPRINTS = sorted((SHIPPED / "blueprints" / "automation").glob("*/*.yaml"))
PANEL, SIREN = "alarm_control_panel.panel", "input_boolean.siren"
SIREN_ENDS = "input_datetime.siren_ends"
MOTION = "moving"


def automate(lab: Lab, name: str, config: dict[str, Any]) -> str:
    """Create an automation as the editor does; return its id once it is on."""
    status, _, answer = lab.ha.request(
        "POST", f"/api/config/automation/config/{lab.name}_{name}", {"alias": f"{lab.name} {name}", **config}
    )
    assert status == 200, answer
    entity = f"automation.{lab.name}_{name}"
    lab.wait(entity, "on")
    return entity


def forget(lab: Lab, *entities: str) -> None:
    for entity in entities:
        lab.ha.request("DELETE", f"/api/config/automation/config/{entity.removeprefix('automation.')}")


@contextlib.contextmanager
def told(lab: Lab) -> Iterator[WebSocket]:
    """Listen to the notifications that automations send through the script of `conftest.py`."""
    with lab.ha.websocket() as connection:
        connection.command(type="subscribe_events", event_type="lab_told")
        yield connection


def once(lab: Lab) -> dict[str, Any]:
    """Return a camera's settings with one stored frame for each event."""
    return lab.camera_settings(event={"frames": "first", "pre": "0s", "off_delay": "1s"})


def test_an_automation_from_each_blueprint_does_what_it_says(lab: Lab) -> None:
    for path in BLUEPRINTS:
        lab.ha.ws(
            type="blueprint/save",
            domain="automation",
            path=f"async_motion/{path.name}",
            yaml=path.read_text("utf-8"),
            allow_override=True,
        )
    known = lab.ha.ws(type="blueprint/list", domain="automation")
    assert {f"async_motion/{path.name}" for path in BLUEPRINTS} <= known.keys()
    assert [name for name, blueprint in known.items() if "error" in blueprint] == []

    def made(name: str, blueprint: str, **inputs: Any) -> str:
        use = {"path": f"async_motion/{blueprint}.yaml", "input": inputs}
        return automate(lab, name, {"use_blueprint": use})

    with lab.running(lab.settings(cameras={lab.name: once(lab)})), told(lab) as telling:
        lab.wait(lab.entity("sensor", "status"), "Watching")
        event, motion = lab.entity("event", "motion_event"), lab.entity("binary_sensor", "motion")
        counter, image = lab.entity("sensor", "events_today"), lab.entity("image", "last_motion_image")
        lab.wait(counter, "0")
        notify = made(
            "notify", "notify_with_picture", events=[event], notify_action="script.tell", zones=["drive"]
        )
        siren = made("siren", "siren_while_armed", motion=[motion], panel=PANEL, siren=[SIREN])
        digest = made("digest", "daily_digest", events_today=[counter], notify_action="script.tell")
        lab.ha.call_service("alarm_control_panel", "alarm_arm_away", entity_id=PANEL)
        lab.wait(PANEL, "armed_away")
        with lab.camera.moving("left"):
            lab.wait(SIREN, "on")
            message = telling.next_event(60)["data"]
        lab.ha.call_service("alarm_control_panel", "alarm_disarm", entity_id=PANEL)
        lab.wait(SIREN, "off")
        lab.wait(motion, "off")
        assert message["title"] == lab.name.capitalize()
        assert message["message"] == "Motion in drive"
        assert message["data"]["image"] == f"/api/image_proxy/{image}"
        assert message["data"]["url"] == "/lovelace"
        shown = lab.wait(image, lambda state: "event_id" in state["attributes"])
        assert message["data"]["tag"] == shown["attributes"]["event_id"]
        lab.wait(counter, "1")
        lab.ha.call_service("automation", "trigger", entity_id=digest, skip_condition=False)
        message = telling.next_event(60)["data"]
        assert message["title"] == "1 motion event today"
        assert message["message"] == f"{lab.name.capitalize()}: 1"
        # Motion while the alarm is disarmed, and in no zone that counts, sends and sounds nothing.
        with lab.camera.moving("right"):
            lab.wait(counter, "2")
        lab.wait(motion, "off")
        lab.wait(event, lambda state: state["attributes"].get("phase") == "end")
        lab.settle()
        assert lab.ha.state(SIREN) == "off"
        assert telling.events == []
        forget(lab, notify, siren, digest)


def alarmed(lab: Lab, **inputs: Any) -> str:
    """Make an automation from the siren's blueprint and let it sound; return its entity."""
    path = next(path for path in BLUEPRINTS if path.stem == "siren_while_armed")
    lab.ha.ws(
        type="blueprint/save",
        domain="automation",
        path=f"async_motion/{path.name}",
        yaml=path.read_text("utf-8"),
        allow_override=True,
    )
    motion = f"input_boolean.{MOTION}"
    lab.ha.call_service("input_boolean", "turn_off", entity_id=motion)
    lab.ha.call_service("alarm_control_panel", "alarm_arm_away", entity_id=PANEL)
    lab.wait(PANEL, "armed_away")
    use = {"motion": [motion], "panel": PANEL, "siren": [SIREN], **inputs}
    name = automate(lab, "siren", {"use_blueprint": {"path": f"async_motion/{path.name}", "input": use}})
    lab.ha.call_service("input_boolean", "turn_on", entity_id=motion)
    lab.wait(SIREN, "on")
    return name


def waits(lab: Lab) -> list[tuple[float, float]]:
    """Return (Unix time of its start, seconds that it waits) of each run of the siren's automation."""
    found = []
    about = {"domain": "automation", "item_id": f"{lab.name}_siren"}
    for run in lab.ha.ws(type="trace/list", **about):
        trace = lab.ha.ws(type="trace/get", run_id=run["run_id"], **about)["trace"]
        if "action/1" in trace:  # its conditions were met
            variables = next(iter(trace.values()))[0]["changed_variables"]
            began = datetime.fromisoformat(run["timestamp"]["start"]).timestamp()
            found.append((began, float(variables["left"])))
    return sorted(found)


def test_a_siren_ends_although_home_assistant_restarts_in_mid_alarm(lab: Lab) -> None:
    name = alarmed(lab, seconds=20)
    lab.ha.restart()
    lab.wait(name, "on")
    lab.wait(PANEL, "armed_away")
    lab.wait(SIREN, "off")
    lab.ha.call_service("alarm_control_panel", "alarm_disarm", entity_id=PANEL)
    lab.wait(PANEL, "disarmed")
    forget(lab, name)


@pytest.mark.parametrize("helper", [False, True])
def test_restarts_in_mid_alarm_do_not_prolong_it(lab: Lab, helper: bool) -> None:
    name = alarmed(lab, seconds=600, **({"ends_at": SIREN_ENDS} if helper else {}))
    ((began, waited),) = eventually(partial(waits, lab), what="the alarm's trace")
    assert waited == 600
    for _ in range(2 if helper else 1):
        lab.ha.restart()
        lab.wait(name, "on")
        lab.wait(PANEL, "armed_away")
        again, left = eventually(lambda: waits(lab)[1:], what="the run after the restart")[-1]
        # The helper has whole seconds.
        assert again + left == pytest.approx(began + 600, abs=5)
        assert lab.ha.state(SIREN) == "on"
    lab.ha.call_service("alarm_control_panel", "alarm_disarm", entity_id=PANEL)
    lab.wait(SIREN, "off")
    lab.wait(PANEL, "disarmed")
    forget(lab, name)


def test_an_automation_on_an_event_saves_its_new_snapshot(lab: Lab) -> None:
    folder = lab.ha.config / "www"
    folder.mkdir(exist_ok=True)
    settings = lab.settings(
        cameras={lab.name: once(lab)}, mqtt=lab.mqtt(snapshot={"max_width": 160, "quality": 90})
    )
    snapshot = f"{lab.base}/{lab.name}/snapshot"
    with (
        lab.running(settings),
        told(lab) as telling,
        Recorder(lab.broker.port, (snapshot, f"{snapshot}/frame")) as recorder,
    ):
        lab.wait(lab.entity("sensor", "status"), "Watching")
        event, image = lab.entity("event", "motion_event"), lab.entity("image", "last_motion_image")
        lab.wait(event, "unknown")
        saving = {
            "mode": "queued",
            "triggers": [{"trigger": "state", "entity_id": event}],
            "conditions": ["{{ trigger.to_state.attributes.phase == 'start' }}"],
            "actions": [
                {
                    "action": "image.snapshot",
                    "target": {"entity_id": image},
                    "data": {"filename": f"{folder}/{{{{ trigger.to_state.attributes.event_id }}}}.jpg"},
                },
                {
                    "event": "lab_told",
                    "event_data": {
                        "event": "{{ trigger.to_state.attributes.event_id }}",
                        "key": "{{ trigger.to_state.attributes.object_key }}",
                        "picture": f"{{{{ state_attr('{image}', 'event_id') }}}}",
                    },
                },
            ],
        }
        automation = automate(lab, "saving", saving)
        seen = set()
        for _ in range(3):
            with lab.camera.moving():
                found = telling.next_event(60)["data"]
            lab.wait(lab.entity("binary_sensor", "motion"), "off")
            assert found["picture"] == found["event"]
            saved = (folder / f"{found['event']}.jpg").read_bytes()
            eventually(partial(was_shown, recorder, found["event"], saved), what="the image on the broker")
            original = image_of(stored(lab, found["key"]).read_bytes())
            expected = cv2.resize(original, (160, 120), interpolation=cv2.INTER_AREA)
            assert np.abs(image_of(saved).astype(int) - expected.astype(int)).mean() < 4
            seen.add(found["event"])
        assert len(seen) == 3
        forget(lab, automation)


def was_shown(recorder: Recorder, event_id: str, image: bytes) -> bool:
    """Return whether an image was published for an event: its announcement follows the image."""
    return any(
        announced.topic.endswith("/frame")
        and announced.json()["event_id"] == event_id
        and shown.payload == image
        for shown, announced in itertools.pairwise(list(recorder.messages))
    )


def stored(lab: Lab, key: str) -> Path:
    return lab.folder / "service" / "objects" / key


def image_of(data: bytes) -> Any:
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert decoded is not None
    return decoded


def test_the_dashboard_loads_and_all_that_it_shows_is_there(lab: Lab) -> None:
    text = (SHIPPED / "dashboard.yaml").read_text("utf-8")
    text = text.replace("porch", lab.name).replace("edge1", lab.instance)
    dashboard = yaml.safe_load(text)
    lab.ha.ws(type="lovelace/config/save", config=dashboard)
    assert lab.ha.ws(type="lovelace/config", force=True) == dashboard
    named = set(entities_in(dashboard))
    assert len(named) > 15
    with lab.running():
        eventually(lambda: named <= lab.ha.states().keys(), what=f"{named - lab.ha.states().keys()}")


def entities_in(node: Any) -> Iterator[str]:
    """Yield every entity id that a dashboard names."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key in ("entity", "entity_id"):
                yield from [value] if isinstance(value, str) else value
            else:
                yield from entities_in(value)
    elif isinstance(node, list):
        for value in node:
            yield from [] if isinstance(value, str) else entities_in(value)
