"""A Docker daemon of the tests' own, in which the images run that podman has built.

Debian's packages are unpacked into the cache, not installed: their service would start. The daemon lives in a
network namespace: published ports meet nothing of this machine, and no container reaches the internet.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

from tests.deploy.conftest import CACHE, ROOT, STAND_IN, Podman
from tests.support.need import need
from tests.support.wait import eventually

PROGRAMS = CACHE / "docker"
"""Debian's docker.io, containerd and tini, which `.ci/run` unpacks."""
DATA = CACHE / "dockerd"
"""The daemon's images are kept: most of their layers are the same at the next run."""

PROJECT = "motion"
OFTEN = {"interval": "2s", "timeout": "10s"}
"""The health checks of the files at a rate that does not keep a test waiting."""


@dataclass
class Daemon:
    """dockerd in a network namespace, from entering the context to leaving it."""

    folder: Path

    def __post_init__(self) -> None:
        need((PROGRAMS / "usr/sbin/dockerd").exists(), "Debian's docker.io, unpacked (.ci/run)")
        self._namespace = f"am{secrets.token_hex(3)}"
        self._environment = os.environ | {
            "PATH": f"{PROGRAMS}/usr/bin:{PROGRAMS}/usr/sbin:{os.environ['PATH']}",
            "DOCKER_HOST": f"unix://{self.folder}/docker.sock",
        }

    def __enter__(self) -> Self:
        subprocess.run(["ip", "netns", "add", self._namespace], check=True)
        subprocess.run(["ip", "-n", self._namespace, "link", "set", "lo", "up"], check=True)
        command = [
            "nsenter", f"--net=/run/netns/{self._namespace}", "dockerd", "--data-root", str(DATA),
            "--exec-root", str(self.folder / "exec"), "--pidfile", str(self.folder / "docker.pid"),
            "--host", f"unix://{self.folder}/docker.sock", "--iptables=false", "--ip-masq=false",
            "--storage-driver", "overlay2", "--init-path", str(PROGRAMS / "usr/bin/docker-init"),
            "--default-ulimit", "nofile=10000:10000",
        ]  # fmt: skip
        self._log = (self.folder / "dockerd.log").open("wb")
        self._process = subprocess.Popen(
            command, env=self._environment, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log
        )
        try:
            eventually(self._is_up, within_s=60, what="dockerd to be up")
            # What a killed run has left.
            self("system", "prune", "--force", "--volumes")
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()
        subprocess.run(["ip", "netns", "del", self._namespace], check=True)

    def __call__(self, *words: str, check: bool = True) -> str:
        """Run docker; return what it prints."""
        return self.run(["docker", *words], check=check)

    def run(self, command: list[str], *, check: bool = True, cwd: Path | None = None) -> str:
        """Run a client of the daemon; return what it prints."""
        done = subprocess.run(
            command, env=self._environment, cwd=cwd, capture_output=True, text=True, timeout=300
        )
        assert not check or done.returncode == 0, f"{' '.join(command)}:\n{done.stdout}{done.stderr}"
        return done.stdout.strip()

    def take(self, podman: Podman, image: str) -> None:
        """Give the daemon an image that podman has."""
        identity = podman.inspect(image)["Id"]
        if identity in self("image", "ls", "--no-trunc", "--quiet"):
            return
        saving = subprocess.Popen(
            ["podman", "save", "--quiet", "--format", "docker-archive", image],
            env=podman.environment, stdout=subprocess.PIPE,
        )  # fmt: skip
        subprocess.run(
            ["docker", "load", "--quiet"], env=self._environment, stdin=saving.stdout, check=True,
            capture_output=True, timeout=300,
        )  # fmt: skip
        assert saving.stdout is not None
        saving.stdout.close()
        assert saving.wait(60) == 0
        self("image", "prune", "--force")

    def inspect(self, name: str) -> dict[str, Any]:
        """Return what the daemon knows of a container."""
        found: dict[str, Any] = yaml.safe_load(self("container", "inspect", name))[0]
        return found

    def _is_up(self) -> bool:
        assert self._process.poll() is None, (self.folder / "dockerd.log").read_text()[-4000:]
        done = subprocess.run(["docker", "version"], env=self._environment, capture_output=True, timeout=60)
        return done.returncode == 0


@dataclass
class Project:
    """A compose project of a daemon: the files under `folder`/docker, by docker-compose."""

    daemon: Daemon
    folder: Path
    files: tuple[str, ...]
    override: Mapping[str, Any]
    """What a machine without a registry needs on top: the images that stand in."""

    def __post_init__(self) -> None:
        self._override = self.folder / "override.yaml"
        self._override.write_text(yaml.safe_dump({"services": dict(self.override)}))

    def __call__(self, *words: str, check: bool = True) -> str:
        """Run docker-compose; return what it prints."""
        files = [part for name in self.files for part in ("-f", str(self.folder / "docker" / name))]
        command = ["docker-compose", "-p", PROJECT, *files, "-f", str(self._override), *words]
        return self.daemon.run(command, check=check, cwd=self.folder / "docker")

    def container(self, service: str) -> str:
        """Return the id of a service's container."""
        labels = (f"com.docker.compose.project={PROJECT}", f"com.docker.compose.service={service}")
        filters = [word for label in labels for word in ("--filter", f"label={label}")]
        return self.daemon("ps", "--all", "--quiet", "--no-trunc", *filters)

    def inspect(self, service: str) -> dict[str, Any]:
        """Return what the daemon knows of a service's container."""
        return self.daemon.inspect(self.container(service))

    def inside(self, service: str, *command: str) -> str:
        """Run a command in a service's container; return what it prints."""
        return self.daemon("exec", self.container(service), *command)

    def wait_healthy(self, service: str) -> None:
        """Wait until the daemon has found a service healthy, by the check of its compose file."""

        def healthy() -> bool:
            return bool(self.inspect(service)["State"]["Health"]["Status"] == "healthy")

        eventually(healthy, within_s=120, what=f"{service} to be healthy")

    def secret(self, name: str) -> str:
        """Return a secret that make-secrets.sh has made."""
        return (self.folder / "docker/secrets" / name).read_text().strip()

    def heard(self, topic: str) -> str:
        """Return the first message on a topic, as Home Assistant's user receives it."""
        words = ("-u", "homeassistant", "-P", self.secret("mqtt_homeassistant_password"))
        return self.inside("mosquitto", "mosquitto_sub", *words, "-t", topic, "-C", "1", "-W", "90")


@contextmanager
def running(
    daemon: Daemon, image: str, folder: Path, *more: str, override: Mapping[str, Any] | None = None
) -> Iterator[Project]:
    """Give a fresh clone, up by the commands of docker/README.md: compose.yaml, with `more` on top."""
    for name in ("docker", "config"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns(".env", "secrets"))
    subprocess.run(["sh", str(folder / "docker/make-secrets.sh")], check=True, capture_output=True)
    services = {
        "minio": {"image": STAND_IN, "healthcheck": OFTEN},
        "minio-setup": {"image": STAND_IN},
        "mosquitto": {"image": STAND_IN, "healthcheck": OFTEN},
        "processor": {"image": image, "healthcheck": OFTEN},
    }
    project = Project(daemon, folder, ("compose.yaml", *more), services | dict(override or {}))
    try:
        project("up", "-d", "--no-build")
        yield project
    finally:
        print(project("logs", "--no-color", check=False)[-8000:])
        project("down", "-v", "--timeout", "30", check=False)
