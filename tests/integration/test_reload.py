"""Settings that change while the service runs: no frame is lost, open events go on, errors change nothing."""

from __future__ import annotations

import json
import signal
import urllib.request
from pathlib import Path
from typing import Any

import yaml

from tests.support.ports import free_port
from tests.support.service import Service
from tests.support.wait import eventually

POLYGON = [[0, 0], [1, 0], [1, 1], [0, 1]]


def running(folder: Path, **changes: Any) -> Service:
    """Return a service with two synthetic cameras whose events last, not started."""
    event = {"off_delay": "60s", "max_length": "10min", "frames": {"every": "200ms"}}
    cameras = {name: {"source": "demo:", "event": event} for name in ("porch", "yard")}
    ports = {"web": {"port": free_port()}, "mqtt": {"port": free_port()}}
    return Service({"instance": "edge1", **ports, "cameras": cameras, **changes}, folder)


def rewrite(service: Service, change: Any) -> dict[str, Any]:
    """Change the file as a person would, and send SIGHUP."""
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


def stored(service: Service) -> dict[str, list[str]]:
    """Return the names of the stored frames of each event."""
    found: dict[str, list[str]] = {}
    for path in sorted((service.folder / "data/objects").rglob("*.jpg")):
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
