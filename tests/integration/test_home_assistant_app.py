"""The Home Assistant app: its description is consistent, and it starts with the Supervisor's answers."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import yaml

from async_motion import __version__
from async_motion.settings import load, shipped
from tests.support.need import need
from tests.support.service import ROOT, clean_environment

APP = ROOT / "docker/home_assistant"
BROKER: dict[str, Any] = {
    "host": "core-mosquitto",
    "port": 1883,
    "ssl": False,
    "username": "addons",
    "password": "s3cret-of-mqtt",
}
KNOWN = frozenset(
    {"name", "version", "slug", "description", "arch", "init", "startup", "boot", "stage", "backup"}
    | {"tmpfs", "timeout", "video", "apparmor", "ingress", "ingress_port", "ingress_stream", "panel_icon"}
    | {"panel_title", "panel_admin", "watchdog", "ports", "ports_description", "services", "map", "options"}
    | {"schema"}
)
"""The documented keys of Home Assistant that are used."""
FLAGS = ("init", "tmpfs", "video", "apparmor", "ingress", "ingress_stream", "panel_admin")
CHOICES = {
    "startup": {"initialize", "system", "services", "application", "once"},
    "boot": {"auto", "manual", "manual_only"},
    "stage": {"stable", "experimental", "deprecated"},
    "backup": {"hot", "cold"},
}
PATTERNS = {
    "slug": r"[-_.A-Za-z0-9]+",
    "panel_icon": r"mdi:[a-z0-9-]+",
    "watchdog": r"(https?|\[PROTO:\w+\]|tcp)://\[HOST\]:(\[PORT:\d+\]|\d+).*",
}
FOLDERS = {"data", "config", "ssl", "addons", "backup", "share", "media", "homeassistant_config",
           "all_addon_configs", "addon_config"}  # fmt: skip
OPTION = r"(str|int|float|bool|email|url|port|password|device|match\(.*\)|list\(.+\))(\(.*\))?\??"
"""The values that the Supervisor accepts (its `addons/validate.py`, 2026): another one hides the app."""


def faults(config: dict[str, Any]) -> list[str]:
    """Return the keys whose values the Supervisor would refuse."""
    ports, maps, schema = config["ports"], config["map"], config["schema"]
    wrong = [key for key in FLAGS if not isinstance(config[key], bool)]
    wrong += [key for key, choices in CHOICES.items() if config[key] not in choices]
    wrong += [key for key, pattern in PATTERNS.items() if not re.fullmatch(pattern, config[key])]
    holds = {
        "version": isinstance(config["version"], str),
        "arch": set(config["arch"]) <= {"amd64", "aarch64"},
        "timeout": 10 <= config["timeout"] <= 300,
        "ingress_port": 0 <= config["ingress_port"] <= 65535,
        "ports": all(re.fullmatch(r"\d+(/tcp|/udp)?", port) for port in ports)
        and all(port is None or 0 < port <= 65535 for port in ports.values()),
        "ports_description": set(config["ports_description"]) <= set(ports),
        "services": all(re.fullmatch("(mqtt|mysql):(provide|want|need)", one) for one in config["services"]),
        "map": all(
            one["type"] in FOLDERS
            and isinstance(one["read_only"], bool)
            and set(one) <= {"type", "read_only", "path"}
            for one in maps
        ),
        "schema": all(re.fullmatch(OPTION, option) for option in schema.values()),
    }
    return wrong + [key for key, right in holds.items() if not right]


def test_the_description_holds_together() -> None:
    config = yaml.safe_load((APP / "config.yaml").read_text())
    assert set(config) == KNOWN
    assert config["version"] == __version__
    assert config["arch"] == ["amd64", "aarch64"]
    assert config["ingress_port"] == load(shipped(), {}).web.port
    assert {"type": "media", "read_only": False} in config["map"]
    assert config["services"] == ["mqtt:want"]
    assert set(config["options"]) == set(config["schema"])
    assert config["options"]["role"] in ("viewer", "admin")
    assert config["timeout"] > load(shipped(), {}).shutdown_grace
    translated = yaml.safe_load((APP / "translations/en.yaml").read_text())
    assert set(translated["configuration"]) == set(config["schema"])
    assert set(translated["network"]) == set(config["ports"])
    profile = (APP / "apparmor.txt").read_text()
    assert f"profile {config['slug']} " in profile


def test_the_supervisor_accepts_each_value() -> None:
    config = yaml.safe_load((APP / "config.yaml").read_text())
    assert faults(config) == []
    for key, value in {
        "version": 0.1, "init": "yes", "startup": "late", "watchdog": "http://host/", "timeout": 5,
        "map": [{"type": "pictures", "read_only": False}], "schema": {"role": "choice(a|b)"},
        "services": ["mqtt:maybe"], "ports": {"8585/sctp": None},
    }.items():  # fmt: skip
        assert key in faults(config | {key: value}), key


def parsed(profile: Path) -> subprocess.CompletedProcess[str]:
    """Compile an AppArmor profile without loading it or writing a cache."""
    program = shutil.which("apparmor_parser", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    need(program is not None, "apparmor_parser (Debian: apparmor)")
    command = [program or "apparmor_parser", "--skip-kernel-load", "--skip-cache", str(profile)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_the_apparmor_profile_compiles(tmp_path: Path) -> None:
    done = parsed(APP / "apparmor.txt")
    assert done.returncode == 0, done.stderr
    # The Supervisor refuses an app whose profile does not compile: the parser must find such a fault.
    wrong = tmp_path / "apparmor.txt"
    text = (APP / "apparmor.txt").read_text()
    wrong.write_text(text.replace("unix (create, ", "unix (create, connect, peer, "))
    assert wrong.read_text() != text
    assert parsed(wrong).returncode != 0


@contextmanager
def supervisor(answer: dict[str, Any] | None) -> Iterator[tuple[str, list[str]]]:
    """Yield the URL of a fake Supervisor, and the list of tokens that it received."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(f"{self.path} {self.headers['Authorization']}")
            body = json.dumps({"result": "ok", "data": answer}).encode()
            self.send_response(200 if answer is not None else 400)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()


def started(folder: Path, url: str) -> tuple[dict[str, str], subprocess.CompletedProcess[str]]:
    """Run the app's start script with a fake `async-motion`; return (the fake's environment, process)."""
    programs = folder / "bin"
    programs.mkdir(exist_ok=True)
    fake = programs / "async-motion"
    fake.write_text(
        f'#!{sys.executable}\nimport json, os, sys\nprint("RAN", json.dumps([sys.argv, dict(os.environ)]))\n'
    )
    fake.chmod(0o755)
    places = {key: str(folder / key.lower()) for key in ("DATA", "CONFIG", "MEDIA")}
    for place in places.values():
        Path(place).mkdir(exist_ok=True)
    (folder / "data/options.json").write_text('{"role": "admin"}')
    environment = clean_environment(
        **places, SUPERVISOR=url, SUPERVISOR_TOKEN="t0ken", PATH=f"{programs}:{os.environ['PATH']}"
    )
    done = subprocess.run(
        [sys.executable, str(APP / "run.py")],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    line = next(line for line in done.stdout.splitlines() if line.startswith("RAN "))
    _, given = json.loads(line.removeprefix("RAN "))
    return {key: value for key, value in given.items() if key.startswith("ASYNC_MOTION__")}, done


def test_it_starts_with_what_the_supervisor_tells(tmp_path: Path) -> None:
    with supervisor(BROKER) as (url, asked):
        given, done = started(tmp_path, url)
    assert asked == ["/services/mqtt Bearer t0ken"]
    config = tmp_path / "config/variables.yaml"
    assert config.read_text() == shipped().read_text(), "with all its comments"
    settings = load(config, given)
    assert (settings.mqtt.host, settings.mqtt.username) == ("core-mosquitto", "addons")
    assert settings.directory.path == tmp_path / "media/async_motion"
    assert settings.web.remote_user == "admin"
    assert [str(network) for network in settings.web.trusted_proxies] == ["172.30.32.2/32"]
    token = tmp_path / "data/web_token"
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    assert settings.web.token is not None
    assert settings.web.token.get_secret_value() == token.read_text()
    assert token.read_text() in done.stdout
    assert BROKER["password"] not in done.stderr
    again, done = started(tmp_path, url)
    assert token.read_text() not in done.stdout.partition("RAN")[0], "said once"
    assert again["ASYNC_MOTION__WEB__TOKEN_FILE"] == str(token)


@pytest.mark.parametrize("answer", [None, {}, {"host": ""}])
def test_without_a_broker_it_says_so_and_starts(tmp_path: Path, answer: dict[str, Any] | None) -> None:
    with supervisor(answer) as (url, _):
        given, done = started(tmp_path, url)
    assert "install the Mosquitto app" in done.stderr
    assert load(tmp_path / "config/variables.yaml", given).mqtt.host is None
