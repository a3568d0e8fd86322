"""Break a fleet of hosts by a seed, then judge it: three NATS servers, three workers, RTSP cameras.

    with fleet_of_hosts(folder, cameras=6) as fleet:
        verdict = run_mix(fleet, seed=1, faults=20)

One fault at a time is drawn, held, repaired; the next comes when each camera has its one owner again.

With `on_quorum_loss: stop` capturing is fenced: no two workers may capture a camera. With `keep` no camera
may be without an owner, not even without a quorum; a worker that is cut off goes on, and what it announces is
delayed.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import time
import urllib.request
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from async_motion.core.options import OnQuorumLoss
from tests.fleet.cgroups import DISK, FREEZER, Group, can_freeze, can_slow_disks
from tests.fleet.network import HUB, Direction, Host, Network
from tests.fleet.oracle import ConnectionOracle, Span
from tests.fleet.stage import BASE, INSTANCE, FleetStage, older_epochs
from tests.support.mqtt import Recorder, mosquitto
from tests.support.nats import BINARY, LEADER_S
from tests.support.rtsp import toolkit
from tests.support.s3 import seaweedfs
from tests.support.service import Service
from tests.support.video import crossing, scene, write_clip
from tests.support.wait import eventually

TTL_S = 10.0
BOUND_S = TTL_S + 3.0
"""How long a camera may be without an owner."""
CAMERA_PORT = 9000
WORKERS = ("east", "north", "west")
FAKETIME = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1"
RECOVERY_S = 120.0
SETTLE_S = 4.0
"""Pause after a repair: the leases are renewed once."""


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
    buckets: Callable[[], set[str]]
    keeps: bool = False
    """Whether a worker without a quorum goes on."""
    clocks: dict[str, Path] = field(default_factory=dict)

    def worker(self, rng: random.Random) -> str:
        return rng.choice(WORKERS)

    def service(self, name: str) -> Service:
        return self.stage.workers[name]

    def pids(self) -> dict[str, int]:
        return {name: worker.pid for name, worker in self.stage.workers.items() if worker.running}

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


# -- the faults: break, hold for `hold_s`, repair


def kill_worker(fleet: FleetOfHosts, rng: random.Random, hold_s: float) -> str:
    name = fleet.worker(rng)
    fleet.service(name).kill()
    time.sleep(hold_s)
    fleet.service(name).start()
    return name


def stop_worker(fleet: FleetOfHosts, rng: random.Random, hold_s: float) -> str:
    """SIGSTOP, then SIGCONT."""
    name = fleet.worker(rng)
    pid = fleet.service(name).pid
    fleet.oracle.frozen.add(name)
    os.kill(pid, signal.SIGSTOP)
    time.sleep(hold_s)
    os.kill(pid, signal.SIGCONT)
    fleet.oracle.thawed[name] = time.monotonic()
    fleet.oracle.frozen.discard(name)
    return name


def freeze_worker(fleet: FleetOfHosts, rng: random.Random, hold_s: float) -> str:
    """Freeze by cgroup, as in a suspended host."""
    name = fleet.worker(rng)
    group = Group(FREEZER, name)
    group.take(fleet.service(name).pid)
    fleet.oracle.frozen.add(name)
    group.freeze(True)
    time.sleep(hold_s)
    group.freeze(False)
    fleet.oracle.thawed[name] = time.monotonic()
    fleet.oracle.frozen.discard(name)
    group.close()
    return name


def _cut(fleet: FleetOfHosts, rng: random.Random, hold_s: float, direction: Direction) -> str:
    name = fleet.worker(rng)
    everything = rng.random() < 0.4
    fleet.hosts[name].cut(direction, fleet.peers(everything))
    time.sleep(hold_s)
    fleet.hosts[name].heal()
    return f"{name}, {'all' if everything else 'NATS only'}"


def cut_in(fleet: FleetOfHosts, rng: random.Random, hold_s: float) -> str:
    return _cut(fleet, rng, hold_s, "in")


def cut_out(fleet: FleetOfHosts, rng: random.Random, hold_s: float) -> str:
    return _cut(fleet, rng, hold_s, "out")


def cut_both(fleet: FleetOfHosts, rng: random.Random, hold_s: float) -> str:
    return _cut(fleet, rng, hold_s, "both")


def kill_leader(fleet: FleetOfHosts, _rng: random.Random, hold_s: float) -> str:
    """SIGKILL to the NATS server that leads the leases' stream."""
    leader = next((server for server in fleet.nats if server.leads()), fleet.nats[0])
    leader.kill()
    time.sleep(hold_s)
    leader.start()
    return leader.host.name


def kill_majority(fleet: FleetOfHosts, rng: random.Random, hold_s: float) -> str:
    chosen = rng.sample(fleet.nats, 2)
    if not fleet.keeps:
        fleet.oracle.begin_excuse("no quorum")
    for server in chosen:
        server.kill()
    time.sleep(hold_s)
    for server in chosen:
        server.start()
    return ", ".join(server.host.name for server in chosen)


def leap_clock(fleet: FleetOfHosts, rng: random.Random, hold_s: float) -> str:
    """Let a worker's wall clock leap, and leap back."""
    name, leap_s = rng.choice(sorted(fleet.clocks)), rng.choice((-7200, -60, 60, 7200))
    fleet.clocks[name].write_text(f"{leap_s:+d}\n")
    time.sleep(hold_s)
    fleet.clocks[name].write_text("+0\n")
    return f"{name} {leap_s:+d} s"


def slow_disk(fleet: FleetOfHosts, rng: random.Random, hold_s: float) -> str:
    """Let one NATS server write as slowly as renewals allow: with fewer writes there is no quorum."""
    server = rng.choice(fleet.nats)
    assert server.process is not None
    device = fleet.folder.stat().st_dev
    group = Group(DISK, server.host.name)
    group.take(server.process.pid)
    group.limit_writes(device, max(4, len(fleet.stage.cameras)))
    time.sleep(hold_s)
    group.limit_writes(device, 0)
    group.close()
    return server.host.name


Fault = Callable[[FleetOfHosts, random.Random, float], str]

FAULTS: dict[str, Fault] = {
    fault.__name__: fault
    for fault in (
        kill_worker,
        stop_worker,
        freeze_worker,
        cut_in,
        cut_out,
        cut_both,
        kill_leader,
        kill_majority,
        leap_clock,
        slow_disk,
    )
}


ON_WORKERS = {"kill_worker", "stop_worker", "freeze_worker", "cut_in", "cut_out", "cut_both", "leap_clock"}
"""The faults of one worker, which their text names first."""


def possible() -> list[str]:
    """Return the faults that this machine allows."""
    left_out = set()
    if not can_freeze():
        left_out.add("freeze_worker")
    if not can_slow_disks():
        left_out.add("slow_disk")
    if not Path(FAKETIME).exists():
        left_out.add("leap_clock")
    return [name for name in FAULTS if name not in left_out]


def schedule(rng: random.Random, names: list[str], count: int) -> Iterator[tuple[str, float]]:
    """Yield `count` faults and how long each lasts; each kind comes once before any comes again."""
    bag: list[str] = []
    for _ in range(count):
        if not bag:
            bag = rng.sample(names, len(names))
        long = rng.random() < 0.6
        yield bag.pop(), rng.uniform(1.2, 2.0) * TTL_S if long else rng.uniform(0.2, 0.8) * TTL_S


# -- the fleet


@contextmanager
def fleet_of_hosts(
    folder: Path, *, cameras: int, on_quorum_loss: OnQuorumLoss = "stop"
) -> Iterator[FleetOfHosts]:
    """Run everything. Call it in an isolated namespace (`network.isolated`)."""
    names = tuple(f"cam{number:02d}" for number in range(cameras))
    ports = range(CAMERA_PORT, CAMERA_PORT + cameras)
    size = (320, 240)
    (folder / "clips").mkdir(parents=True)
    box = crossing(size, start_s=9, length_s=5)
    write_clip(
        folder / "clips" / "scene.mp4", scene(seconds=30, fps=5, size=size, box=box, noise=2.0), fps=5, gop=10
    )
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
                "ttl": f"{TTL_S:g}s",
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
            folder, stage, hosts, nats, oracle, lambda: asyncio.run(keys()), on_quorum_loss == "keep"
        )
        oracle.pids = fleet.pids
        for name in WORKERS:
            env = {}
            if name == WORKERS[0] and Path(FAKETIME).exists():
                fleet.clocks[name] = folder / f"{name}.clock"
                fleet.clocks[name].write_text("+0\n")
                env = {
                    "LD_PRELOAD": FAKETIME,
                    "FAKETIME_DONT_FAKE_MONOTONIC": "1",
                    "FAKETIME_TIMESTAMP_FILE": str(fleet.clocks[name]),
                    "FAKETIME_CACHE_DURATION": "1",
                }
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
            yield fleet
        finally:
            for worker in stage.workers.values():
                if worker.running:
                    with suppress(ProcessLookupError):
                        os.kill(worker.pid, signal.SIGCONT)
                    worker.kill()
            for server in nats:
                server.kill()


def _healthy(server: NatsHost) -> bool:
    with suppress(OSError):
        url = f"http://{server.host.address}:8222/healthz?js-enabled-only=true"
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    return False


# -- the run and its verdict


@dataclass
class Judgement:
    """What a run has shown. It holds if `problems` is empty."""

    problems: list[str]
    figures: dict[str, Any]


def run_mix(
    fleet: FleetOfHosts, *, seed: int, faults: int, names: list[str], slack_s: float = 0.0
) -> Judgement:
    """Inject `faults` faults, repair, and judge. `slack_s` is what a busy machine adds to a failover."""
    rng = random.Random(seed)
    oracle, stage = fleet.oracle, fleet.stage
    problems: list[str] = []
    counts: Counter[str] = Counter()
    moved: list[int] = []
    eventually(oracle.covered, within_s=LEADER_S, what="an owner for each camera")
    eventually(lambda: len(_devices(fleet)) == 1 + len(stage.cameras), within_s=60, what="the devices")
    devices = _devices(fleet)
    time.sleep(SETTLE_S)
    oracle.end_excuse()
    begun = time.monotonic()
    for name, hold_s in schedule(rng, names, faults):
        counts[name] += 1
        at, before = time.monotonic(), dict(oracle.owners)
        what = FAULTS[name](fleet, rng, hold_s)
        repaired = time.monotonic()
        try:
            eventually(oracle.covered, within_s=RECOVERY_S, what="one owner for each camera")
        except AssertionError as exc:
            problems.append(f"{name} ({what}): {exc}: {oracle.owners}")
            break
        if oracle.excuse is not None:
            oracle.end_excuse()
        if name in ON_WORKERS:
            moved.append(_moved(before, oracle.owners, broken=what.split()[0].rstrip(",")))
        gaps = [gap for gap in oracle.gaps if gap.end_s > at]
        worst = max((gap.length_s for gap in gaps), default=0.0)
        after = time.monotonic() - repaired
        print(
            f"{at - begun:7.1f} s  {name:14} {what:22} {hold_s:5.1f}s; covered {after:5.1f} s later,"
            f" longest gap {worst:.1f} s",
            flush=True,
        )
        time.sleep(SETTLE_S)
    lasted = time.monotonic() - begun
    problems += _judge_end(fleet, devices)
    problems += _judge_connections(oracle, slack_s, keeps=fleet.keeps)
    problems += older_epochs(stage.said())
    lost, figures = _judge_frames(fleet)
    problems += lost
    if max(moved, default=0) > len(stage.cameras) / len(WORKERS) + 2:
        problems.append(f"{max(moved)} cameras moved that the broken worker did not own")
    thawed = [span.length_s for span in oracle.overlaps if span.excused]
    own = [gap.length_s for gap in oracle.gaps if gap.excused is None]
    figures |= {
        "seed": seed,
        "faults": sum(counts.values()),
        "kinds": dict(counts),
        "minutes": round(lasted / 60, 1),
        "cameras": len(stage.cameras),
        "gaps": len(own),
        "longest_gap_s": round(max(own, default=0.0), 1),
        "gaps_beyond_bound": sum(length > BOUND_S for length in own),
        "overlaps": sum(span.excused is None for span in oracle.overlaps),
        "moved_of_others": max(moved, default=0),
        "after_thaw_s": round(max(thawed, default=0.0), 1),
    }
    return Judgement(problems, figures)


def _moved(
    before: Mapping[int, tuple[str, ...]], after: Mapping[int, tuple[str, ...]], *, broken: str
) -> int:
    """Return how many cameras moved that the broken worker did not own."""
    return sum(before[camera] not in (after[camera], (broken,)) for camera in before)


def _devices(fleet: FleetOfHosts) -> dict[str, str]:
    """Return Home Assistant's devices: the newest payload of each topic, with what may change left out."""
    found = {}
    for message in list(fleet.stage.world.messages):
        if message.topic.startswith("homeassistant/device/"):
            found[message.topic] = sorted(message.json()["components"]) if message.payload else "removed"
    return {topic: str(what) for topic, what in found.items()}


def _judge_end(fleet: FleetOfHosts, devices: dict[str, str]) -> list[str]:
    """Let the spools run empty and the workers end; return what is stuck."""
    stage, problems = fleet.stage, []
    try:
        eventually(lambda: fleet.spools() == 0, within_s=180, what=f"empty spools ({fleet.spools()} records)")
    except AssertionError as exc:
        problems.append(str(exc))
    if _devices(fleet) != devices:
        problems.append("Home Assistant's devices have changed")
    for name, worker in stage.workers.items():
        code = worker.stop(120)
        if code != 0:
            problems.append(f"{name}: exit code {code}: {worker.log_text()[-1500:]}")
    stuck = [camera for camera in stage.cameras if stage.newest(f"{camera}/motion") == "ON"]
    problems += [f"{camera}: motion is stuck ON" for camera in stuck]
    return problems


def _judge_connections(oracle: ConnectionOracle, slack_s: float, *, keeps: bool) -> list[str]:
    """Return the gaps beyond the bound and, unless `keeps`, the times of two owners at once."""
    late = [span for span in oracle.gaps if span.excused is None and span.length_s > BOUND_S + slack_s]
    twice = [span for span in oracle.overlaps if span.excused is None and span.length_s > 0.3]
    slow = [span for span in oracle.overlaps if span.excused is not None and span.length_s > 5 + slack_s]
    if keeps:
        twice = slow = []

    def said(what: str, spans: list[Span]) -> list[str]:
        return [
            f"camera {span.camera}: {what} for {span.length_s:.1f} s {' and '.join(span.workers)}"
            for span in spans
        ]

    return [
        *said("no owner", late),
        *said("two owners", twice),
        *said("two owners after a thaw", slow),
    ]


def _judge_frames(fleet: FleetOfHosts) -> tuple[list[str], dict[str, Any]]:
    """Return what is lost among the frames: between bucket, announcements, and the numbers of both."""
    stored = fleet.buckets()
    announced, events = set(), defaultdict(set)
    numbers: dict[tuple[str, str], set[int]] = defaultdict(set)
    delayed = ends = lost_ends = 0
    for camera, message in fleet.stage.said():
        payload = message.json()
        if message.topic.endswith("/frame"):
            announced.add(payload["object_key"])
            delayed += payload["delayed"]
        else:
            ends += payload["type"] == "end"
            lost_ends += payload.get("reason") == "worker_lost"
        numbers[camera, payload["writer"]].add(payload["no"])
    for key in stored:
        folder, _, name = key.rpartition("/")
        events[folder].add(int(name.partition(".")[0]))
    problems = [f"announced and not stored: {key}" for key in sorted(announced - stored)]
    problems += [f"stored and not announced: {key}" for key in sorted(stored - announced)]
    problems += [
        f"{folder}: frames are missing, it has {sorted(seqs)}"
        for folder, seqs in sorted(events.items())
        if len(seqs) != max(seqs) + 1
    ]
    for (camera, writer), seen in sorted(numbers.items()):
        if seen != set(range(1, max(seen) + 1)):
            problems.append(f"{camera} of {writer}: events are missing, there are {sorted(seen)}")
    figures = {
        "frames": len(stored),
        "delayed": delayed,
        "events": len(events),
        "ends": ends,
        "worker_lost": lost_ends,
    }
    return problems, figures
