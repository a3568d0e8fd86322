"""The catalogue of faults: each breaks one thing on a stage for a while, and repairs it.

A fault is a coroutine `(stage, hold_s)` that returns once everything that it broke works again. What it
touches (`service`, `store`, `broker`, `names`, `machine`) decides which may be combined: two of different
kinds at once. If possible, it waits until the service is affected: otherwise the fault would test nothing.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import select
import shutil
import signal
import socket
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.faults.disk import Disk, fill
from tests.faults.mqttwire import QUOTA_EXCEEDED, Refusing
from tests.faults.nameserver import Mood, NameServer
from tests.faults.stage import BASE, CLOSED_ACL, INSTANCE, OPEN_ACL, SERVICE_LOGIN, WATCHER_LOGIN, Stage
from tests.support.mqtt import retained
from tests.support.wait import eventually_async

Break = Callable[[Stage, float], Awaitable[None]]

ERROR = "<?xml version='1.0'?><Error><Code>{}</Code><Message>on purpose</Message></Error>"
SLOW_CLIENTS = 400
CGROUP_CPU = Path("/sys/fs/cgroup/cpu")
CGROUP_MEMORY = Path("/sys/fs/cgroup/memory")


@dataclass(frozen=True, slots=True)
class Fault:
    """A named way to break something."""

    name: str
    touches: str
    run: Break
    possible: Callable[[], bool]
    is_refusal: bool


CATALOGUE: dict[str, Fault] = {}


def fault(
    touches: str, possible: Callable[[], bool] = lambda: True, *, is_refusal: bool = False
) -> Callable[[Break], Break]:
    """Add a coroutine to the catalogue, under its name with dashes."""

    def add(run: Break) -> Break:
        name = run.__name__.replace("_", "-")
        CATALOGUE[name] = Fault(name, touches, run, possible, is_refusal)
        return run

    return add


# -- the service


@fault("service")
async def service_killed(stage: Stage, hold_s: float) -> None:
    """SIGKILL at an arbitrary moment."""
    stage.kill_service()
    await asyncio.sleep(min(hold_s, 1.0))
    stage.service.start()
    await _service_is_back(stage)


@fault("service")
async def service_killed_twice(stage: Stage, _hold_s: float) -> None:
    """SIGKILL, and again while it recovers."""
    stage.kill_service()
    stage.service.start()
    await asyncio.sleep(stage.rng.uniform(0.3, 2.0))
    stage.kill_service()
    stage.service.start()
    await _service_is_back(stage)


@fault("service")
async def service_restarted(stage: Stage, _hold_s: float) -> None:
    """SIGTERM: it stops in order, with exit code 0."""
    os.kill(stage.service_pid, signal.SIGTERM)
    code = await asyncio.to_thread(stage.service.wait, 60)
    assert code == 0, f"exit code {code} after SIGTERM"
    stage.service.start()
    await _service_is_back(stage)


@fault("service")
async def service_frozen(stage: Stage, hold_s: float) -> None:
    """SIGSTOP: to its peers the machine seems to hang."""
    pid = stage.service_pid
    os.kill(pid, signal.SIGSTOP)
    await asyncio.sleep(hold_s)
    os.kill(pid, signal.SIGCONT)


@fault("service", Disk.possible)
async def power_lost(stage: Stage, hold_s: float) -> None:
    """The spool's file system stops as at a power loss, and the service with it."""
    assert stage.disk is not None
    stage.disk.lose_power()
    await _reboot(stage, hold_s)


@fault("service", Disk.possible)
async def disk_error(stage: Stage, hold_s: float) -> None:
    """The file system finds an error and remounts read-only while the service runs; then a reboot."""
    assert stage.disk is not None
    stage.disk.turn_read_only()
    await asyncio.sleep(hold_s)
    await _reboot(stage, 0.5)


async def _reboot(stage: Stage, away_s: float) -> None:
    assert stage.disk is not None
    stage.kill_service()
    await asyncio.to_thread(stage.disk.unmount)
    await asyncio.sleep(min(away_s, 2.0))
    stage.disk.mount()
    stage.service.start()
    await _service_is_back(stage)


FAKETIME = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)


@fault("service", lambda: FAKETIME is not None, is_refusal=True)
async def clock_jumps(stage: Stage, hold_s: float) -> None:
    """The running service's wall clock jumps by a day, or 20 minutes, and back."""
    offset = stage.folder / "clock"
    offset.write_text("+0\n")
    stage.kill_service()
    stage.service.start(**clock_environment(offset))
    await _service_is_back(stage)
    offset.write_text(stage.rng.choice(["+1d", "-1d", "+20m", "-20m"]) + "\n")
    await asyncio.sleep(hold_s)
    offset.write_text("+0\n")


def clock_environment(offset: Path) -> dict[str, str]:
    """Return the environment that shifts a process's wall clock by the value in the file `offset`."""
    return {
        "LD_PRELOAD": str(FAKETIME),
        "FAKETIME_TIMESTAMP_FILE": str(offset),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_DONT_RESET": "1",
    }


POISON = (b"[" * 5000, b"NaN", b'"\\ud800"', b'{"device": {"identifiers": {}}, "components": [1]}')


@fault("service")
async def retained_message_poisoned(stage: Stage, hold_s: float) -> None:
    """Retained messages that no parser likes lie below its discovery topics when it starts."""
    topics = {
        f"homeassistant/device/async_motion_{INSTANCE}_gone{number}/config": payload
        for number, payload in enumerate(POISON)
    }
    stage.kill_service()
    for topic, payload in topics.items():
        stage.subscriber.publish(topic, payload, retain=True)
    stage.service.start()
    await _service_is_back(stage)
    await asyncio.sleep(min(hold_s, 2.0))
    for topic in topics:
        stage.subscriber.publish(topic, b"", retain=True)


@fault("service")
async def clients_slow(stage: Stage, hold_s: float) -> None:
    """Hundreds of clients of the page send half a request each, and wait."""
    clients: list[socket.socket] = []
    try:
        for _ in range(SLOW_CLIENTS):
            client = socket.create_connection(("127.0.0.1", stage.web_port), timeout=30)
            clients.append(client)
            with suppress(OSError):  # beyond its bound the service hangs up
                client.sendall(b"GET / HTTP/1.1\r\nHost: edge1\r\nX-Slow: ")
        await asyncio.sleep(hold_s)
        await _service_is_back(stage)
    finally:
        for client in clients:
            client.close()


@fault("service")
async def log_stalled(stage: Stage, hold_s: float) -> None:
    """Its log is a full pipe whose reader has stopped, like `docker logs` or a frozen terminal."""
    stage.kill_service()
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, select.PIPE_BUF)
    os.set_blocking(writer, False)
    with suppress(BlockingIOError):
        while os.write(writer, b"\n" * select.PIPE_BUF):
            pass
    os.set_blocking(writer, True)
    stage.service.log_to = writer
    stage.service.start()
    stage.service.log_to = None
    os.close(writer)
    try:
        await _service_is_back(stage)
        await asyncio.sleep(hold_s)
    finally:
        threading.Thread(target=_copy, args=(reader, stage.service.log_file), daemon=True).start()


def _copy(reader: int, log_file: Path) -> None:
    """Append what comes from a pipe to a file, until its end."""
    with os.fdopen(reader, "rb", buffering=0) as pipe, log_file.open("ab") as log:
        while data := pipe.read(65_536):
            log.write(data)
            log.flush()


async def _service_is_back(stage: Stage) -> None:
    """Wait until the service accepts frames again: while it learns its scenes, a fault tests nothing."""
    await stage.more_accepted(within_s=90)


# -- the store


@fault("store")
async def store_killed(stage: Stage, hold_s: float) -> None:
    """SIGKILL, then a restart."""
    stage.store.kill()
    await asyncio.sleep(hold_s)
    await asyncio.to_thread(stage.store.start)


@fault("store")
async def store_frozen(stage: Stage, hold_s: float) -> None:
    """SIGSTOP: connections stay open without an answer; requests are processed afterwards."""
    stage.store.pause()
    await asyncio.sleep(hold_s)
    stage.store.resume()


@fault("store")
async def store_slow(stage: Stage, hold_s: float) -> None:
    """The connection is very slow."""
    stage.store_proxy.limit(rate=4_000)
    await asyncio.sleep(hold_s)
    stage.store_proxy.heal()


@fault("store")
async def store_late(stage: Stage, hold_s: float) -> None:
    """Every answer takes half a second."""
    stage.store_proxy.limit(delay_s=0.5)
    await asyncio.sleep(hold_s)
    stage.store_proxy.heal()


@fault("store")
async def store_cut_in_the_body(stage: Stage, hold_s: float) -> None:
    """Each connection breaks after some bytes of the JPEG."""
    stage.store_proxy.reset()
    stage.store_proxy.cut(up=stage.rng.randrange(200, 6_000))
    await asyncio.sleep(hold_s)
    stage.store_proxy.heal()


@fault("store")
async def store_cut_in_the_answer(stage: Stage, hold_s: float) -> None:
    """The store receives and confirms everything, but its answers are lost."""
    stage.store_proxy.reset()
    stage.store_proxy.cut(down=stage.rng.randrange(0, 40))
    await asyncio.sleep(hold_s)
    stage.store_proxy.heal()


@fault("store")
async def store_resets(stage: Stage, hold_s: float) -> None:
    """Every connection is reset, ten times a second."""
    for _ in range(max(1, int(hold_s * 10))):
        stage.store_proxy.reset()
        await asyncio.sleep(0.1)


@fault("store")
async def store_port_closed(stage: Stage, hold_s: float) -> None:
    """Connections are refused."""
    await stage.store_proxy.close_port()
    await asyncio.sleep(hold_s)
    await stage.store_proxy.open_port()


@fault("store")
async def store_says_500(stage: Stage, hold_s: float) -> None:
    """The server answers with an internal error."""
    await _answers(stage, hold_s, 500, "InternalError")


@fault("store")
async def store_says_503(stage: Stage, hold_s: float) -> None:
    """The server asks for a pause of two seconds."""
    await _answers(stage, hold_s, 503, "SlowDown", {"Retry-After": "2"})


@fault("store", is_refusal=True)
async def store_says_403(stage: Stage, hold_s: float) -> None:
    """The access key is no longer valid."""
    await _answers(stage, hold_s, 403, "InvalidAccessKeyId")


@fault("store", is_refusal=True)
async def store_says_no_bucket(stage: Stage, hold_s: float) -> None:
    """The bucket no longer exists."""
    await _answers(stage, hold_s, 404, "NoSuchBucket")


@fault("store", is_refusal=True)
async def store_says_clock_skewed(stage: Stage, hold_s: float) -> None:
    """The server reports that our clock is 20 minutes off."""
    await _answers(stage, hold_s, 403, "RequestTimeTooSkewed")


@fault("store", is_refusal=True)
async def store_is_full(stage: Stage, hold_s: float) -> None:
    """The bucket's quota is used up, as another vendor's server reports it."""
    await _answers(stage, hold_s, 403, "QuotaExceeded")


@fault("store", is_refusal=True)
async def store_limits_bodies(stage: Stage, hold_s: float) -> None:
    """A proxy such as nginx refuses each frame as too large; summaries and probes pass."""
    stage.store_proxy.answer(
        413, path=".jpg", headers={"Content-Type": "text/html"}, body=b"<h1>413 Request Entity Too Large</h1>"
    )
    await asyncio.sleep(hold_s)
    stage.store_proxy.heal()


async def _answers(
    stage: Stage, hold_s: float, status: int, code: str, headers: dict[str, str] | None = None
) -> None:
    body = ERROR.format(code).encode()
    stage.store_proxy.answer(
        status, headers={"Content-Type": "application/xml", **(headers or {})}, body=body
    )
    await asyncio.sleep(hold_s)
    stage.store_proxy.heal()


# -- the broker


@fault("broker")
async def broker_killed(stage: Stage, hold_s: float) -> None:
    """SIGKILL; it restarts without retained messages and sessions, and must get all of them again."""
    await stage.restart_broker(hold_s)
    await eventually_async(
        lambda: asyncio.to_thread(_is_online, stage), within_s=90, what="what was retained to be said again"
    )


def _is_online(stage: Stage) -> bool:
    return retained(stage.broker.port, f"{BASE}/status", login=WATCHER_LOGIN) == {f"{BASE}/status": b"online"}


@fault("broker")
async def broker_frozen(stage: Stage, hold_s: float) -> None:
    """SIGSTOP: connections are half open, without an answer."""
    stage.broker.pause()
    await asyncio.sleep(hold_s)
    stage.broker.resume()


@fault("broker")
async def broker_half_open(stage: Stage, hold_s: float) -> None:
    """No byte passes, no connection ends."""
    stage.broker_proxy.hold()
    await asyncio.sleep(hold_s)
    stage.broker_proxy.heal()


@fault("broker")
async def broker_resets(stage: Stage, hold_s: float) -> None:
    """Every connection is reset repeatedly."""
    for _ in range(max(1, int(hold_s))):
        stage.broker_proxy.reset()
        await asyncio.sleep(1.0)


@fault("broker")
async def broker_port_closed(stage: Stage, hold_s: float) -> None:
    """Connections are refused."""
    await stage.broker_proxy.close_port()
    await asyncio.sleep(hold_s)
    await stage.broker_proxy.open_port()


@fault("broker", is_refusal=True)
async def broker_refuses_topics(stage: Stage, hold_s: float) -> None:
    """The access list forbids every publish; MQTT 5 reports it as the PUBACK's reason code."""
    stage.broker.allow(CLOSED_ACL)
    await asyncio.sleep(hold_s)
    stage.broker.allow(OPEN_ACL)


@fault("broker", is_refusal=True)
async def broker_is_full(stage: Stage, hold_s: float) -> None:
    """Its queue is full: it refuses every publish with the reason code "quota exceeded" (MQTT 5)."""
    refusing: list[Refusing] = []

    def make() -> Refusing:
        refusing.append(Refusing(QUOTA_EXCEEDED))
        return refusing[-1]

    stage.broker_proxy.edit(make)
    await asyncio.sleep(hold_s)
    await eventually_async(
        lambda: any(each.refused for each in refusing), within_s=60, what="a publish that is refused"
    )
    stage.broker_proxy.heal()


@fault("broker", is_refusal=True)
async def broker_refuses_login(stage: Stage, hold_s: float) -> None:
    """The password has changed."""
    user, password = SERVICE_LOGIN
    stage.set_password(user, "another")
    stage.broker.reload()
    stage.broker_proxy.reset()
    await asyncio.sleep(hold_s)
    stage.set_password(user, password)
    stage.broker.reload()


# -- the names


@fault("names", NameServer.possible)
async def dns_silent(stage: Stage, hold_s: float) -> None:
    """The name server does not answer, while store and broker must be resolved again."""
    await _names(stage, hold_s, "silent")


@fault("names", NameServer.possible)
async def dns_fails(stage: Stage, hold_s: float) -> None:
    """The name server answers SERVFAIL, while store and broker must be resolved again."""
    await _names(stage, hold_s, "fails")


@fault("names", NameServer.possible)
async def dns_knows_nothing(stage: Stage, hold_s: float) -> None:
    """The name server answers NXDOMAIN, while store and broker must be resolved again."""
    await _names(stage, hold_s, "knows nothing")


async def _names(stage: Stage, hold_s: float, mood: Mood) -> None:
    names = stage.names
    assert names is not None
    before, names.mood = names.refused, mood
    deadline = time.monotonic() + hold_s
    for _ in range(120):
        # Names are only resolved for a new connection; answers are cached for 10 s.
        stage.store_proxy.reset()
        stage.broker_proxy.reset()
        await asyncio.sleep(0.5)
        if names.refused > before:
            break
    assert names.refused > before, "the name server was not asked"
    await asyncio.sleep(deadline - time.monotonic())
    names.mood = "answers"


# -- the machine


def _is_root_with(group: Path) -> Callable[[], bool]:
    return lambda: os.geteuid() == 0 and (group / "cgroup.procs").exists()


@fault("machine", _is_root_with(CGROUP_CPU))
async def cpu_squeezed(stage: Stage, hold_s: float) -> None:
    """A fifth of one CPU."""
    await _squeeze(stage, hold_s, CGROUP_CPU, {"cpu.cfs_quota_us": "20000"})


@fault("machine", _is_root_with(CGROUP_MEMORY))
async def memory_squeezed(stage: Stage, hold_s: float) -> None:
    """A memory limit 24 MiB above its use, page cache included; beyond that the kernel may kill it."""
    await _squeeze(stage, hold_s, CGROUP_MEMORY, {"memory.limit_in_bytes": str(24 * 1024 * 1024)})
    if not stage.service.running:
        stage.service.start()
        await _service_is_back(stage)


async def _squeeze(stage: Stage, hold_s: float, root: Path, limits: dict[str, str]) -> None:
    group = root / f"async_motion_faults_{os.getpid()}"
    group.mkdir(exist_ok=True)
    for name, value in limits.items():
        (group / name).write_text(value)
    before = root / _group_of(root.name)
    (group / "cgroup.procs").write_text(str(stage.service_pid))
    try:
        await asyncio.sleep(hold_s)
    finally:
        for pid in (group / "cgroup.procs").read_text().split():
            (before / "cgroup.procs").write_text(pid)
        await eventually_async(lambda: _removed(group), what="the group to be empty")


def _group_of(controller: str) -> str:
    """Return the path of our own control group, without its leading slash."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            return path.lstrip("/")
    return ""


def _removed(group: Path) -> bool:
    try:
        group.rmdir()
    except OSError:
        return False
    return True


def _may_trace() -> bool:
    return os.geteuid() == 0 and shutil.which("strace") is not None


@fault("machine", _may_trace)
async def fsync_fails(stage: Stage, hold_s: float) -> None:
    """Each fsync of the service fails with EIO."""
    await _inject(stage, hold_s, "fsync,fdatasync", "EIO")


@fault("machine", _may_trace)
async def reads_fail(stage: Stage, hold_s: float) -> None:
    """The next three reads of the spool's file fail with EIO, as from a sector that needs a retry."""
    await _inject(stage, hold_s, "pread64", "EIO:when=1..3")


@fault("machine", _may_trace)
async def disk_read_only(stage: Stage, hold_s: float) -> None:
    """Each write to the spool fails as on a read-only file system, until it is writable again."""
    await _inject(stage, hold_s, "pwrite64,ftruncate,fsync,fdatasync", "EROFS")


@fault("machine", Disk.possible)
async def disk_full(stage: Stage, hold_s: float) -> None:
    """The spool's disk is full to the last byte."""
    assert stage.disk is not None
    ballast = stage.disk.point / "ballast"
    await asyncio.to_thread(fill, ballast)
    await asyncio.sleep(hold_s)
    ballast.unlink()


async def _inject(stage: Stage, hold_s: float, calls: str, error: str) -> None:
    words = ["strace", "-f", "-qq", "-o", "/dev/null", "-p", str(stage.service_pid)]
    words += ["-e", f"trace={calls}", "-e", f"inject={calls}:error={error}"]
    tracer = await asyncio.create_subprocess_exec(*words, stderr=asyncio.subprocess.DEVNULL)
    try:
        await asyncio.sleep(hold_s)
    finally:
        tracer.send_signal(signal.SIGINT)
        await tracer.wait()
    await eventually_async(lambda: _untraced(stage), what="the tracer to detach")


def _untraced(stage: Stage) -> bool:
    status = Path(f"/proc/{stage.service_pid}/status").read_text()
    return "TracerPid:\t0" in status
