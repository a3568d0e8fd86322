"""The README's first command, run as written on a clean copy with a new environment, as by a new user."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import cv2
import jsonschema
import numpy as np
import pytest

from tests.support.ports import free_port
from tests.support.readme import README, commands
from tests.support.wait import eventually

ROOT = README.parent
KEPT = ("async_motion", "config", "docker", "pyproject.toml", "README.md", "LICENSE")


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the program's files of a clone, and no build products of this machine."""
    folder = tmp_path_factory.mktemp("clone")
    for name in KEPT:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, folder / name)
    return folder


@pytest.fixture(scope="module")
def environment() -> dict[str, str]:
    env = {
        k: v
        for k, v in os.environ.items()
        if not k.startswith(("ASYNC_MOTION", "MINIO_", "PYTHON", "VIRTUAL"))
    }
    # The defaults prefer fixed ports; a test must not take a port that may be in use.
    return env | {"ASYNC_MOTION__MQTT__PORT": str(free_port()), "ASYNC_MOTION__WEB__PORT": str(free_port())}


@pytest.fixture(scope="module")
def running(clone: Path, environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """The first command while the tests run; SIGTERM must then end it with exit code 0."""
    with (clone / "out.log").open("wb") as out:
        process = subprocess.Popen(
            [
                "bash",
                "-c",
                commands()[0].replace(".venv/bin/async-motion run", "exec .venv/bin/async-motion run"),
            ],
            cwd=clone,
            env=environment,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    try:
        yield process
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0, (clone / "out.log").read_text()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


@pytest.mark.timeout(900)
def test_first_and_third_command(
    clone: Path, environment: dict[str, str], running: subprocess.Popen[bytes]
) -> None:
    log = clone / "out.log"

    def started() -> bool:
        assert running.poll() is None, log.read_text()
        return "motion started" in log.read_text()

    eventually(started, within_s=600, what="the first event in the log")
    listener = subprocess.run(
        ["bash", "-c", f"{commands()[2]} --json"],
        cwd=clone,
        env=environment,
        capture_output=True,
        timeout=240,
        check=False,
    )
    assert listener.returncode == 0, listener.stderr.decode()
    announced = [json.loads(line) for line in listener.stdout.splitlines()]
    assert len(announced) >= 3
    schema = json.loads((ROOT / "async_motion/schemas/frame-1.json").read_text())
    for said in announced:
        jsonschema.validate(said, schema)
        fetched = (clone / "frames" / said["object_key"]).read_bytes()
        stored = (clone / "data/objects" / said["object_key"]).read_bytes()
        assert fetched == stored
        assert hashlib.sha256(stored).hexdigest() == said["sha256"]
        assert len(stored) == said["size"]
        file = clone / "data/objects" / said["object_key"]
        metadata = json.loads(file.with_name(f".{file.name}.meta.json").read_text())["metadata"]
        words = ("instance", "camera", "event_id", "frame_id", "captured_at", "sha256")
        assert {word.replace("_", "-"): said[word] for word in words}.items() <= metadata.items()
        assert float(metadata["score"]) == pytest.approx(said["score"], abs=1e-6)
        image = cv2.imdecode(np.frombuffer(stored, np.uint8), cv2.IMREAD_COLOR)
        assert image is not None
        assert image.shape == (said["height"], said["width"], 3)
        assert said["object_key"] in log.read_text(), "each stored key is in the log"
