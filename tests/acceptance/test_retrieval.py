"""Every command of the document on retrieval, run as written over a directory of events."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.support.bucket import INSTANCE, fill, make_event
from tests.support.readme import ROOT, blocks
from tests.support.service import clean_environment
from tests.support.still import walking_square

DOCUMENT = ROOT / "async_motion" / "retrieval" / "README.md"
EVENT = "20261122T073112345Z-7c1e9a"
COMMANDS = [line for block in blocks(DOCUMENT, "sh") for line in block.splitlines()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory whose store has the document's event, one of yesterday and a recent one."""
    folder = tmp_path_factory.mktemp("retrieval")
    jpegs, boxes = walking_square(5)
    now = datetime.now(UTC)
    at = (
        datetime(2026, 11, 22, 7, 31, 12, 345000, tzinfo=UTC),
        now.astimezone().replace(hour=12, minute=0) - timedelta(days=1),
        now - timedelta(minutes=5),
        now - timedelta(days=40),
    )
    events = [
        make_event(at=moment, salt=0x7C1E9A, jpegs=jpegs, boxes=boxes[:1], zones=["drive"], size=(640, 360))
        for moment in at
    ]
    assert events[0].event_id == EVENT
    fill(folder / "data" / "objects", *events)
    return folder


def run(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    ours = command.replace(".venv/bin/async-motion", f"{sys.executable} -m async_motion")
    environment = clean_environment(ASYNC_MOTION__INSTANCE=INSTANCE, PYTHONPATH=str(ROOT))
    return subprocess.run(
        ["bash", "-c", ours],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_the_command_works(command: str, folder: Path) -> None:
    done = run(command, folder)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    if "events" in command and "--from" in command:
        assert EVENT in done.stdout
    if "--json" in command:
        assert json.loads(done.stdout.splitlines()[-1])["camera"] == "porch"
    if "--archive" in command:
        digest = done.stdout.split()[0]
        assert hashlib.sha256((folder / "evidence.zip").read_bytes()).hexdigest() == digest
        with zipfile.ZipFile(folder / "evidence.zip") as archive:
            archive.extractall(folder / "evidence")
        subprocess.run(
            ["sha256sum", "-c", "SHA256SUMS"], cwd=folder / "evidence", check=True, capture_output=True
        )
    if "--yes" in command:
        assert "deleted: 1 event, 5 frames" in done.stdout


def test_the_document_names_every_option() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    for command in ("events", "get", "report", "delete"):
        options = subprocess.run(
            [sys.executable, "-m", "async_motion", command, "--help"],
            capture_output=True,
            text=True,
            check=True,
            env=clean_environment(PYTHONPATH=str(ROOT)),
        ).stdout
        named = {word.strip(",:[]") for word in options.split() if word.startswith("--")} - {
            "--help",
            "--config",
        }
        assert {option for option in named if option not in text} <= {"--instance"}
