"""The stage: the real service and real servers, with a proxy in front of each server."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, Self

import aiohttp
from miniopy_async.api import Minio
from miniopy_async.error import MinioException, S3Error

from async_motion.spool import SpoolReport, look
from tests.faults.disk import Disk
from tests.faults.nameserver import BROKER_NAME, STORE_NAME, NameServer
from tests.faults.oracle import Fetch, Oracle, Subscriber, watching
from tests.support import s3
from tests.support.mqtt import Mosquitto, need, retained
from tests.support.ports import free_port
from tests.support.proxy import Proxy
from tests.support.service import Service
from tests.support.video import make_clip
from tests.support.wait import eventually_async

INSTANCE = "edge1"
UPLOADS = 8
"""Default number of concurrent uploads: as many connections may be idle in the pool."""
POOL_THREADS = 36
"""Maximum size of asyncio's default thread pool, plus a margin."""
BASE = f"async_motion/{INSTANCE}"
CAMERAS = ("porch", "yard")
MAX_BYTES = 64 * 1024 * 1024
"""The spool's bound: enough for the longest outage that can be drawn."""
SERVICE_LOGIN = ("async_motion", "the-service")
WATCHER_LOGIN = ("watcher", "the-oracle")
OPEN_ACL = "".join(f"user {user}\ntopic readwrite #\n" for user, _ in (SERVICE_LOGIN, WATCHER_LOGIN))
CLOSED_ACL = f"user {WATCHER_LOGIN[0]}\ntopic readwrite #\nuser {SERVICE_LOGIN[0]}\ntopic read #\n"


class Witnessed(Service):
    """The service, run by the witness. It keeps its witness file over restarts."""

    log_to: int | None = None
    """A descriptor that takes the log instead of the file, from the next start on."""

    def __init__(
        self,
        settings: dict[str, Any],
        folder: Path,
        *,
        witness: Path,
        wrapper: Sequence[str] = (),
        **env: str,
    ) -> None:
        super().__init__(settings, folder, env={"WITNESS_FILE": str(witness), **env}, wrapper=wrapper)

    def start(self, wrapper: Sequence[str] = (), **env: str) -> Witnessed:
        """Start it, this time with a `wrapper` command and more environment variables."""
        words = [*self._wrapper, *wrapper]
        words += [sys.executable, "-m", "tests.faults.witness", "run", "--config", str(self.config)]
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                words,
                cwd=self.folder,
                env={**self._env, **env},
                stdin=subprocess.DEVNULL,
                stdout=log if self.log_to is None else self.log_to,
                stderr=log if self.log_to is None else self.log_to,
            )
        return self


class Stage:
    """The service, its servers, and the handles to break them. `async with` starts everything.

    `spool` is the spool's path: give one on another file system to break that. With `whole` the stage also
    has, if this machine allows it, its own disk (`disk`) with the spool on it, and a name server (`names`)
    that the service needs to resolve store and broker.
    """

    def __init__(
        self,
        folder: Path,
        rng: random.Random,
        *,
        spool: Path | None = None,
        settings: dict[str, Any] | None = None,
        env: dict[str, str] | None = None,
        fps: int = 10,
        whole: bool = False,
    ) -> None:
        self.folder = folder
        self.rng = rng
        self.disk = Disk("ext4", folder) if whole and Disk.possible() else None
        self.names = NameServer() if whole and NameServer.possible() else None
        if self.disk is not None:
            spool = self.disk.point / "spool.db"
        self.spool = spool or folder / "spool" / "spool.db"
        self._more = settings or {}
        self._env = env or {}
        self._fps = fps
        self._stack = contextlib.AsyncExitStack()
        self.baseline: dict[str, Any] = {}
        self.web_port = free_port()

    async def __aenter__(self) -> Self:
        try:
            await self._begin()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._stack.aclose()

    async def _begin(self) -> None:
        folder, stack = self.folder, self._stack
        folder.mkdir(parents=True, exist_ok=True)
        if self.disk is not None:
            stack.enter_context(self.disk)
        if self.names is not None:
            await stack.enter_async_context(self.names)
        clip = make_clip(
            folder / "clip.mp4", seconds=6.0, fps=self._fps, start_s=2.0, length_s=3.0, noise=1.0
        )
        self.store = stack.enter_context(s3.seaweedfs(folder / "seaweedfs"))
        self.bucket = self.store.make_bucket()
        (folder / "broker").mkdir(exist_ok=True)
        self.broker = Mosquitto(folder / "broker", login=SERVICE_LOGIN, acl=OPEN_ACL)
        self.set_password(*WATCHER_LOGIN)
        stack.enter_context(self.broker)
        self.store_proxy = await stack.enter_async_context(Proxy("127.0.0.1", self.store.port))
        self.broker_proxy = await stack.enter_async_context(Proxy("127.0.0.1", self.broker.port))
        self.fetch = await stack.enter_async_context(bucket_fetch(self.store, self.bucket))
        self.oracle = Oracle(folder / "witness.jsonl", self.fetch)
        await stack.enter_async_context(watching(self.oracle, self.spool))
        self.subscriber = Subscriber(
            self.broker.port,
            (f"{BASE}/+/frame", f"{BASE}/+/event"),
            self.oracle.hear,
            username=WATCHER_LOGIN[0],
            password=WATCHER_LOGIN[1],
        )
        stack.enter_context(self.subscriber)
        self.service = Witnessed(
            self._settings(clip),
            folder / "service",
            witness=self.oracle.witness,
            wrapper=self.names.wrapper(folder) if self.names is not None else (),
            **self._env,
        )
        stack.callback(self._stop_service)
        self.service.start()

    def _settings(self, clip: Path) -> dict[str, Any]:
        camera = {
            "source": str(clip),
            "capture": {"speed": "real", "loop": True},
            "detect": {"fps": self._fps},
            "event": {"frames": "all", "pre": "300ms", "off_delay": "500ms", "max_length": "30s"},
        }
        settings: dict[str, Any] = {
            "instance": INSTANCE,
            "shutdown_grace": "5s",
            "minio": {
                "endpoint": f"{STORE_NAME if self.names else '127.0.0.1'}:{self.store_proxy.port}",
                "access_key": self.store.admin.access_key,
                "secret_key": self.store.admin.secret_key,
                "bucket": self.bucket,
                "create_bucket": False,
                "timeout": {"connect": "1s", "put": "3s"},
            },
            "mqtt": {
                "host": BROKER_NAME if self.names else "127.0.0.1",
                "port": self.broker_proxy.port,
                "username": SERVICE_LOGIN[0],
                "password": SERVICE_LOGIN[1],
                "keepalive": "5s",
            },
            "spool": {"path": str(self.spool), "max_bytes": MAX_BYTES},
            "web": {"port": self.web_port},
            "cameras": dict.fromkeys(CAMERAS, camera),
        }
        for section, values in self._more.items():
            settings[section] = {**settings.get(section, {}), **values}
        return settings

    # -- what tests look at

    def accepted(self) -> int:
        """Return the number of accepted frames so far."""
        return len(self.oracle.accepted())

    async def more_accepted(self, count: int = 1, within_s: float = 60.0) -> None:
        """Wait until `count` more frames are accepted."""
        target = self.accepted() + count
        await eventually_async(
            lambda: self.accepted() >= target, within_s=within_s, what=f"{count} more accepted frames"
        )

    async def fresh_frame(self, within_s: float = 90.0) -> None:
        """Wait until a frame accepted after this call has been announced."""
        known = set(self.oracle.accepted())

        def passed() -> bool:
            fresh = self.oracle.accepted().keys() - known
            return any(heard.payload["frame_id"] in fresh for heard in self.oracle.frames())

        await eventually_async(passed, within_s=within_s, what="a fresh frame to pass")

    async def first_frames(self) -> None:
        """Wait until frames are announced; record what a healthy service keeps open."""
        await eventually_async(lambda: len(self.oracle.frames()) >= 3, within_s=90, what="the first frames")
        self.baseline = await self.alive()

    async def alive(self) -> dict[str, Any]:
        """Ask the service for its live tasks, threads, connections and files."""
        before = sum("leak" in line for line in self.oracle.lines())
        os.kill(self.service_pid, signal.SIGUSR1)
        await eventually_async(
            lambda: sum("leak" in line for line in self.oracle.lines()) > before, what="the service's report"
        )
        leak: dict[str, Any] = [line["leak"] for line in self.oracle.lines() if "leak" in line][-1]
        return leak

    @property
    def service_pid(self) -> int:
        """The service's own process, below a wrapper if there is one."""
        pid = self.service.pid
        children = Path(f"/proc/{pid}/task/{pid}/children")
        name = Path(f"/proc/{pid}/comm").read_text().strip()
        return int(children.read_text().split()[0]) if name in ("strace", "faketime") else pid

    # -- what faults do

    def set_password(self, user: str, password: str) -> None:
        """Set a broker user's password, effective with the next reload."""
        path = self.folder / "broker" / "passwords"
        subprocess.run(
            [need("mosquitto_passwd"), "-b", str(path), user, password], check=True, capture_output=True
        )

    def kill_service(self) -> None:
        """Send SIGKILL to the service."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.service_pid, signal.SIGKILL)
        self.service.kill()

    async def restart_broker(self, away_s: float) -> None:
        """Kill and restart the broker; let the service reconnect only after the subscriber has."""
        self.broker.kill()
        self.oracle.broker_deaths.append(time.monotonic())
        await self.broker_proxy.close_port()
        await asyncio.sleep(away_s)
        self.broker.start()
        await eventually_async(lambda: self.subscriber.connected, what="the subscriber to be back")
        await self.broker_proxy.open_port()

    # -- the end

    async def settle(self, within_s: float = 120.0) -> None:
        """Switch detection off, and wait until the spool is empty."""
        await eventually_async(self._switch_off, within_s=within_s, what="the cameras to be switched off")
        await eventually_async(self._is_settled, within_s=within_s, what=f"an empty spool ({self.look()})")
        await eventually_async(
            lambda: not self.oracle.unannounced() or self._quiet(), what="the last messages"
        )

    async def _switch_off(self) -> bool:
        """Switch detection off; return whether the service confirms it. Commands are not retained."""
        for camera in CAMERAS:
            self.subscriber.publish(f"{BASE}/{camera}/detection/set", "OFF")
        await asyncio.sleep(0.5)
        found = await self._retained()
        return all(found.get(f"{BASE}/{camera}/detection") == b"OFF" for camera in CAMERAS)

    async def _retained(self) -> dict[str, bytes]:
        return await asyncio.to_thread(retained, self.broker.port, f"{BASE}/#", login=WATCHER_LOGIN)

    def _is_settled(self) -> bool:
        report = self.look()
        return report is not None and not report.waiting and self._quiet()

    def _quiet(self) -> bool:
        lines = [line["at"] for line in self.oracle.lines() if "accepted" in line or "acked" in line]
        return bool(lines) and time.monotonic() - lines[-1] > 2.0

    def look(self) -> SpoolReport | None:
        """Return what waits in the spool."""
        return look(self.spool) if self.spool.exists() else None

    async def leaks(self) -> list[str]:
        """Return what the service keeps open beyond what it did when it was first healthy."""
        return leaked(self.baseline, await self.alive())

    async def not_retained(self) -> list[str]:
        """Return the retained messages of a healthy service with quiet cameras that the broker lacks."""
        expected = {f"{BASE}/status": b"online"}
        for camera in CAMERAS:
            expected |= {f"{BASE}/{camera}/status": b"online", f"{BASE}/{camera}/motion": b"OFF"}
        found = await self._retained()
        wrong = [
            f"{t}: {found.get(t)!r}, not {value!r}" for t, value in expected.items() if found.get(t) != value
        ]
        return wrong + [
            f"{t}: missing" for t in (f"{BASE}/state", f"{BASE}/porch/snapshot") if t not in found
        ]

    def _stop_service(self) -> None:
        if self.service.running:
            self.kill_service()


def leaked(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Return the tasks, threads, connections and files in `now` that a healthy service does not have.

    Allowed are those that vary in a healthy service: idle connections of the pool (up to the number of
    concurrent uploads), tasks of the reporter and of reconnects, the spool's WAL, and a current page request.
    """
    problems = []
    extra = [task for task in now["tasks"] if task not in before["tasks"]]
    if len(now["tasks"]) > len(before["tasks"]) + 2 or any(
        t.startswith(("upload ", "announce ")) for t in extra
    ):
        problems.append(f"tasks: {extra}")
    # asyncio's default pool grows to its bound as names are resolved: that is not a leak.
    new = set(now["threads"]) - set(before["threads"])
    new = {name for name in new if not name.startswith(("uvloop_", "asyncio_"))}
    if len(new) > 2 or len(now["threads"]) > len(before["threads"]) + POOL_THREADS:
        problems.append(f"threads: {sorted(new)}, {len(before['threads'])} -> {len(now['threads'])}")
    for what, allowed in (("connections", UPLOADS), ("files", 4)):
        if now[what] > before[what] + allowed:
            problems.append(f"{what}: {before[what]} -> {now[what]}")
    return problems


@contextlib.asynccontextmanager
async def bucket_fetch(store: s3.S3Server, bucket: str) -> AsyncIterator[Fetch]:
    """Yield a function that fetches an object directly from the store."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:
        user = store.admin
        client = Minio(
            store.endpoint, user.access_key, user.secret_key, secure=False, region=s3.REGION, session=session
        )

        async def fetch(key: str) -> bytes | None:
            try:
                response = await client.get_object(bucket, key)
                async with response:
                    return await response.read()
            except S3Error as exc:
                if exc.code == "NoSuchKey":
                    return None
                raise ConnectionError(exc.code) from exc
            except (aiohttp.ClientError, TimeoutError, MinioException) as exc:
                raise ConnectionError(str(exc)) from exc

        yield fetch


@contextlib.asynccontextmanager
async def staged(folder: Path, seed: int, **more: Any) -> AsyncIterator[Stage]:
    """Start a stage, and wait until frames are announced."""
    async with Stage(folder, random.Random(seed), **more) as stage:
        await stage.first_frames()
        yield stage
