"""A fleet on one machine: NATS servers, a broker, a store, and workers as their users would run them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.mqtt import Mosquitto, Received, Recorder, mosquitto
from tests.support.nats import NatsServer, nats_cluster, nats_server
from tests.support.s3 import S3Server, seaweedfs
from tests.support.service import Service
from tests.support.wait import eventually

INSTANCE = "town"
BASE = f"async_motion/{INSTANCE}"
TTL_S = 5.0
FAILOVER_S = TTL_S + 3.0
"""How long a camera may be without an owner."""
SLACK_S = 20.0
"""What a busy machine may add: the tests are about order, the long run measures times."""


@dataclass
class FleetStage:
    """The servers, the workers by name, and all that was published."""

    folder: Path
    nats: list[NatsServer]
    broker: Mosquitto
    store: S3Server
    world: Recorder
    cameras: tuple[str, ...]
    settings: Mapping[str, Any]
    workers: dict[str, Service] = field(default_factory=dict)

    def worker(self, name: str, **fleet: Any) -> Service:
        """Start a worker, or start it again."""
        if name not in self.workers:
            settings = {**self.settings, "fleet": {**self.settings["fleet"], "name": name, **fleet}}
            self.workers[name] = Service(settings, self.folder / name)
        return self.workers[name].start()

    # -- what the world sees

    def newest(self, topic: str) -> Any:
        """Return the newest payload on a topic below the base, None without one: JSON where it is JSON."""
        said = self.world.on(f"{BASE}/{topic}")
        if not said:
            return None
        return said[-1].json() if said[-1].payload[:1] == b"{" else said[-1].text

    def owners(self) -> dict[str, tuple[str, int]]:
        """Return worker and epoch of each camera, as the cameras' states say."""
        states = {camera: self.newest(f"{camera}/state") for camera in self.cameras}
        return {
            camera: (state["worker"], state["epoch"])
            for camera, state in states.items()
            if state is not None and "epoch" in state
        }

    def watched(self) -> bool:
        """Return whether every camera is online, by the word of a worker that lives."""
        owners = self.owners()
        return all(
            camera in owners
            and self.workers[owners[camera][0]].running
            and self.newest(f"{camera}/status") == "online"
            for camera in self.cameras
        )

    def wait_until_watched(self, within_s: float = 60.0) -> dict[str, tuple[str, int]]:
        eventually(self.watched, within_s=within_s, what="an owner for each camera")
        return self.owners()

    def offline(self) -> list[str]:
        """Return the topics on which something was reported offline."""
        return [
            message.topic
            for message in list(self.world.messages)
            if message.topic.endswith("/status") and message.text == "offline"
        ]

    def said(self) -> list[tuple[str, Received]]:
        """Return (camera, message) of every announcement and phase, in their order."""
        return [
            (camera, message)
            for message in list(self.world.messages)
            for camera in self.cameras
            if message.topic in (f"{BASE}/{camera}/frame", f"{BASE}/{camera}/event")
        ]


def older_epochs(said: list[tuple[str, Received]]) -> list[str]:
    """Return the announcements of a lower epoch after a higher one that are not delayed: there is none."""
    highest: dict[str, int] = {}
    found = []
    for camera, message in said:
        payload = message.json()
        epoch = payload["epoch"]
        if epoch < highest.get(camera, 0) and not payload["delayed"]:
            found.append(f"{camera}: {epoch} after {highest[camera]}: {json.dumps(payload)[:300]}")
        highest[camera] = max(epoch, highest.get(camera, 0))
    return found


@contextmanager
def fleet_stage(
    folder: Path, *, servers: int = 1, cameras: int = 3, source: str = "demo:", **more: Any
) -> Iterator[FleetStage]:
    """Run everything but the workers; those that run at the end are killed."""
    names = tuple(f"cam{number}" for number in range(cameras))
    with ExitStack() as stack:
        if servers == 1:  # one alone is no cluster: it would wait for the others
            nats = [stack.enter_context(nats_server(folder / "nats"))]
        else:
            nats = stack.enter_context(nats_cluster(folder / "nats", servers))
        store = stack.enter_context(seaweedfs(folder / "s3"))
        broker = stack.enter_context(mosquitto(folder / "mqtt"))
        world = stack.enter_context(Recorder(broker.port, (f"{BASE}/#", "homeassistant/#")))
        settings = {
            "instance": INSTANCE,
            "shutdown_grace": "10s",
            "mqtt": {"host": "127.0.0.1", "port": broker.port, "state_every": "2s"},
            "minio": {
                "endpoint": store.endpoint,
                "access_key": store.admin.access_key,
                "secret_key": store.admin.secret_key,
            },
            "fleet": {"servers": [server.url for server in nats], "ttl": f"{TTL_S:g}s"},
            "cameras": {name: {"source": source, "event": {"off_delay": "3s"}} for name in names},
            **more,
        }
        stage = FleetStage(folder, nats, broker, store, world, names, settings)
        try:
            yield stage
        finally:
            for worker in stage.workers.values():
                if worker.running:
                    worker.kill()
