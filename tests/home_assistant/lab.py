"""A real service with a real camera beside a real Home Assistant, and the tests' view of all three."""

from __future__ import annotations

import contextlib
import itertools
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TypeVar

from tests.home_assistant.ha_harness import HarnessError, HomeAssistant, WebSocket
from tests.support import wait
from tests.support.mqtt import Recorder, Server, retained
from tests.support.ports import free_port
from tests.support.service import Service
from tests.support.stage_camera import StageCamera

BASE = "async_motion"
T = TypeVar("T")
EMPTIED = "No device components to cleanup for"
"""Logged by Home Assistant for its own empty message on the config topic of a device just removed."""
_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Home:
    """What all tests share: Home Assistant and its broker."""

    ha: HomeAssistant
    broker: Server


@dataclass(frozen=True, slots=True)
class Change:
    """A state change as Home Assistant announced it; `state` is None if the entity was removed."""

    entity_id: str
    state: str | None
    attributes: Mapping[str, Any]


@dataclass
class Watch:
    """Every state change since the start, in order, collected by a thread."""

    connection: WebSocket
    changes: list[Change] = field(default_factory=list)
    ended: bool = False
    pongs: set[int] = field(default_factory=set)

    def run(self) -> None:
        with contextlib.suppress(OSError, HarnessError, ValueError):
            while True:
                message = self.connection.receive(timeout=3600)
                if message["type"] == "pong":
                    self.pongs.add(message["id"])
                elif message["type"] == "event":
                    data = message["event"]["data"]
                    new = data["new_state"] or {}
                    self.changes.append(
                        Change(data["entity_id"], new.get("state"), new.get("attributes") or {})
                    )

        self.ended = True

    def settle(self) -> None:
        """Wait for every change made so far: what `Lab.wait` saw may reach this connection later."""
        if self.ended:
            return
        ping = self.connection.ping()
        eventually(lambda: self.ended or ping in self.pongs, what="Home Assistant's pong")

    def of(self, entity_id: str) -> list[Change]:
        """Return the changes of one entity until now, oldest first."""
        self.settle()
        return [change for change in list(self.changes) if change.entity_id == entity_id]

    def states(self, entity_id: str) -> list[str | None]:
        """Return the states of one entity without consecutive repeats, oldest first."""
        return [state for state, _ in itertools.groupby(change.state for change in self.of(entity_id))]


def eventually(condition: Callable[[], T], *, within_s: float = 120.0, what: str = "the condition") -> T:
    """Wait as `wait.eventually` does, but longer: Home Assistant is slow on a busy machine."""
    return wait.eventually(condition, within_s=within_s, what=what)


class Lab:
    """One instance with names of its own, so that tests do not collide in Home Assistant.

    `camera` is a network camera, `name` its name in the settings, `instance` the service's.
    """

    def __init__(self, home: Home, folder: Path) -> None:
        number = next(_numbers)
        self.ha = home.ha
        self.broker = home.broker
        self.folder = folder
        self.instance = f"lab{number}"
        self.name = f"porch{number}"
        self.camera = StageCamera()
        self.services: list[Service] = []

    def __enter__(self) -> Self:
        self.camera.start()
        self.ha.clear_logs()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for service in self.services:
            if service.running:
                service.kill()
        self.camera.stop()
        if self.ha.pid is None:
            self.ha.start()  # the test failed while it was stopped; the next test needs it
        problems = self.ha.problems()
        self.sweep()
        if kind is None:
            assert problems == [], "\n".join(map(str, problems))

    def forgive(self, at_most: int, *patterns: str) -> int:
        """Accept log records that Home Assistant or its user caused; return their number.

        Fail on any record that matches none of the `patterns`, and on more than `at_most` records.
        """
        self.settle()
        said = [record.message for record in self.ha.problems()]
        assert all(any(re.match(pattern, text) for pattern in patterns) for text in said), "\n".join(said)
        assert len(said) <= at_most, "\n".join(said)
        self.ha.clear_logs()
        return len(said)

    def forgive_emptied(self, device: str, at_most: int) -> int:
        """Accept Home Assistant's records about its own messages after `device` (in its topic) was removed.

        It empties the device's config topic itself, up to once for each entity that its user has deleted or
        that is disabled, receives that message, and warns. It does so for any device, not only ours
        (`test_home_assistant_wonders_about_its_own_messages`).
        """
        return self.forgive(at_most, rf"{EMPTIED} {device}, node_id 'async_motion_{self.instance}'$")

    def settle(self) -> None:
        """Wait until Home Assistant has processed all messages published so far, its own included."""
        topic = f"lab/settle/{next(_numbers)}"
        with self.ha.websocket() as connection:
            connection.command(type="mqtt/subscribe", topic=topic)
            # Retained: Home Assistant subscribes a moment after it has confirmed the subscription.
            self.ha.call_service("mqtt", "publish", topic=topic, payload="now", qos=1, retain=True)
            connection.next_event(60)
        self.ha.call_service("mqtt", "publish", topic=topic, payload="", qos=1, retain=True)

    def sweep(self) -> None:
        """Clear this lab's retained messages, so that Home Assistant removes its devices."""
        with Recorder(self.broker.port, (), "5") as recorder:
            found = retained(self.broker.port)
            # Device topics first: an empty message is an error to an entity that still listens.
            for topic in sorted(found, key=lambda topic: not topic.startswith("homeassistant/")):
                recorder.publish(topic, b"", retain=True)
            eventually(lambda: not self.devices(), what="an empty Home Assistant")
        self.settle()

    # -- the service

    def settings(self, **changes: Any) -> dict[str, Any]:
        """Return settings for this lab; `changes` replace whole sections."""
        return {
            "instance": self.instance,
            "mqtt": self.mqtt(),
            "spool": {"path": "spool.db"},
            "directory": {"path": "objects"},
            "web": {"port": free_port()},
            "cameras": {self.name: self.camera_settings()},
            **changes,
        }

    def mqtt(self, **changes: Any) -> dict[str, Any]:
        return {"host": "127.0.0.1", "port": self.broker.port, "state_every": "1s", **changes}

    def camera_settings(self, **changes: Any) -> dict[str, Any]:
        left = {"polygon": [[0, 0], [0.5, 0], [0.5, 1], [0, 1]]}
        return {
            "source": self.camera.url,
            "detect": {"zones": {"drive": left}},
            "event": {"frames": {"every": "400ms"}, "pre": "400ms", "off_delay": "1s"},
            **changes,
        }

    def service(self, settings: dict[str, Any] | None = None, *, folder: str = "service") -> Service:
        """Return a service that is not started yet. The same `folder` keeps the service's spool."""
        service = Service(settings or self.settings(), self.folder / folder)
        self.services.append(service)
        return service

    @contextlib.contextmanager
    def running(
        self, settings: dict[str, Any] | None = None, *, folder: str = "service"
    ) -> Iterator[Service]:
        """Run a service inside the block, which begins once Home Assistant has the first camera."""
        with self.service(settings, folder=folder) as service:
            names = list((settings or self.settings())["cameras"])
            for name in names:
                try:
                    self.wait(f"binary_sensor.{name}_motion", "off", within_s=240)
                except HarnessError as exc:
                    raise HarnessError(f"{exc}; the service said:\n{service.log_text()[-3000:]}") from None
            yield service

    @property
    def base(self) -> str:
        return f"{BASE}/{self.instance}"

    def entity(self, platform: str, key: str, name: str | None = None) -> str:
        """Return the id of an entity of the lab's camera."""
        return f"{platform}.{name or self.name}_{key}"

    # -- Home Assistant

    def wait(
        self, entity_id: str, wanted: str | Callable[[dict[str, Any]], bool], *, within_s: float = 120
    ) -> Any:
        """Wait until an entity's state matches `wanted`, and return it."""
        return self.ha.wait_for_state(entity_id, wanted, timeout=within_s)

    def state(self, platform: str, key: str) -> str | None:
        return self.ha.state(self.entity(platform, key))

    def devices(self) -> list[dict[str, Any]]:
        """Return the devices created by async_motion."""
        return [device for device in self.ha.devices() if device["manufacturer"] == BASE]

    def device(self, camera: str | None = None, *, instance: str | None = None) -> dict[str, Any] | None:
        """Return the device of a camera of this lab (the hub's for an empty name); None if there is none."""
        return self.ha.device(self.identifier(camera, instance=instance))

    def identifier(self, camera: str | None = None, *, instance: str | None = None) -> str:
        name = self.name if camera is None else camera
        return ":".join(part for part in (BASE, instance or self.instance, name) if part)

    def entities(self, camera: str | None = None) -> dict[str, dict[str, Any]]:
        """Return a device's registry entries with their states, by entity id."""
        return self.ha.entities_for(self.identifier(camera))

    @contextlib.contextmanager
    def watching(self) -> Iterator[Watch]:
        """Collect every state change inside the block."""
        with self.ha.websocket() as connection:
            connection.command(type="subscribe_events", event_type="state_changed")
            watch = Watch(connection)
            thread = threading.Thread(target=watch.run, daemon=True, name="watch")
            thread.start()
            yield watch
            connection.shut()
        thread.join(10)

    def retained(self) -> dict[str, bytes]:
        """Return everything that the broker retains."""
        return retained(self.broker.port)
