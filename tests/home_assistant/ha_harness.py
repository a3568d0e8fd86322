"""Run a real, headless Home Assistant in a virtual environment of its own, as a child process.

    with HomeAssistant(mqtt_port=broker.port, python=python, workdir=folder) as ha:
        ha.wait_for_state("binary_sensor.porch_motion", "off")
        assert ha.problems() == []

It is seeded with an MQTT entry and an owner with a token, and listens on 127.0.0.1 alone. It is stopped by
its process id; a watchdog stops it if the caller does not. `make_venv.sh` makes the environment.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
import os
import re
import secrets
import signal
import socket
import struct
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from tests.support.ports import free_port

LEVELS = {"DEBUG": 10, "INFO": 20, "WARNING": 30, "ERROR": 40, "CRITICAL": 50}
_RECORD = re.compile(
    r"^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+)(?:[+-]\d\d:\d\d)? (DEBUG|INFO|WARNING|ERROR|CRITICAL) "
    r"\((.*?)\) \[(.*?)\] (.*)$"
)
# Logged by Home Assistant itself in a virtual environment without the optional parts.
NOISE = (
    "Skipping pip installation",
    "zlib_ng and isal",
    "turbojpeg",
    "haffmpeg",
    "pymicro_vad",
    "assist_pipeline",
    "assist_satellite",
    "'ai_task'",
    "'tts'",
    "hassil",
    "infrared_protocols",
    "rf_protocols",
    # Logged when the machine is slow.
    "Updating state for",
    "is taking over",
    "Waiting for integrations to complete setup",
    "marketplace",
    "async_upnp",
    "Setup of config entry ''",
)


class HarnessError(RuntimeError):
    """Home Assistant did not reach a state that the harness waited for."""


@dataclass(frozen=True)
class LogRecord:
    """One record of Home Assistant's log."""

    time: str
    level: str
    logger: str
    message: str

    def __str__(self) -> str:
        return f"{self.level} [{self.logger}] {self.message}"


def _wait(check: Callable[[], Any], timeout: float, what: str, step: float = 0.1) -> Any:
    deadline = time.monotonic() + timeout
    while True:
        value = check()
        if value:
            return value
        if time.monotonic() > deadline:
            raise HarnessError(f"gave up after {timeout:g} s waiting for {what}")
        time.sleep(step)


def _end(process: subprocess.Popen[bytes] | None, timeout: float) -> int | None:
    """End one process that this module started; return its exit code."""
    if process is None:
        return None
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)
    return process.returncode


# ------------------------------------------------------------------------ websocket
class WebSocket:
    """The subset of RFC 6455 that Home Assistant's API needs."""

    def __init__(self, port: int, token: str) -> None:
        self._sock = socket.create_connection(("127.0.0.1", port), 10)
        key = base64.b64encode(secrets.token_bytes(16)).decode()
        self._sock.sendall(
            (
                f"GET /api/websocket HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\n"
                f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n"
            ).encode()
        )
        self._buffer = b""
        while b"\r\n\r\n" not in self._buffer:
            self._fill()
        head, self._buffer = self._buffer.split(b"\r\n\r\n", 1)
        if b" 101 " not in head.split(b"\r\n")[0]:
            raise HarnessError(f"no websocket: {head[:100]!r}")
        self._next = 0
        self.events: list[dict[str, Any]] = []
        self.receive()  # auth_required
        self.send({"type": "auth", "access_token": token})
        if self.receive()["type"] != "auth_ok":
            raise HarnessError("the websocket did not take the token")

    def _fill(self) -> None:
        data = self._sock.recv(65536)
        if not data:
            raise HarnessError("the websocket was closed")
        self._buffer += data

    def _take(self, count: int) -> bytes:
        while len(self._buffer) < count:
            self._fill()
        data, self._buffer = self._buffer[:count], self._buffer[count:]
        return data

    def send(self, message: dict[str, Any], opcode: int = 1, raw: bytes | None = None) -> None:
        data = raw if raw is not None else json.dumps(message).encode()
        size = len(data)
        head = bytes([0x80 | opcode])
        head += (
            bytes([0x80 | size])
            if size < 126
            else bytes([0x80 | 126]) + struct.pack(">H", size)
            if size < 65536
            else bytes([0x80 | 127]) + struct.pack(">Q", size)
        )
        mask = secrets.token_bytes(4)
        self._sock.sendall(head + mask + bytes(b ^ mask[i % 4] for i, b in enumerate(data)))

    def receive(self, timeout: float = 30) -> dict[str, Any]:
        self._sock.settimeout(timeout)
        text = b""
        while True:
            first, second = self._take(2)
            size = second & 0x7F
            if size == 126:
                size = struct.unpack(">H", self._take(2))[0]
            elif size == 127:
                size = struct.unpack(">Q", self._take(8))[0]
            data = self._take(size)
            opcode = first & 0x0F
            if opcode == 9:
                self.send({}, opcode=10, raw=data)
                continue
            if opcode == 8:
                raise HarnessError("the websocket was closed")
            if opcode in (0, 1, 2):
                text += data
                if first & 0x80:
                    message: dict[str, Any] = json.loads(text)
                    return message

    def command(self, **message: Any) -> Any:
        """Send a command and return its result; keep events that arrive meanwhile."""
        self._next += 1
        number = self._next
        self.send({"id": number, **message})
        while True:
            answer = self.receive()
            if answer.get("id") == number and answer["type"] == "result":
                if not answer["success"]:
                    raise HarnessError(f"{message.get('type')}: {answer['error']}")
                return answer["result"]
            if answer["type"] == "event":
                self.events.append(answer["event"])

    def ping(self) -> int:
        """Send a ping and return its number; the pong arrives after every event that precedes it."""
        self._next += 1
        self.send({"id": self._next, "type": "ping"})
        return self._next

    def next_event(self, timeout: float) -> dict[str, Any]:
        """Return the next event of this connection's subscriptions."""
        if self.events:
            return self.events.pop(0)
        deadline = time.monotonic() + timeout
        while (left := deadline - time.monotonic()) > 0:
            try:
                answer = self.receive(left)
            except TimeoutError:
                break
            if answer["type"] == "event":
                event: dict[str, Any] = answer["event"]
                return event
        raise HarnessError(f"no event in {timeout:g} s")

    def shut(self) -> None:
        """End the stream: `receive` in another thread raises an error."""
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


# ------------------------------------------------------------------- home assistant
@dataclass
class HomeAssistant:
    """One headless Home Assistant with an MQTT config entry and an owner's token."""

    mqtt_port: int
    python: str
    http_port: int = 0
    workdir: Path | None = None
    mqtt_host: str = "127.0.0.1"
    discovery_prefix: str = "homeassistant"
    protocol: str | None = None  # "3.1", "3.1.1", "5"; None: Home Assistant's default
    log_level: str = "info"  # of homeassistant.components.mqtt
    extra_yaml: str = ""
    max_seconds: float = 1800  # watchdog: the process is ended after this long
    start_seconds: float = field(default=0.0, init=False)
    token: str = field(default="", init=False)
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)
    _watchdog: threading.Timer | None = field(default=None, init=False)
    _log_from: int = field(default=0, init=False)
    _births: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self.http_port = self.http_port or free_port()
        self.workdir = Path(self.workdir or tempfile.mkdtemp(prefix="hass-"))

    # -- start and stop
    @property
    def config(self) -> Path:
        assert self.workdir is not None
        return self.workdir / "config"

    @property
    def log_file(self) -> Path:
        assert self.workdir is not None
        return self.workdir / "hass.log"

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def start(self, timeout: float = 300) -> HomeAssistant:
        """Start (or start again, keeping registries and states) and wait until it runs."""
        if self._process is not None and self._process.poll() is None:
            raise HarnessError("already started")
        if not (self.config / ".storage" / "auth").exists():
            self._seed()
        command = [self.python, "-m", "homeassistant", "-c", str(self.config), "--skip-pip", "--log-no-color"]
        env = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
        env |= {"PYTHONUNBUFFERED": "1", "TZ": "UTC"}
        began = time.monotonic()
        self.expect_birth()
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=env,
                stdin=subprocess.DEVNULL,
                cwd=self.workdir,
            )
        self._watchdog = threading.Timer(self.max_seconds, _end, (self._process, 20))
        self._watchdog.daemon = True
        self._watchdog.start()
        try:
            _wait(self._running, timeout, "Home Assistant to run")
            _wait(self._mqtt_loaded, timeout, "the MQTT config entry to load")
            with contextlib.suppress(HarnessError):
                # 2026.11 takes `http:` from YAML on trial, and ends after 5 minutes unless it is confirmed.
                self.ws(type="http/config/promote")
        except BaseException:
            self.stop()
            raise
        self.start_seconds = time.monotonic() - began
        return self

    def stop(self, timeout: float = 40) -> int | None:
        """Stop Home Assistant; its configuration stays, so start() resumes it."""
        if self._watchdog:
            self._watchdog.cancel()
        code = _end(self._process, timeout)
        self._process = None
        return code

    def restart(self, timeout: float = 300) -> HomeAssistant:
        self.stop()
        return self.start(timeout)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _running(self) -> bool:
        if self._process is None or self._process.poll() is not None:
            raise HarnessError(f"Home Assistant ended: {self.log_tail()}")
        try:
            return bool(self.get("/api/config")["state"] == "RUNNING")
        except (OSError, urllib.error.URLError, ValueError):
            return False

    def _mqtt_loaded(self) -> bool:
        entries = self.ws(type="config_entries/get", domain="mqtt")
        if any(e["state"] in ("setup_error", "migration_error", "failed_unload") for e in entries):
            raise HarnessError(f"MQTT entry: {entries}")
        return any(e["state"] == "loaded" for e in entries)

    def _seed(self) -> None:
        """Write the files that onboarding and the MQTT config flow would have written."""
        storage = self.config / ".storage"
        storage.mkdir(parents=True, exist_ok=True)
        (self.config / "configuration.yaml").write_text(
            "homeassistant:\n  name: Lab\n  latitude: 0\n  longitude: 0\n  elevation: 0\n"
            "  unit_system: metric\n  time_zone: UTC\n  country: NL\n  currency: EUR\n"
            f"http:\n  server_host: 127.0.0.1\n  server_port: {self.http_port}\n"
            "api:\nwebsocket_api:\nconfig:\nsystem_log:\n"
            "logger:\n  default: warning\n  logs:\n"
            f"    homeassistant.components.mqtt: {self.log_level}\n"
            # It logs there when its birth message is out: see wait_for_birth().
            "    homeassistant.components.mqtt.client: info\n" + self.extra_yaml
        )

        def store(key: str, version: int, minor: int, data: Any) -> None:
            (storage / key).write_text(
                json.dumps({"version": version, "minor_version": minor, "key": key, "data": data})
            )

        user, token_id, jwt_key = secrets.token_hex(16), secrets.token_hex(16), secrets.token_hex(64)
        now = "2025-01-01T00:00:00.000000+00:00"
        store(
            "auth",
            1,
            1,
            {
                "users": [
                    {
                        "id": user,
                        "group_ids": ["system-admin"],
                        "is_owner": True,
                        "is_active": True,
                        "name": "Lab",
                        "system_generated": False,
                        "local_only": False,
                    }
                ],
                "groups": [
                    {"id": "system-admin", "name": "Administrators"},
                    {"id": "system-users", "name": "Users"},
                    {"id": "system-read-only", "name": "Read Only"},
                ],
                "credentials": [],
                "refresh_tokens": [
                    {
                        "id": token_id,
                        "user_id": user,
                        "client_id": None,
                        "client_name": "harness",
                        "client_icon": None,
                        "token_type": "long_lived_access_token",
                        "created_at": now,
                        "access_token_expiration": 315360000.0,
                        "token": secrets.token_hex(64),
                        "jwt_key": jwt_key,
                        "last_used_at": None,
                        "last_used_ip": None,
                        "expire_at": None,
                        "credential_id": None,
                        "version": None,
                    }
                ],
            },
        )
        store("onboarding", 4, 1, {"done": ["user", "core_config", "analytics", "integration"]})
        data: dict[str, Any] = {"broker": self.mqtt_host, "port": self.mqtt_port}
        if self.protocol:
            data["protocol"] = self.protocol
        store(
            "core.config_entries",
            1,
            4,
            {
                "entries": [
                    {
                        "created_at": now,
                        "modified_at": now,
                        "data": data,
                        "disabled_by": None,
                        "discovery_keys": {},
                        "domain": "mqtt",
                        "entry_id": "01LABMQTT00000000000000000",
                        "minor_version": 2,
                        "options": {"discovery": True, "discovery_prefix": self.discovery_prefix},
                        "pref_disable_new_entities": False,
                        "pref_disable_polling": False,
                        "source": "user",
                        "title": "mosquitto",
                        "unique_id": None,
                        "version": 1,
                    }
                ]
            },
        )

        def part(value: dict[str, Any]) -> bytes:
            return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=")

        issued = int(time.time()) - 60
        body = (
            part({"alg": "HS256", "typ": "JWT"})
            + b"."
            + part({"iss": token_id, "iat": issued, "exp": issued + 315360000})
        )
        mac = hmac.new(jwt_key.encode(), body, hashlib.sha256).digest()
        self.token = (body + b"." + base64.urlsafe_b64encode(mac).rstrip(b"=")).decode()

    # -- raw access
    def request(self, method: str, path: str, body: Any = None) -> tuple[int, str, bytes]:
        """Return status, content type and body of a REST call."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.http_port}{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"},
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=30) as answer:
                return answer.status, answer.headers.get_content_type(), answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.headers.get_content_type(), error.read()

    def get(self, path: str) -> Any:
        status, _, body = self.request("GET", path)
        if status >= 400:
            raise ValueError(f"GET {path}: {status} {body[:200]!r}")
        return json.loads(body)

    def websocket(self) -> WebSocket:
        return WebSocket(self.http_port, self.token)

    def ws(self, **message: Any) -> Any:
        """Return the result of one websocket command, on a connection of its own."""
        with self.websocket() as connection:
            return connection.command(**message)

    # -- registries and states
    def states(self) -> dict[str, dict[str, Any]]:
        """Return all states, by entity_id."""
        return {s["entity_id"]: s for s in self.get("/api/states")}

    def state(self, entity_id: str) -> str | None:
        found = self.states().get(entity_id)
        return None if found is None else str(found["state"])

    def devices(self) -> list[dict[str, Any]]:
        """Return the device registry."""
        return list(self.ws(type="config/device_registry/list"))

    def device(self, identifier: str) -> dict[str, Any] | None:
        """Return the MQTT device with this identifier; None if there is none."""
        for device in self.devices():
            if any(pair == ["mqtt", identifier] for pair in device["identifiers"]):
                return device
        return None

    def entities(self) -> list[dict[str, Any]]:
        """Return the entity registry."""
        return list(self.ws(type="config/entity_registry/list"))

    def entities_for(self, identifier: str) -> dict[str, dict[str, Any]]:
        """Return the registry entries of a device, by entity_id, each with its state."""
        device = self.device(identifier)
        if device is None:
            return {}
        states = self.states()
        return {
            e["entity_id"]: {**e, "state": states.get(e["entity_id"])}
            for e in self.entities()
            if e["device_id"] == device["id"]
        }

    def triggers_for(self, identifier: str) -> list[dict[str, Any]]:
        """Return the device triggers of MQTT itself."""
        device = self.device(identifier)
        if device is None:
            return []
        return [
            t
            for t in self.ws(type="device_automation/trigger/list", device_id=device["id"])
            if t["domain"] == "mqtt"
        ]

    def debug_info(self, identifier: str) -> dict[str, Any]:
        """Return the MQTT info that Home Assistant shows for a device."""
        device = self.device(identifier)
        if device is None:
            raise HarnessError(f"no device {identifier}")
        return dict(self.ws(type="mqtt/device/debug_info", device_id=device["id"]))

    def issues(self) -> list[dict[str, Any]]:
        """Return the open repair issues."""
        return list(self.ws(type="repairs/list_issues")["issues"])

    def image(self, entity_id: str) -> tuple[int, str, bytes]:
        """Return status, content type and bytes of the image of an image or camera entity."""
        proxy = "image_proxy" if entity_id.startswith("image.") else "camera_proxy"
        return self.request("GET", f"/api/{proxy}/{entity_id}")

    # -- actions
    def call_service(self, domain: str, service: str, **data: Any) -> Any:
        status, _, body = self.request("POST", f"/api/services/{domain}/{service}", data)
        if status >= 400:
            raise HarnessError(f"{domain}.{service}: {status} {body[:300]!r}")
        return json.loads(body)

    def delete_device(self, identifier: str) -> None:
        """Delete a device as a user does on the device's page."""
        device = self.device(identifier)
        if device is None:
            raise HarnessError(f"no device {identifier}")
        command = "config/device_registry/remove"
        try:
            self.ws(type=command, device_id=device["id"])
        except HarnessError as error:
            if "unknown_command" not in str(error):
                raise
            (entry,) = device["config_entries"]
            self.ws(type=f"{command}_config_entry", device_id=device["id"], config_entry_id=entry)

    def wait_for(self, check: Callable[[], Any], timeout: float = 10, what: str = "a condition") -> Any:
        return _wait(check, timeout, what, 0.05)

    def wait_for_state(
        self, entity_id: str, wanted: str | Callable[[dict[str, Any]], bool], timeout: float = 10
    ) -> dict[str, Any]:
        """Wait until the entity exists and its state fits; return the state."""

        def check() -> dict[str, Any] | None:
            found = self.states().get(entity_id)
            if found is None:
                return None
            fits = wanted(found) if callable(wanted) else found["state"] == wanted
            return found if fits else None

        try:
            state: dict[str, Any] = _wait(check, timeout, f"{entity_id} {wanted!r}", 0.05)
        except HarnessError as error:
            raise HarnessError(f"{error}; it is {self.states().get(entity_id)}") from None
        return state

    def expect_birth(self) -> None:
        """Make wait_for_birth() wait for the next birth message."""
        self._births = self._births_sent()

    def wait_for_birth(self, timeout: float = 60) -> None:
        """Wait for the birth message after the start, or after expect_birth().

        It comes 5 s after the last discovery. If the broker goes away before that, Home Assistant logs an
        unhandled error.
        """
        _wait(lambda: self._births_sent() > self._births, timeout, "Home Assistant's birth message")

    def _births_sent(self) -> int:
        return self.log_file.read_bytes().count(b"birth message sent") if self.log_file.exists() else 0

    # -- log
    def log_tail(self, lines: int = 15) -> str:
        return "\n".join(self.log_file.read_text("utf-8", "replace").splitlines()[-lines:])

    def logs(self, level: str = "WARNING", logger: str = "homeassistant.components.mqtt") -> list[LogRecord]:
        """Return the records at or above a level, from a logger and those below it ("" for all)."""
        records: list[LogRecord] = []
        for line in self.log_file.read_bytes()[self._log_from :].decode("utf-8", "replace").splitlines():
            if match := _RECORD.match(line):
                records.append(LogRecord(match[1], match[2], match[4], match[5]))
            elif records:
                last = records[-1]
                records[-1] = LogRecord(last.time, last.level, last.logger, f"{last.message}\n{line}")
        return [
            r
            for r in records
            if LEVELS[r.level] >= LEVELS[level]
            and (not logger or r.logger == logger or r.logger.startswith(logger + "."))
        ]

    def problems(self, level: str = "WARNING") -> list[LogRecord]:
        """Return the records of every logger, except those that a bare lab installation always logs.

        Home Assistant reports some problems of an MQTT entity under the platform
        (homeassistant.components.sensor, .binary_sensor, helpers.entity, ...).
        """
        return [r for r in self.logs(level, "") if not any(n in f"{r.logger} {r.message}" for n in NOISE)]

    def clear_logs(self) -> None:
        """Make logs() start here."""
        self._log_from = self.log_file.stat().st_size
