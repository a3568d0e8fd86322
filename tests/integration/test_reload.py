"""Settings change while the service runs: no frame is lost, open events go on, errors change nothing."""

from __future__ import annotations

import json
import signal
import urllib.request
from pathlib import Path
from typing import Any

import yaml

from tests.support.mqtt import Recorder, mosquitto, retained
from tests.support.ports import free_port
from tests.support.service import Service
from tests.support.wait import eventually

POLYGON = [[0, 0], [1, 0], [1, 1], [0, 1]]


def running(folder: Path, **changes: Any) -> Service:
    """Return a service, not started, with two synthetic cameras whose events last long."""
    event = {"off_delay": "60s", "max_length": "10min", "frames": {"every": "200ms"}}
    cameras = {name: {"source": "demo:", "event": event} for name in ("porch", "yard")}
    ports = {"web": {"port": free_port()}, "mqtt": {"port": free_port()}}
    return Service({"instance": "edge1", **ports, "cameras": cameras, **changes}, folder)


def rewrite(service: Service, change: Any) -> dict[str, Any]:
    """Change the settings file as a user would, and send SIGHUP."""
    settings: dict[str, Any] = yaml.safe_load(service.config.read_text())
    change(settings)
    service.config.write_text(yaml.safe_dump(settings))
    service.process.send_signal(signal.SIGHUP)
    return settings


def state(service: Service) -> dict[str, Any]:
    port = yaml.safe_load(service.config.read_text())["web"]["port"]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/state", timeout=10) as answer:
        found: dict[str, Any] = json.load(answer)
        return found


def port_of(service: Service) -> int:
    """Return the embedded broker's port, once it listens."""
    return int(service.wait_for_log("embedded broker: MQTT").rpartition(":")[2])


def events(service: Service) -> list[dict[str, Any]]:
    port = yaml.safe_load(service.config.read_text())["web"]["port"]
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/events", timeout=10) as answer:
            found: list[dict[str, Any]] = json.load(answer)["events"]
            return found
    except OSError:  # the page restarts
        return []


def stored(service: Service, folder: str = "objects") -> dict[str, list[str]]:
    """Return the names of the stored frames of each event."""
    found: dict[str, list[str]] = {}
    for path in sorted((service.folder / "data" / folder).rglob("*.jpg")):
        found.setdefault(path.parent.name, []).append(path.name)
    return found


def test_an_open_event_goes_on_while_detection_changes(tmp_path: Path) -> None:
    with running(tmp_path) as service:
        began = service.wait_for_log("porch: motion started")
        event = began.rpartition(" ")[2]
        frames = eventually(lambda: stored(service).get(event), what="its first frames")
        assert frames

        def change(settings: dict[str, Any]) -> None:
            detect = {
                "zones": {"path": {"polygon": POLYGON}},
                "min_area": "0.1%",
                "masks": [[[0, 0], [0.1, 0], [0, 0.1]]],
            }
            settings["cameras"]["porch"]["detect"] = detect

        rewrite(service, change)
        service.wait_for_log("reload: porch: changed in place")
        count = len(stored(service)[event])
        eventually(lambda: len(stored(service)[event]) > count, what="more frames of the same event")
        assert not [line for line in service.messages() if "motion ended" in line]
        assert not [line for line in service.messages() if "learning again" in line]
        names = stored(service)[event]
        assert names == [f"{seq:06d}.jpg" for seq in range(len(names))], "without a gap"


def test_only_what_changed_restarts_and_cameras_come_and_go(tmp_path: Path) -> None:
    with running(tmp_path) as service:
        service.wait_for_log("porch: watching")
        service.wait_for_log("yard: watching")

        def change(settings: dict[str, Any]) -> None:
            settings["cameras"]["porch"]["detect"] = {"fps": 3}
            settings["cameras"]["gate"] = {"source": "demo:"}

        rewrite(service, change)
        service.wait_for_log("gate: watching")
        service.wait_for_log("porch: watching", times=2)
        assert set(eventually(lambda: state(service)["cameras"])) == {"porch", "yard", "gate"}
        rewrite(service, lambda settings: settings["cameras"].pop("gate"))
        service.wait_for_log("reload: gate: removed")
        eventually(lambda: set(state(service)["cameras"]) == {"porch", "yard"}, what="one camera less")
        assert len([line for line in service.messages() if line.startswith("yard: watching")]) == 1


def test_settings_that_are_not_valid_change_nothing_and_are_shown(tmp_path: Path) -> None:
    with running(tmp_path) as service:
        service.wait_for_log("porch: watching")
        before = service.config.read_text()
        rewrite(service, lambda settings: settings["cameras"]["porch"].update(detect={"fps": "fast"}))
        problem = service.wait_for_log("fps: 'fast'")
        assert str(service.config) in problem
        service.wait_for_log("nothing was changed")
        assert "fps" in eventually(lambda: state(service)["settings"]["problem"])
        assert state(service)["cameras"]["porch"]["status"] == "watching"
        service.config.write_text(before)
        service.process.send_signal(signal.SIGHUP)
        service.wait_for_log("nothing has changed")
        eventually(lambda: state(service)["settings"]["problem"] is None, what="the problem gone")


def test_the_store_moves_while_an_event_goes_on(tmp_path: Path) -> None:
    with running(tmp_path) as service, Recorder(port_of(service), ("async_motion/#",)) as recorder:
        event = service.wait_for_log("porch: motion started").rpartition(" ")[2]
        before = eventually(lambda: stored(service).get(event) or [], what="its first frames")
        rewrite(service, lambda settings: settings.update(directory={"path": "data/moved"}))
        service.wait_for_log("reload: directory.path: the store is reopened")
        service.wait_for_log("store: directory data/moved: accepts frames")
        moved = eventually(
            lambda: stored(service, "moved").get(event) or [], what="the same event in the other store"
        )
        assert not [line for line in service.messages() if "motion ended" in line]
        assert len([line for line in service.messages() if line.startswith("porch: watching")]) == 1
        first, last = int(before[0][:6]), int(moved[-1][:6])
        every = {f"{seq:06d}.jpg" for seq in range(first, last + 1)}
        eventually(
            lambda: every <= {*stored(service)[event], *stored(service, "moved")[event]},
            what="each frame in one of the two",
        )
        announced = [message.json()["seq"] for message in recorder.on("async_motion/edge1/porch/frame")]
        assert announced == sorted(announced)
        # The page reads from the new store.
        eventually(
            lambda: [each for each in events(service) if each["event_id"] == event], what="it on the page"
        )
        state_now = state(service)
        assert state_now["stored"] >= len(before), "the counters go on"


def test_a_store_that_cannot_be_opened_leaves_the_old_one(tmp_path: Path) -> None:
    with running(tmp_path) as service:
        event = service.wait_for_log("porch: motion started").rpartition(" ")[2]
        eventually(lambda: stored(service).get(event), what="its first frames")
        (tmp_path / "no-authority.pem").write_text("this is no certificate")
        minio = {"endpoint": "127.0.0.1:9", "secure": True, "ca_file": str(tmp_path / "no-authority.pem")}
        minio |= {"access_key": "key", "secret_key": "secret-key"}
        rewrite(service, lambda settings: settings.update(minio=minio))
        service.wait_for_log("nothing was changed")
        assert "ca_file" in eventually(lambda: state(service)["settings"]["problem"], what="the problem")
        count = len(stored(service)[event])
        eventually(lambda: len(stored(service)[event]) > count, what="more frames where they were")


def test_the_broker_moves_while_an_event_goes_on(tmp_path: Path) -> None:
    with (
        mosquitto(tmp_path / "old") as old,
        mosquitto(tmp_path / "new", login=("edge", "right")) as new,
        running(tmp_path, mqtt={"host": "127.0.0.1", "port": old.port}) as service,
    ):
        event = service.wait_for_log("porch: motion started").rpartition(" ")[2]
        login = {"host": "127.0.0.1", "port": new.port, "username": "edge", "password": "right"}
        with Recorder(new.port, ("async_motion/#",), username="edge", password="right") as recorder:
            rewrite(service, lambda settings: settings.update(mqtt=login))
            frame = recorder.wait("async_motion/edge1/porch/frame").json()
            assert frame["event_id"] == event
            assert recorder.texts("async_motion/edge1/porch/motion")[-1] == "ON"
            assert "online" in recorder.texts("async_motion/edge1/status")
            assert retained(old.port, "async_motion/edge1/status") == {
                "async_motion/edge1/status": b"offline"
            }
            # Commands reach the service through the other broker.
            recorder.publish("async_motion/edge1/reload/set", "PRESS")
            service.wait_for_log("reload: nothing has changed")
        assert not [line for line in service.messages() if "motion ended" in line]
        assert len([line for line in service.messages() if line.startswith("porch: watching")]) == 1


def test_a_command_reloads_and_its_failure_is_in_the_state(tmp_path: Path) -> None:
    base = "async_motion/edge1"
    with running(tmp_path) as service, Recorder(port_of(service), (f"{base}/state",)) as recorder:
        service.wait_for_log("porch: watching")
        before = service.config.read_text()
        recorder.publish(f"{base}/reload/set", "now")
        service.wait_for_log(f"command on {base}/reload/set ignored: expected PRESS")
        service.config.write_text(before.replace("max_length", "longest"))
        recorder.publish(f"{base}/reload/set", "PRESS")
        service.wait_for_log("nothing was changed")
        problem = recorder.wait(lambda message: bool(message.json()["settings"]["problem"])).json()
        assert "longest" in problem["settings"]["problem"]
        assert f"{service.config}:" in problem["settings"]["problem"], "with its line"
        service.config.write_text(before.replace("10min", "9min"))
        recorder.publish(f"{base}/reload/set", "PRESS")
        service.wait_for_log("reload: porch, yard: changed in place")
        eventually(
            lambda: recorder.on(f"{base}/state")[-1].json()["settings"]["problem"] is None,
            what="the problem gone",
        )


def test_other_sections_restart_the_parts_and_lose_nothing(tmp_path: Path) -> None:
    with running(tmp_path) as service:
        event = service.wait_for_log("porch: motion started").rpartition(" ")[2]
        eventually(lambda: stored(service).get(event), what="its first frames")
        pid = service.pid
        rewrite(service, lambda settings: settings["mqtt"].update(base_topic="elsewhere"))
        service.wait_for_log("all parts of the service restart")
        service.wait_for_log("porch: watching", times=2)
        assert service.pid == pid
        assert service.running
        again = service.wait_for_log("porch: motion started", times=2).rpartition(" ")[2]
        eventually(lambda: stored(service).get(again), what="frames of the next event")
        names = stored(service)[event]
        assert names == [f"{seq:06d}.jpg" for seq in range(len(names))], "without a gap"
