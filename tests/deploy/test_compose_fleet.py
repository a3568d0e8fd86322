"""docker/compose.fleet.yaml on top of compose.yaml: a killed worker's camera goes on at the other worker."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.deploy.conftest import STAND_IN
from tests.deploy.daemon import OFTEN, Daemon, Project, running
from tests.support.wait import eventually

pytestmark = [pytest.mark.deploy, pytest.mark.timeout(900)]

WORKERS = {"one": "processor", "two": "processor2"}
SERVERS = ("nats1", "nats2", "nats3")


@pytest.fixture(scope="module")
def project(daemon: Daemon, image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """The fleet up: NATS's image puts its program before flags, and so does the one that stands in."""
    server = {"image": STAND_IN, "entrypoint": ["nats-server"]}
    override = {**dict.fromkeys(SERVERS, server), "processor2": {"image": image, "healthcheck": OFTEN}}
    folder = tmp_path_factory.mktemp("fleet")
    with running(daemon, image, folder, "compose.fleet.yaml", override=override) as found:
        yield found


def fleet(project: Project, service: str) -> dict[str, Any]:
    """Return the fleet as the command in one of its containers shows it."""
    shown: dict[str, Any] = json.loads(project.inside(service, "async-motion", "fleet", "--json"))
    return shown


def announced(project: Project) -> dict[str, Any]:
    frame: dict[str, Any] = json.loads(project.heard("async_motion/edge1/demo/frame"))
    return frame


def test_a_killed_workers_camera_goes_to_the_other(project: Project) -> None:
    docker = project.daemon
    for service in WORKERS.values():
        project.wait_healthy(service)
    before = announced(project)
    owner = before["worker"]
    (other,) = WORKERS.keys() - {owner}
    shown = fleet(project, "processor")
    assert shown["workers"].keys() == WORKERS.keys()
    assert not any(worker["different"] for worker in shown["workers"].values())
    assert shown["cameras"] == {"demo": {"worker": owner, "epoch": before["epoch"]}}

    for service in SERVERS:
        found = project.inspect(service)
        assert found["State"]["Running"], service
        assert found["RestartCount"] == 0, service
        assert found["Config"]["User"] == "10002:10002", service
        host = found["HostConfig"]
        assert host["ReadonlyRootfs"], service
        assert host["CapDrop"] == ["ALL"], service
        assert all(host[bound] > 0 for bound in ("Memory", "PidsLimit", "NanoCpus")), service
        assert host["LogConfig"]["Config"] == {"max-file": "3", "max-size": "10m"}, service

    docker("kill", project.container(WORKERS[owner]))

    def handed_over() -> bool:
        owners: dict[str, Any] = fleet(project, WORKERS[other])["cameras"]
        return "demo" in owners and bool(owners["demo"]["worker"] == other)

    eventually(handed_over, within_s=120, what="the other worker to have the camera")
    after = announced(project)
    assert after["worker"] == other
    assert after["epoch"] > before["epoch"]

    # A container that `docker kill` has ended stays down until it is started.
    docker("start", project.container(WORKERS[owner]))
    project.wait_healthy(WORKERS[owner])
    eventually(
        lambda: fleet(project, WORKERS[other])["workers"].keys() == WORKERS.keys(),
        within_s=120,
        what="the killed worker to be back",
    )

    project("down", "-v", "--timeout", "30")
    assert docker("ps", "-aq") == ""
    assert docker("volume", "ls", "-q") == ""
