"""The image as it is built and run, without a registry: podman with runc on a home-made base."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.need import need

if TYPE_CHECKING:
    from tests.deploy.daemon import Daemon

ROOT = Path(__file__).parents[2]
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "async_motion"
BUILD = ("build", "--isolation", "chroot", "--format", "docker", "--pull-never", "--network", "host")
BASE = "localhost/python:3.13-slim-bookworm"
IMAGE, PACKAGES = "localhost/async_motion_test", "localhost/async_motion_packages"
CLOSED = (
    *("--network", "none", "--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL"),
    *("--security-opt", "no-new-privileges"),
)
"""How docker/README.md runs it, and without a network."""
STAND_IN = "localhost/async_motion_stand_in"
"""What stands in for the images of MinIO, mosquitto and NATS."""
CANARY = "canary-that-no-layer-may-hold"
UID = 10001

STORAGE = """[storage]
driver = "overlay"
runroot = "{folder}/run"
graphroot = "{folder}/graph"
"""
# runc: crun refuses cgroups of both versions at once. Limits: podman's own are above what some hosts allow.
CONTAINERS = """[containers]
default_ulimits = ["nofile=10000:10000", "nproc=10000:10000"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
"""


@dataclass
class Podman:
    """podman with a storage of its own, whose layers are kept for the next run."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "storage.conf").write_text(STORAGE.format(folder=self.folder))
        (self.folder / "containers.conf").write_text(CONTAINERS)
        self.environment = {
            **os.environ,
            "CONTAINERS_STORAGE_CONF": str(self.folder / "storage.conf"),
            "CONTAINERS_CONF": str(self.folder / "containers.conf"),
        }

    def __call__(self, *words: str, check: bool = True, within_s: float = 100.0) -> str:
        """Run podman; return what it prints."""
        done = subprocess.run(
            ["podman", *words], env=self.environment, capture_output=True, text=True, timeout=within_s
        )
        assert not check or done.returncode == 0, f"podman {' '.join(words)}:\n{done.stderr[-4000:]}"
        return done.stdout.strip()

    def logs(self, name: str) -> str:
        """Return what a container has said: the service speaks on standard error."""
        done = subprocess.run(
            ["podman", "logs", name], env=self.environment, capture_output=True, text=True, timeout=60
        )
        return done.stdout + done.stderr

    def inspect(self, image: str) -> dict[str, Any]:
        """Return what podman knows of an image."""
        (found,) = json.loads(self("image", "inspect", image))
        return dict(found)


def python_prefix() -> Path | None:
    """Return where this machine has a Python 3.13 with its library: pyenv's, or the one that runs us."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    prefixes = [*sorted(pyenv.glob("versions/3.13.*")), Path(sys.base_prefix)]
    return next((prefix for prefix in prefixes if (prefix / "lib/libpython3.13.so.1.0").exists()), None)


@pytest.fixture(scope="session")
def podman() -> Podman:
    """Podman, where everything is there that the image is built with."""
    for program in ("podman", "runc", "mmdebstrap"):
        need(shutil.which(program) is not None, f"{program} (Debian)")
    need(os.geteuid() == 0, "root")
    return Podman(CACHE / "containers")


@pytest.fixture(scope="session")
def base(podman: Podman) -> str:
    """Make the base image once, and keep it."""
    if not podman("images", "-q", BASE):
        prefix = python_prefix()
        need(prefix is not None, "a Python 3.13 with its shared library, such as pyenv's")
        assert prefix is not None
        archive = CACHE / f"python-{prefix.name}-bookworm.tar.gz"
        subprocess.run(
            ["bash", str(ROOT / "tests/deploy/make_base.sh"), str(archive), str(prefix)],
            check=True,
            timeout=600,
        )
        podman("import", "-q", str(archive), BASE, within_s=200)
    return BASE


@pytest.fixture(scope="session")
def image(podman: Podman, base: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Build the Dockerfile where an owner's settings and secrets lie about."""
    context = tmp_path_factory.mktemp("context")
    for name in ("async_motion", "config", "docker"):
        shutil.copytree(ROOT / name, context / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in (".dockerignore", "LICENSE", "README.md", "pyproject.toml"):
        shutil.copy2(ROOT / name, context / name)
    (context / "docker/secrets").mkdir(exist_ok=True)
    owners = ("config/processor/variables.yaml", "docker/.env", "docker/secrets/web_token", "data/spool.db")
    for name in owners:
        (context / name).parent.mkdir(parents=True, exist_ok=True)
        (context / name).write_text(f"# {CANARY}\n")
    started = time.monotonic()
    for more in (["--target", "packages", "-t", PACKAGES], ["-t", IMAGE]):
        dockerfile = ["-f", "docker/processor/Dockerfile", "--build-arg", f"PYTHON={base}"]
        podman(*BUILD, *dockerfile, *more, str(context), within_s=800)
    print(f"built in {time.monotonic() - started:.0f} s")
    # What earlier runs have left. The dependencies' stage has a name, so that it stays for the next one.
    podman("image", "prune", "--force", within_s=400)
    return IMAGE


@pytest.fixture(scope="session")
def daemon(
    podman: Podman, base: str, image: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Daemon]:
    """Give one Docker daemon to all compose files, with the image and what stands in for the others."""
    from tests.deploy.daemon import Daemon  # which needs what is above

    folder = ROOT / "tests/deploy/stand_in"
    podman(*BUILD, "--build-arg", f"PYTHON={base}", "-t", STAND_IN, str(folder), within_s=400)
    with Daemon(tmp_path_factory.mktemp("docker")) as running:
        for each in (STAND_IN, image):
            running.take(podman, each)
        yield running


@pytest.fixture
def containers(podman: Podman, image: str) -> Iterator[Containers]:
    """Give what runs the image; its containers go with the test."""
    running = Containers(podman, image)
    yield running
    for name in running.names:
        podman("rm", "-f", "-t", "0", name, check=False)


class Containers:
    """Runs the image without rights, on a read-only root, as docker/README.md says; and without a network."""

    def __init__(self, podman: Podman, image: str) -> None:
        self.podman = podman
        self.names: list[str] = []
        self._image = image

    def start(self, name: str, state: Path, settings: Path, *more: str) -> None:
        """Start a container with `state` as its volume and `settings` as its folder of settings."""
        state.mkdir(parents=True, exist_ok=True)
        os.chown(state, UID, UID)
        self.names.append(name)
        volumes = ("-v", f"{state}:/var/lib/async_motion", "-v", f"{settings}:/etc/async_motion:ro")
        self.podman("run", "-d", "--name", name, *CLOSED, *more, *volumes, self._image)

    def run(self, state: Path, more: Sequence[str], *command: str) -> str:
        """Run one of the image's commands on `state`; return what it prints."""
        volume = ("-v", f"{state}:/var/lib/async_motion")
        return self.podman("run", "--rm", *CLOSED, *more, *volume, self._image, *command)

    def is_healthy(self, name: str) -> bool:
        """Run the image's own health check."""
        done = subprocess.run(
            ["podman", "healthcheck", "run", name],
            env=self.podman.environment,
            capture_output=True,
            timeout=60,
        )
        return done.returncode == 0

    def exit_code(self, name: str) -> int:
        """Return with what a container that has ended did so."""
        return int(self.podman("inspect", name, "--format", "{{.State.ExitCode}}"))
