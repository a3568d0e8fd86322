"""A first 0.1.0 with a full spool is replaced by today's version, and back, and again.

The old version comes out of the repository's own history, and runs on the libraries of today. It wrote spools
of version 1; today's writes version 2.
"""

from __future__ import annotations

import subprocess
import tarfile
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from async_motion.spool import export, look
from tests.support.mqtt import Mosquitto, Recorder
from tests.support.need import need
from tests.support.ports import free_port
from tests.support.service import ROOT, Service
from tests.support.video import make_clip
from tests.support.wait import eventually

pytestmark = [pytest.mark.deploy, pytest.mark.timeout(600)]

OLD = "9aea06ef457f37af978e5006913455e3f8c31ce9"
"""The last commit whose spools are of version 1."""


@pytest.fixture
def old_code(tmp_path: Path) -> Path:
    """Take the old version out of the repository."""
    archive = tmp_path / "old.tar"
    command = ["git", "-C", str(ROOT), "archive", "-o", str(archive), OLD, "async_motion"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    need(
        done.returncode == 0, f"a clone with its whole history (git fetch --unshallow): {done.stderr.strip()}"
    )
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path / "old", filter="data")
    return tmp_path / "old"


def settings_of(folder: Path, broker: Mosquitto, **more: Any) -> dict[str, Any]:
    camera = {"source": str(folder / "clip.mp4"), "event": {"off_delay": "500ms"}}
    return {
        "instance": "edge1",
        "shutdown_grace": "0s",
        "mqtt": {"host": "127.0.0.1", "port": broker.port},
        "web": {"port": free_port()},
        "cameras": {"porch": camera},
        **more,
    }


def frames_in(spool: Path, folder: Path) -> set[str]:
    """Return the keys of the frames that wait in a spool."""
    return {str(file.relative_to(folder)) for file in export(spool, folder)}


def is_empty(spool: Path) -> bool:
    return look(spool).records == 0


def entities(recorder: Recorder) -> dict[str, str]:
    """Return what Home Assistant is told now: the unique id of each entity, and the topic of its device."""
    found: dict[str, str] = {}
    for message in list(recorder.messages):
        if message.topic.startswith("homeassistant/device/") and message.payload:
            for component in message.json()["components"].values():
                if "unique_id" in component:
                    found[component["unique_id"]] = message.topic
    return found


def test_an_upgrade_and_the_way_back_lose_nothing(tmp_path: Path, old_code: Path) -> None:
    make_clip(tmp_path / "clip.mp4", seconds=6.0)
    home = tmp_path / "home"
    spool = home / "data/spool.db"
    with Mosquitto(tmp_path / "broker") as broker, Recorder(broker.port, ("#",)) as recorder:
        away = settings_of(tmp_path, broker, minio={"endpoint": f"127.0.0.1:{free_port()}"})

        with Service(away, home, env={"PYTHONPATH": str(old_code)}) as old:
            recorder.wait("homeassistant/device/async_motion_edge1/porch/config", within_s=60)
            recorder.publish("async_motion/edge1/porch/threshold/set", "31")
            recorder.wait(lambda m: m.topic.endswith("porch/threshold") and m.text.startswith("31"))
            old.wait_for_log("motion ended")
        first = frames_in(spool, tmp_path / "first")
        known = entities(recorder)
        assert first
        assert "async_motion_edge1_porch_motion" in known or len(known) > 10

        # Today's version: the same frames, entities and values, and some more of its own.
        seen = len(recorder.messages)
        with Service(away, home) as new:
            new.wait_for_log("motion ended", times=2)
            eventually(
                lambda: any(
                    m.topic.endswith("porch/threshold") and m.text.startswith("31")
                    for m in recorder.messages[seen:]
                ),
                within_s=30,
                what="the remembered value",
            )
            eventually(lambda: known.items() <= entities(recorder).items(), within_s=30, what="the entities")
        both = frames_in(spool, tmp_path / "both")
        assert first < both
        emptied = [m.topic for m in recorder.messages[seen:] if "/device/" in m.topic and not m.payload]
        assert emptied == [], "no device goes, not even for a moment"

        # Back: the old version says that it cannot read the spool, keeps it, and goes on with another.
        with Service(away, home, env={"PYTHONPATH": str(old_code)}) as old:
            said = old.wait_for_log("newer", within_s=60)
            old.wait_for_log("motion ended", times=3)
        (kept,) = (
            path for path in spool.parent.glob("spool.db.newer-*") if not path.name.endswith(("-wal", "-shm"))
        )
        assert kept.name in said
        assert frames_in(kept, tmp_path / "kept") == both
        meanwhile = frames_in(spool, tmp_path / "meanwhile")
        assert meanwhile

        # And today's again, with a store, on each of the two: everything arrives.
        quiet = settings_of(tmp_path, broker)
        quiet["cameras"]["porch"]["enabled"] = False
        for waiting in (spool, kept):
            config = {**quiet, "spool": {"path": str(waiting)}}
            with Service(config, home):
                eventually(partial(is_empty, waiting), within_s=60, what="the delivery")
        stored = {str(path.relative_to(home / "data/objects")) for path in home.glob("data/objects/**/*.jpg")}
        assert stored >= both | meanwhile
        assert yaml.safe_load((home / "variables.yaml").read_text())["instance"] == "edge1"
