"""`async-motion scan --ray` on two nodes with one CPU each, one of which is killed during the scan."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.support.ray import RayHead
from tests.support.service import ROOT, clean_environment
from tests.support.video import make_clip
from tests.support.wait import eventually

pytestmark = pytest.mark.timeout(400)


def test_a_cluster_gives_what_one_process_gives_though_a_node_dies(tmp_path: Path) -> None:
    recordings = tmp_path / "rec" / "porch"
    recordings.mkdir(parents=True)
    for minute in range(8):
        clip = recordings / f"20260301_12{minute:02d}00.mp4"
        make_clip(clip, seconds=30, size=(320, 240), start_s=2 + minute / 4, length_s=2, noise=2)
    (recordings / "20260301_130000.mp4").write_bytes(b"no video")

    def command(name: str, *arguments: str) -> list[str]:
        config = tmp_path / f"{name}.yaml"
        config.write_text(yaml.safe_dump({"instance": "edge1", "directory": {"path": str(tmp_path / name)}}))
        shared = ["--config", str(config), "--store", "--json", "--decode", "all", *arguments]
        return [sys.executable, "-m", "async_motion", "scan", str(recordings), *shared]

    alone = subprocess.run(
        command("alone", "--processes", "1"),
        cwd=ROOT,
        env=clean_environment(),
        capture_output=True,
        text=True,
    )
    assert alone.returncode == 1, alone.stderr
    assert len(alone.stdout.splitlines()) == 8
    with RayHead(tmp_path) as head:
        environment = clean_environment() | {
            key: value for key, value in head.environment.items() if key.startswith("RAY_")
        }
        with subprocess.Popen(
            command("wrong", "--ray", head.address),
            cwd=ROOT,
            env=environment | {"RAY_AUTH_TOKEN": "0" * 64},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as stranger:
            node = head.add()
            _, err = stranger.communicate(timeout=100)
        assert stranger.returncode == 1
        assert err.splitlines()[-1].startswith(f"async-motion: --ray: no cluster answers at {head.address}")
        assert "0000000000" not in err

        markers = tmp_path / "ray" / "edge1" / ".scan" / "1" / "porch" / "done"
        with subprocess.Popen(
            command("ray", "--ray", head.address),
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as scanning:
            eventually(
                lambda: len(list(markers.glob("[0-9a-f]*.json"))) >= 2, within_s=150, what="two markers"
            )
            done = len(list(markers.glob("[0-9a-f]*.json")))
            node.kill()
            out, err = scanning.communicate(timeout=200)
        assert done < 8, "the node died too late to matter"
        assert "gave up on it" not in err, err
        assert scanning.returncode == 1, err
        assert "20260301_130000.mp4: is not a video that can be read" in err
        assert "RAY_AUTH_MODE" not in err, "the token mode is on"
        assert head.environment["RAY_AUTH_TOKEN"] not in out + err
    assert out == alone.stdout
    events = {json.loads(line)["event_id"] for line in out.splitlines()}
    for name in ("alone", "ray"):
        stored = {path.parent.name for path in (tmp_path / name / "edge1/porch").rglob("event.json")}
        assert stored == events
    index = "edge1/.index/1/porch/2026/03/01.5ca9ed.jsonl.gz"
    assert (tmp_path / "ray" / index).read_bytes() == (tmp_path / "alone" / index).read_bytes()
