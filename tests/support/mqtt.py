"""Real brokers and a recording client for tests, all on 127.0.0.1; processes are stopped by pid."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

import pytest
from paho.mqtt.client import Client, ConnectFlags, MQTTMessage, MQTTv5, MQTTv311
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from async_motion.broker.embedded import SCRIPT, EmbeddedBroker
from async_motion.core.options import MqttProtocol
from tests.support.ports import free_port
from tests.support.wait import eventually

HOST = "127.0.0.1"


def need(program: str) -> str:
    """Return the path of a program; if it is missing, skip the test, or fail it on CI."""
    path = shutil.which(program) or shutil.which(program, path="/usr/sbin:/usr/local/sbin")
    if path is not None:
        return path
    if os.environ.get("CI"):
        pytest.fail(f"{program} is not installed")
    pytest.skip(f"{program} is not installed")


def listens(port: int) -> bool:
    """Return whether `port` accepts connections."""
    with contextlib.suppress(OSError), socket.create_connection((HOST, port), 1):
        return True
    return False


class Server:
    """A broker as a child process on its own port; the test starts and stops it."""

    STOP: ClassVar[signal.Signals] = signal.SIGTERM

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def command(self) -> list[str]:
        """Return the command line."""
        raise NotImplementedError

    def start(self) -> Self:
        """Start or restart it, and wait until it accepts connections."""
        assert self._process is None, "already started"
        with (self.folder / "broker.log").open("ab") as log:
            self._process = subprocess.Popen(
                self.command(), stdin=subprocess.PIPE, stdout=log, stderr=log, **self.popen_options()
            )
        eventually(self._up, within_s=20, what=f"{type(self).__name__} on port {self.port}")
        return self

    def popen_options(self) -> dict[str, Any]:
        """Return further arguments of `Popen`."""
        return {}

    def _up(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, f"it ended: {self.log}"
        return listens(self.port)

    @property
    def pid(self) -> int:
        """The process id while it runs."""
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> str:
        """Its output so far."""
        return (self.folder / "broker.log").read_text(errors="replace")

    def stop(self, number: signal.Signals | None = None) -> None:
        """Send a signal, and wait for its end."""
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(number or self.STOP)
        process.send_signal(signal.SIGCONT)  # a stopped process handles no other signal than SIGKILL
        assert process.stdin is not None
        process.stdin.close()
        process.wait(20)

    def kill(self) -> None:
        """End it with SIGKILL."""
        self.stop(signal.SIGKILL)

    def pause(self) -> None:
        """Freeze it with SIGSTOP: connections stay open and nothing answers."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Continue it with SIGCONT."""
        os.kill(self.pid, signal.SIGCONT)

    def __enter__(self) -> Self:
        return self.start() if self._process is None else self

    def __exit__(self, *_: object) -> None:
        self.stop()


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificates:
    """Paths of a private CA and of the server's and a client's certificates, made by `make_certificates`."""

    ca: Path
    server: Path
    server_key: Path
    client: Path
    client_key: Path
    other_ca: Path


class Mosquitto(Server):
    """mosquitto. `login` is (user, password); `acl` the text of an access list; limits are in bytes."""

    def __init__(
        self,
        folder: Path,
        *,
        login: tuple[str, str] | None = None,
        acl: str | None = None,
        persistence: bool = False,
        message_size_limit: int | None = None,
        max_packet_size: int | None = None,
        max_queued: int | None = 0,
        certificates: Certificates | None = None,
        client_certificate: bool = False,
    ) -> None:
        super().__init__(folder)
        self._program = need("mosquitto")
        lines = [f"listener {self.port} {HOST}", "log_dest stderr", "log_type all", "user root"]
        if certificates is not None:
            lines += [
                f"cafile {certificates.ca}",
                f"certfile {certificates.server}",
                f"keyfile {certificates.server_key}",
                f"require_certificate {str(client_certificate).lower()}",
            ]
        lines.append(f"allow_anonymous {'false' if login else 'true'}")
        if login is not None:
            self.set_password(*login)
            lines.append(f"password_file {folder / 'passwords'}")
        if acl is not None:
            (folder / "acl").write_text(acl)
            (folder / "acl").chmod(0o600)
            lines.append(f"acl_file {folder / 'acl'}")
        if persistence:
            lines += ["persistence true", f"persistence_location {folder}/"]
            lines += ["autosave_on_changes true", "autosave_interval 1"]
        if message_size_limit is not None:
            lines.append(f"message_size_limit {message_size_limit}")
        if max_packet_size is not None:
            lines.append(f"max_packet_size {max_packet_size}")
        if max_queued is not None:
            lines.append(f"max_queued_messages {max_queued}")
        (folder / "mosquitto.conf").write_text("\n".join(lines) + "\n")

    def command(self) -> list[str]:
        return [self._program, "-c", str(self.folder / "mosquitto.conf")]

    def set_password(self, user: str, password: str) -> None:
        """Write the password file with this one login; a running server reads it after `reload`."""
        path = self.folder / "passwords"
        subprocess.run(
            [need("mosquitto_passwd"), "-c", "-b", str(path), user, password], check=True, capture_output=True
        )

    def reload(self) -> None:
        """Make it reload its passwords and its access list."""
        os.kill(self.pid, signal.SIGHUP)

    def allow(self, acl: str) -> None:
        """Replace the access list."""
        (self.folder / "acl").write_text(acl)
        self.reload()


class Rumqttd(Server):
    """The embedded broker's process, by itself. It announces no packet limit, but disconnects on excess."""

    # It ends when its standard input closes and ignores SIGTERM; another test covers that.
    STOP = signal.SIGKILL

    def __init__(self, folder: Path, *, max_packet: int = EmbeddedBroker.MAX_PACKET) -> None:
        super().__init__(folder)
        self._max_packet = max_packet
        self._listening: socket.socket | None = None

    def command(self) -> list[str]:
        (self.folder / "broker.log").write_text("")  # remove the "ready" of an earlier process
        self._listening = sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((HOST, self.port))
        sock.listen()
        return [
            sys.executable,
            "-P",
            str(SCRIPT),
            json.dumps({"fd": sock.fileno(), "max_packet": self._max_packet}),
        ]

    def popen_options(self) -> dict[str, Any]:
        assert self._listening is not None
        return {"pass_fds": [self._listening.fileno()]}

    def _up(self) -> bool:
        up = super()._up() and "ready" in self.log
        if up and self._listening is not None:
            # From here on only the child holds the port: when it ends, connections are refused.
            self._listening.close()
            self._listening = None
        return up


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """A message as a subscriber received it. `retain`: it was retained before the subscription."""

    topic: str
    payload: bytes
    qos: int
    retain: bool

    @property
    def text(self) -> str:
        return self.payload.decode()

    def json(self) -> Any:
        return json.loads(self.payload)


@dataclass
class Recorder:
    """A client in a thread of its own that records what it receives on `filters`, and can publish.

    Works in tests with and without an event loop. It reconnects by itself, unless `drop` was called.
    """

    port: int
    filters: tuple[str, ...]
    version: MqttProtocol = "5"
    username: str | None = None
    password: str | None = None
    will: tuple[str, bytes] | None = None
    messages: list[Received] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._ready = threading.Event()
        self._subscribed = 0
        self._client = client = Client(
            CallbackAPIVersion.VERSION2, protocol=MQTTv5 if self.version == "5" else MQTTv311
        )
        if self.username is not None:
            client.username_pw_set(self.username, self.password)
        if self.will is not None:
            client.will_set(*self.will, qos=1, retain=True)
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        client.reconnect_delay_set(1, 1)

    def __enter__(self) -> Self:
        self._client.connect(HOST, self.port)
        self._client.loop_start()
        assert self._ready.wait(20), "the recorder could not subscribe"
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _on_connect(
        self, client: Client, _userdata: object, _flags: ConnectFlags, reason: ReasonCode, _more: object
    ) -> None:
        if reason.is_failure:
            return
        self._subscribed = 0
        for topic_filter in self.filters:
            client.subscribe(topic_filter, qos=1)
        if not self.filters:
            self._ready.set()

    def _on_subscribe(
        self,
        _client: Client,
        _userdata: object,
        _mid: int,
        _reasons: list[ReasonCode],
        _more: Properties | None,
    ) -> None:
        self._subscribed += 1
        if self._subscribed == len(self.filters):
            self._ready.set()

    def _on_message(self, _client: Client, _userdata: object, message: MQTTMessage) -> None:
        received = Received(
            topic=message.topic, payload=bytes(message.payload), qos=message.qos, retain=message.retain
        )
        self.messages.append(received)

    def publish(self, topic: str, payload: str | bytes = b"", *, retain: bool = False) -> None:
        """Publish with QoS 1 and wait for the acknowledgement."""
        self._client.publish(topic, payload, qos=1, retain=retain).wait_for_publish(20)

    def on(self, topic: str) -> list[Received]:
        """Return the messages on one topic, oldest first."""
        return [message for message in list(self.messages) if message.topic == topic]

    def texts(self, topic: str) -> list[str]:
        """Return the payloads on one topic, oldest first."""
        return [message.text for message in self.on(topic)]

    def wait(self, fits: Callable[[Received], bool] | str, *, within_s: float = 30.0) -> Received:
        """Wait for and return the first message on the topic `fits`, or for which `fits` returns True."""

        def found() -> Received | None:
            for message in list(self.messages):
                if message.topic == fits if isinstance(fits, str) else fits(message):
                    return message
            return None

        message = eventually(found, within_s=within_s, what=f"a message ({fits})")
        assert message is not None
        return message


def retained(
    port: int, topic_filter: str = "#", *, version: MqttProtocol = "5", login: tuple[str, str] | None = None
) -> dict[str, bytes]:
    """Return the messages that the broker on `port` retains now, by topic."""
    mark = f"recorder/{free_port()}"
    username, password = login or (None, None)
    with Recorder(port, (topic_filter, mark), version, username, password) as recorder:
        # Retained messages arrive before any that is published after the subscription.
        recorder.publish(mark, b"end")
        recorder.wait(mark)
        return {message.topic: message.payload for message in list(recorder.messages) if message.retain}


@contextlib.contextmanager
def mosquitto(folder: Path, **options: Any) -> Iterator[Mosquitto]:
    """Run a mosquitto with these options while the context is open."""
    with Mosquitto(folder, **options) as server:
        yield server


def make_certificates(folder: Path) -> Certificates:
    """Make a CA, a certificate for 127.0.0.1 and one for a client, and a CA that signed none of them."""
    openssl = need("openssl")
    folder.mkdir(parents=True, exist_ok=True)

    def run(*arguments: str) -> None:
        subprocess.run([openssl, *arguments], cwd=folder, check=True, capture_output=True)

    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]

    def authority(name: str) -> None:
        # Without keyUsage, as plain `openssl req` creates it; Python 3.13 refuses that by default.
        run("req", "-x509", *key, "-days", "2", "-subj", f"/CN={name}",
            "-keyout", f"{name}.key", "-out", f"{name}.pem")  # fmt: skip

    def signed(name: str, extensions: str) -> None:
        (folder / f"{name}.ext").write_text(extensions)
        run("req", *key, "-subj", f"/CN={name}",
            "-keyout", f"{name}.key", "-out", f"{name}.csr")  # fmt: skip
        run("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
            "-days", "2", "-extfile", f"{name}.ext", "-out", f"{name}.pem")  # fmt: skip

    authority("ca")
    authority("other")
    signed("server", "subjectAltName=IP:127.0.0.1\n")
    signed("client", "extendedKeyUsage=clientAuth\n")
    return Certificates(
        ca=folder / "ca.pem",
        server=folder / "server.pem",
        server_key=folder / "server.key",
        client=folder / "client.pem",
        client_key=folder / "client.key",
        other_ca=folder / "other.pem",
    )
