"""A fleet of hosts: three NATS servers, three workers, RTSP cameras; broken by `faults`, judged by `verdict`.

    with fleet_of_hosts(folder, cameras=6) as fleet:
        judged = run_mix(fleet, seed=1, faults=20, names=possible())

With `on_quorum_loss: stop` capturing is fenced: no two workers may capture a camera. With `keep` no camera
may be without an owner, not even without a quorum; a worker that is cut off goes on, and what it announces is
delayed.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nats.errors
from nats.aio.client import Client

from async_motion.core.options import OnQuorumLoss
from async_motion.fleet.leases import bucket_name
from tests.fleet.clocks import LeapingClock, build, can_leap
from tests.fleet.network import HUB, Host, Network
from tests.fleet.oracle import ConnectionOracle
from tests.fleet.pressure import PressureLog
from tests.fleet.stage import BASE, INSTANCE, FleetStage
from tests.support.mqtt import Recorder, mosquitto
from tests.support.nats import BINARY, LEADER_S
from tests.support.rtsp import toolkit
from tests.support.s3 import seaweedfs
from tests.support.service import Service
from tests.support.video import crossing, scene, write_clip
from tests.support.wait import eventually

TTL_S = 10.0
TAKEOVER_S = 3.0
"""How long a camera may be without an owner beyond the leases' time to live."""
CAMERA_PORT = 9000
SIZE = (160, 120)
FPS = 2
CLIP_S = 45
"""A clip has one walk, and is repeated: each camera has an event this often."""
WORKERS = ("east", "north", "west")


class NatsHost:
    """A NATS server on a host of its own. Each write is synced, so that a slow disk is felt."""

    def __init__(self, host: Host, folder: Path, routes: list[str]) -> None:
        self.host = host
        self.url = f"nats://{host.address}:4222"
        folder.mkdir(parents=True)
        self._log = folder / "log"
        self._config = folder / "nats.conf"
        self._config.write_text(
            f"""
            server_name: {host.name}
            listen: "{host.address}:4222"
            http: "{host.address}:8222"
            jetstream {{ store_dir: "{folder / "js"}", sync_interval: always }}
            cluster {{ name: fleet, listen: "{host.address}:6222", routes: {json.dumps(routes)} }}
            """
        )
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            command = [*self.host.prefix, str(BINARY), "-c", str(self._config)]
            self.process = subprocess.Popen(command, stdout=log, stderr=log)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait(10)
            self.process = None

    def leads(self) -> bool:
        """Return whether this server leads the leases' stream."""
        with suppress(OSError, ValueError):
            url = f"http://{self.host.address}:8222/jsz?accounts=true&streams=true"
            with urllib.request.urlopen(url, timeout=2) as answer:
                said = json.load(answer)
            for account in said.get("account_details", ()):
                for stream in account.get("stream_detail", ()):
                    return bool(stream.get("cluster", {}).get("leader") == self.host.name)
        return False


@dataclass
class FleetOfHosts:
    """The fleet, and what a fault needs."""

    folder: Path
    stage: FleetStage
    hosts: dict[str, Host]
    nats: list[NatsHost]
    oracle: ConnectionOracle
    pressure: PressureLog
    buckets: Callable[[], set[str]]
    keeps: bool = False
    """Whether a worker without a quorum goes on."""
    clocks: dict[str, LeapingClock] = field(default_factory=dict)
    """The workers' clocks that leap, by worker."""
    ttl_s: float = TTL_S

    @property
    def bound_s(self) -> float:
        """Return how long a camera may be without an owner, in seconds."""
        return self.ttl_s + TAKEOVER_S

    def service(self, name: str) -> Service:
        return self.stage.workers[name]

    def pids(self) -> dict[str, int]:
        return {name: worker.pid for name, worker in self.stage.workers.items() if worker.running}

    def nats_pids(self) -> dict[str, int]:
        processes = {server.host.name: server.process for server in self.nats}
        return {name: process.pid for name, process in processes.items() if process is not None}

    def accepts_writes(self) -> bool:
        """Return whether the NATS servers accept a write: servers that are back elect a leader first."""

        async def write() -> None:
            client = Client()
            servers = [server.url for server in self.nats]
            async with asyncio.timeout(5):
                await client.connect(
                    servers, connect_timeout=1, allow_reconnect=False, error_cb=_expected_error
                )
                try:
                    subject = f"$KV.{bucket_name(INSTANCE)}.probe"
                    await client.jetstream(timeout=1).publish(subject, b"")
                finally:
                    await client.close()

        try:
            asyncio.run(write())
        except (nats.errors.Error, TimeoutError, OSError):
            return False
        return True

    def peers(self, everything: bool) -> list[str]:
        """Return the NATS servers' addresses; with `everything`, also that of store, broker and cameras."""
        return [server.host.address for server in self.nats] + ([HUB] if everything else [])

    def spools(self) -> int | None:
        """Return the records in all spools; None while a worker has not reported."""
        state = self.stage.newest("state")
        workers = state.get("fleet", {}).get("workers", {}) if state else {}
        if len(workers) < len(WORKERS):
            return None
        return sum(int(worker["spool_records"]) for worker in workers.values())


@contextmanager
def fleet_of_hosts(
    folder: Path, *, cameras: int, on_quorum_loss: OnQuorumLoss = "stop", ttl_s: float = TTL_S
) -> Iterator[FleetOfHosts]:
    """Run everything. Call it in an isolated namespace (`network.isolated`)."""
    names = tuple(f"cam{number:02d}" for number in range(cameras))
    ports = range(CAMERA_PORT, CAMERA_PORT + cameras)
    (folder / "clips").mkdir(parents=True)
    box = crossing(SIZE, start_s=9, length_s=4)
    images = scene(seconds=CLIP_S, fps=FPS, size=SIZE, box=box, noise=1.0)
    write_clip(folder / "clips" / "scene.mp4", images, fps=FPS, gop=2 * FPS)
    with ExitStack() as stack:
        network = stack.enter_context(Network())
        rtsp = stack.enter_context(toolkit(folder / "clips"))
        store = stack.enter_context(seaweedfs(folder / "s3"))
        broker = stack.enter_context(mosquitto(folder / "mqtt"))
        network.expose((store.port, broker.port), ports, rtsp.port)
        world = stack.enter_context(Recorder(broker.port, (f"{BASE}/#", "homeassistant/#")))
        hosts = {name: network.host(name) for name in (*WORKERS, "n1", "n2", "n3")}
        routes = [f"nats://{hosts[name].address}:6222" for name in ("n1", "n2", "n3")]
        nats = [NatsHost(hosts[name], folder / name, routes) for name in ("n1", "n2", "n3")]
        settings: dict[str, Any] = {
            "instance": INSTANCE,
            "shutdown_grace": "20s",
            "mqtt": {"host": HUB, "port": broker.port, "state_every": "2s"},
            "minio": {
                "endpoint": f"{HUB}:{store.port}",
                "access_key": store.admin.access_key,
                "secret_key": store.admin.secret_key,
            },
            "fleet": {
                "servers": [server.url for server in nats],
                "ttl": f"{ttl_s:g}s",
                "on_quorum_loss": on_quorum_loss,
            },
            "cameras": {
                name: {
                    "source": f"rtsp://{HUB}:{port}/scene.mp4/play_count_0",
                    "event": {"off_delay": "2s"},
                }
                for name, port in zip(names, ports, strict=True)
            },
        }
        stage = FleetStage(folder, [], broker, store, world, names, settings)

        async def keys() -> set[str]:
            async with store.raw() as client:
                return {
                    str(item.object_name)
                    async for item in client.list_objects("motion", recursive=True)
                    if str(item.object_name).endswith(".jpg")
                }

        oracle = ConnectionOracle(ports, pids=dict)
        fleet = FleetOfHosts(
            folder,
            stage,
            hosts,
            nats,
            oracle,
            PressureLog(lambda: fleet.pids() | fleet.nats_pids(), time.monotonic),
            lambda: asyncio.run(keys()),
            keeps=on_quorum_loss == "keep",
            ttl_s=ttl_s,
        )
        oracle.pids = fleet.pids
        for name in WORKERS:
            env: dict[str, str] = {}
            if name == WORKERS[0] and can_leap():
                clock = fleet.clocks[name] = LeapingClock(build(folder), folder / f"{name}.clock")
                env = clock.env
            own = {**settings, "fleet": {**settings["fleet"], "name": name}}
            stage.workers[name] = Service(own, folder / name, env=env, wrapper=hosts[name].prefix)
        try:
            for server in nats:
                server.start()
            eventually(
                lambda: sum(_healthy(server) for server in nats) == 3,
                within_s=LEADER_S,
                what="the NATS servers",
            )
            for worker in stage.workers.values():
                worker.start()
            stack.enter_context(oracle)
            stack.enter_context(fleet.pressure)
            yield fleet
        finally:
            for worker in stage.workers.values():
                if worker.running:
                    with suppress(ProcessLookupError):
                        os.kill(worker.pid, signal.SIGCONT)
                    worker.kill()
            for server in nats:
                server.kill()


async def _expected_error(_exc: Exception) -> None:
    """Replace nats-py's own callback, which logs a traceback for each server that was killed."""


def _healthy(server: NatsHost) -> bool:
    with suppress(OSError):
        url = f"http://{server.host.address}:8222/healthz?js-enabled-only=true"
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    return False
