"""The unit under a real systemd: ready, watched, reloaded, with a secret that it alone can read.

systemd-nspawn boots Debian's systemd on the image's base. The package comes from the image, and
`async-motion install` writes the unit, as config/systemd/README.md shows.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.deploy.conftest import BUILD, Podman
from tests.support.need import need
from tests.support.wait import eventually

pytestmark = [pytest.mark.deploy, pytest.mark.timeout(900)]

SYSTEM = "localhost/async_motion_systemd"
UNIT = "async-motion.service"
TOKEN = "token-that-only-the-service-reads"
SECRET = "/etc/async_motion/credentials/web_token"
SETTINGS = "/etc/async_motion/variables.yaml"
DROP_IN = """\
[Service]
LoadCredential=web_token:/etc/async_motion/credentials/web_token
Environment=ASYNC_MOTION__WEB__TOKEN_FILE=%d/web_token
Environment=ASYNC_MOTION__INSTANCE=edge1
WatchdogSec=15
"""
"""What the head of the unit says of secrets, and a watchdog that does not keep the test waiting."""


@dataclass
class Machine:
    """A booted system, entered by the process id of its systemd."""

    leader: int

    def __call__(self, *command: str, check: bool = True, text: str = "") -> str:
        """Run a command inside, with `text` as its input; return what it prints."""
        done = subprocess.run(
            ["nsenter", "-t", str(self.leader), "-m", "-u", "-i", "-n", "-p", "-C", "--", *command],
            input=text, capture_output=True, text=True, timeout=180,
        )  # fmt: skip
        assert not check or done.returncode == 0, f"{shlex.join(command)}:\n{done.stdout}{done.stderr}"
        return done.stdout.strip()

    def write(self, path: str, text: str, mode: str) -> None:
        self("install", "-D", "-m", mode, "/dev/stdin", path, text=text)

    def show(self, name: str) -> str:
        """Return one property of the unit."""
        return self("systemctl", "show", "--value", "-p", name, UNIT)

    def log(self) -> str:
        return self("journalctl", "-u", UNIT, "-o", "cat", "--no-pager")


@pytest.fixture(scope="module")
def machine(
    podman: Podman, base: str, image: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Machine]:
    """A booted system with the package in /opt/async_motion; what it writes stays in memory."""
    need(shutil.which("systemd-nspawn") is not None, "systemd-nspawn (Debian: systemd-container)")
    folder = tmp_path_factory.mktemp("systemd")
    (folder / "Containerfile").write_text(
        f"FROM {base}\n"
        "RUN apt-get update && apt-get install -y --no-install-recommends systemd systemd-sysv dbus\n"
    )
    podman(*BUILD, "-t", SYSTEM, str(folder), within_s=400)
    root, program = podman("image", "mount", SYSTEM), podman("image", "mount", image)
    command = [
        "systemd-nspawn", "--quiet", "--boot", "--directory", root, "--volatile=overlay",
        f"--bind-ro={program}/opt/async_motion:/opt/async_motion", "--private-network", "--register=no",
        "--keep-unit", "--rlimit=RLIMIT_NOFILE=10000", "--console=pipe", "--machine=async-motion-test",
    ]  # fmt: skip
    with (folder / "boot.log").open("wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        leader: list[int] = []

        def booted() -> bool:
            assert process.poll() is None, (folder / "boot.log").read_text()
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            leader[:] = [int(child) for child in children]
            if not leader:
                return False
            said = Machine(leader[0])("systemctl", "is-system-running", check=False)
            return said in ("running", "degraded")

        eventually(booted, within_s=120, what="systemd to be up")
        yield Machine(leader[0])
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for mounted in (SYSTEM, image):
            podman("image", "umount", mounted)


def test_the_unit_does_what_its_readme_says(machine: Machine) -> None:
    said = machine("/opt/async_motion/bin/async-motion", "install", "--system")
    *_, following = said.partition("next:\n")
    machine.write(SECRET, TOKEN, "600")
    machine.write(f"/etc/systemd/system/{UNIT}.d/test.conf", DROP_IN, "644")
    for command in following.splitlines():
        machine(*shlex.split(command))

    # `enable --now` returns once the service has said that it is ready: Type=notify.
    assert (machine.show("ActiveState"), machine.show("SubState")) == ("active", "running")
    first = machine.show("MainPID")
    assert machine("stat", "-c", "%U", f"/proc/{first}") == "async_motion"

    credential = f"/run/credentials/{UNIT}/web_token"
    assert machine("stat", "-c", "%a", credential) in ("400", "440")
    for path in (SECRET, credential):
        assert machine("cat", path) == TOKEN, "root may"
        assert machine("setpriv", "--reuid", "65534", "--clear-groups", "cat", path, check=False) == ""
    assert status(machine, "") == "401"
    assert status(machine, TOKEN) == "200"

    # A loop that hangs feeds no watchdog.
    machine("sh", "-c", f"kill -STOP {first}")
    eventually(lambda: machine.show("NRestarts") != "0", within_s=90, what="the watchdog to act")
    eventually(
        lambda: machine.show("ActiveState") == "active", within_s=60, what="the service to be up again"
    )
    second = machine.show("MainPID")
    assert second not in ("0", first)

    machine.write(SETTINGS, "instance: edge1\ncameras: {attic: {source: 'demo:'}}\n", "640")
    machine("chgrp", "async_motion", SETTINGS)
    machine("systemctl", "reload", UNIT)
    eventually(lambda: "attic: watching" in machine.log(), within_s=60, what="the new camera")
    assert machine.show("MainPID") == second

    # Wrong settings do not fix themselves: one line says what is wrong, and systemd does not try again.
    machine.write(SETTINGS, "camera: {}\n", "644")
    machine("systemctl", "restart", UNIT, check=False)
    eventually(lambda: machine.show("ActiveState") == "failed", within_s=60, what="the refusal")
    assert (machine.show("ExecMainStatus"), machine.show("SubState")) == ("2", "failed")
    assert "camera: unknown key" in machine.log()

    machine.write(SETTINGS, "instance: edge1\n", "644")
    machine("systemctl", "start", UNIT)
    machine("systemctl", "stop", UNIT)
    assert (machine.show("ActiveState"), machine.show("Result")) == ("inactive", "success")
    assert TOKEN not in machine.log()


def status(machine: Machine, token: str) -> str:
    """Return the status with which the service answers a request for its metrics."""
    asked = (
        "import urllib.request as u, urllib.error as e\n"
        f"r = u.Request('http://127.0.0.1:8585/metrics', headers={{'Authorization': 'Bearer {token}'}})\n"
        "try: print(u.urlopen(r, timeout=30).status)\n"
        "except e.HTTPError as x: print(x.code)\n"
    )
    return machine("/opt/async_motion/bin/python", "-", text=asked)
