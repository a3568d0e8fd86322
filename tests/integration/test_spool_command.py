"""`async-motion spool` on a spool that a real service has left behind."""

from __future__ import annotations

import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from async_motion.cli import main
from tests.support.ports import free_port
from tests.support.service import Service
from tests.support.video import make_clip


def run_without_a_store(tmp_path: Path, spool: str) -> Service:
    """Return a service that has run without its store, and has stopped."""
    clip = make_clip(tmp_path / "clip.mp4", seconds=6.0)
    settings = {
        "instance": "edge1",
        "shutdown_grace": "0s",
        "minio": {"endpoint": f"127.0.0.1:{free_port()}"},
        "mqtt": {"port": free_port()},
        "web": {"port": free_port()},
        "spool": {"path": spool},
        "cameras": {"porch": {"source": str(clip), "event": {"off_delay": "500ms"}}},
    }
    with Service(settings, tmp_path / "run") as service:
        service.wait_for_log("motion ended")
    return service


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """The settings file of a service that has left frames in its spool."""
    return run_without_a_store(tmp_path, str(tmp_path / "spool.db")).config


def test_what_waits_can_be_seen_and_taken_out(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["spool", "--config", str(config)]) == 0
    said = capsys.readouterr().out
    assert "frames wait, 0 were set aside" in said
    assert "porch" in said
    assert main(["spool", "--config", str(config), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    (porch,) = report["waiting"]
    assert porch["camera"] == "porch"
    assert porch["to_store"] > 0
    assert main(["spool", "--config", str(config), "export", str(tmp_path / "out")]) == 0
    jpegs = sorted((tmp_path / "out").rglob("*.jpg"))
    assert len(jpegs) == porch["to_store"]
    for jpeg in jpegs:
        assert cv2.imdecode(np.frombuffer(jpeg.read_bytes(), np.uint8), cv2.IMREAD_COLOR) is not None
    capsys.readouterr()
    assert main(["spool", "--config", str(config), "retry"]) == 0
    assert capsys.readouterr().out == "0 records that were set aside are retried\n"


def test_a_spool_that_was_set_aside_is_read_without_its_settings(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    aside = (tmp_path / "spool.db").rename(tmp_path / "spool.db.damaged-20261122T073112Z")
    config.write_text("instance: [not, settings]\n")
    where = ["spool", "--config", str(config), "--path", str(aside)]
    assert main([*where, "--json"]) == 0
    (porch,) = json.loads(capsys.readouterr().out)["waiting"]
    assert main([*where, "export", str(tmp_path / "out")]) == 0
    assert len(list((tmp_path / "out").rglob("*.jpg"))) == porch["to_store"] > 0


def test_no_spool_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "v.yaml"
    file.write_text(f"spool: {{path: {tmp_path}/none.db}}\n")
    assert main(["spool", "--config", str(file)]) == 1
    assert capsys.readouterr().err.count("\n") == 1
    file.write_text('spool: {path: ":memory:"}\n')
    assert main(["spool", "--config", str(file)]) == 2
    assert "memory" in capsys.readouterr().err


def test_what_was_in_memory_alone_is_said_to_be_lost(tmp_path: Path) -> None:
    service = run_without_a_store(tmp_path, ":memory:")
    entry = service.log()[-1]
    assert entry["level"] == "warning"
    words = r"lost, .*:memory:.* records that waited: (\d+), .* starts and .*: (\d+)"
    found = re.search(words, entry["event"])
    assert found, entry
    assert int(found[1]) > 0
    assert int(found[2]) > 0
    assert not any("next start" in message for message in service.messages())
    assert not list(service.folder.rglob("*.db*"))
