"""docker/compose.yaml whole, under a Docker daemon: healthy, closed, restarted, gone without a trace."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator

import pytest

from tests.deploy.daemon import Daemon, Project, running
from tests.support.wait import eventually

pytestmark = [pytest.mark.deploy, pytest.mark.timeout(900)]

SERVICES = ("minio", "mosquitto", "processor")


@pytest.fixture(scope="module")
def project(daemon: Daemon, image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """Everything up."""
    with running(daemon, image, tmp_path_factory.mktemp("clone")) as found:
        yield found


def asked(project: Project, token: str) -> str:
    """Return the status with which the page answers a request for its metrics."""
    code = (
        "import sys, urllib.request as u, urllib.error as e\n"
        "r = u.Request('http://127.0.0.1:8585/metrics', headers={'Authorization': 'Bearer ' + sys.argv[1]})\n"
        "try: print(u.urlopen(r, timeout=30).status)\n"
        "except e.HTTPError as x: print(x.code)\n"
    )
    return project.inside("processor", "python", "-c", code, token or "none")


def stat(project: Project, key: str) -> str:
    """Return the size of an object, as MinIO's root user sees it."""
    code = (
        "import os, sys; from minio import Minio\n"
        "user, password = os.environ['MINIO_ROOT_USER'], os.environ['MINIO_ROOT_PASSWORD']\n"
        "client = Minio('127.0.0.1:9000', user, password, secure=False, region='us-east-1')\n"
        "print(client.stat_object('motion', sys.argv[1]).size)\n"
    )
    return project.inside("minio", "python3", "-c", code, key)


def test_everything_is_up_closed_and_gone(project: Project) -> None:
    docker = project.daemon
    for service in SERVICES:
        project.wait_healthy(service)
    assert project.inspect("minio-setup")["State"]["ExitCode"] == 0

    # A frame is announced once it is stored: by the uploader's key, and past the broker's access list.
    frame = json.loads(project.heard("async_motion/edge1/demo/frame"))
    assert int(stat(project, frame["object_key"])) == frame["size"]
    assert asked(project, "") == "401"
    assert asked(project, project.secret("web_token")) == "200"

    # No secret is in what `docker inspect`, `docker top` or a log shows, but MinIO's root password in its own
    # environment: it reads it nowhere else.
    values = {path.name: path.read_text().strip() for path in (project.folder / "docker/secrets").iterdir()}
    shown = [json.dumps(project.inspect(service)) for service in (*SERVICES, "minio-setup")]
    shown += [docker("top", project.container(service), "-eo", "pid,args") for service in SERVICES]
    shown.append(project("logs", "--no-color"))
    for name, value in values.items():
        assert not any(value in text for text in shown), name

    for service in SERVICES:
        host = project.inspect(service)["HostConfig"]
        assert host["ReadonlyRootfs"], service
        assert host["CapDrop"] == ["ALL"], service
        assert all(host[bound] > 0 for bound in ("Memory", "PidsLimit", "NanoCpus")), service
        assert host["LogConfig"]["Config"] == {"max-file": "3", "max-size": "10m"}, service
    assert project.inside("processor", "id", "-u") == "10001"

    # What kills the service is not its end.
    before = project.inspect("processor")["State"]["Pid"]
    os.kill(before, signal.SIGKILL)
    eventually(
        lambda: project.inspect("processor")["State"]["Pid"] not in (0, before), what="another process"
    )
    project.wait_healthy("processor")

    project("stop", "--timeout", "30", "processor")
    assert project.inspect("processor")["State"]["ExitCode"] == 0, "SIGTERM was enough"
    project("down", "-v", "--timeout", "30")
    assert docker("ps", "-aq") == ""
    assert docker("volume", "ls", "-q") == ""
