"""`async-motion scan` as users run it: processes, SIGKILL, buckets, and compared with the live service."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from async_motion.app.buckets import build_bucket, build_events
from async_motion.core.payloads import parse_iso
from async_motion.settings import load
from async_motion.store.minio import MinioStore
from tests.support.children import is_alive
from tests.support.ports import free_ports
from tests.support.s3 import S3Server, seaweedfs
from tests.support.service import ROOT, Service, clean_environment
from tests.support.video import make_clip
from tests.support.wait import eventually

SIZE = (160, 120)
ZONES = {"left": {"polygon": [[0, 0], [0.5, 0], [0.5, 1], [0, 1]]}}
CAMERA: dict[str, Any] = {"source": "rtsp://cam/1", "detect": {"zones": ZONES}, "event": {"off_delay": "2s"}}


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six recordings of `porch`; the damaged one is still playable, the broken one holds no video."""
    folder = tmp_path_factory.mktemp("rec") / "porch"
    folder.mkdir()
    for minute in range(6):
        make_clip(
            folder / f"20260301_12{minute:02d}00.mp4",
            seconds=8,
            size=SIZE,
            start_s=1.5 + minute / 4,
            length_s=2,
            noise=2,
        )
    damaged = bytearray((folder / "20260301_120300.mp4").read_bytes())
    middle = len(damaged) // 2
    damaged[middle : middle + 200] = bytes(200)
    (folder / "20260301_120300.mp4").write_bytes(damaged)
    (folder / "20260301_121000.mp4").write_bytes(b"no video")
    return folder


def command(folder: Path, *arguments: str, settings: dict[str, Any] | None = None) -> list[str]:
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "variables.yaml"
    plain = {
        "instance": "edge1",
        "directory": {"path": str(folder / "objects")},
        "cameras": {"porch": CAMERA},
    }
    config.write_text(yaml.safe_dump(plain | (settings or {})))
    return [sys.executable, "-m", "async_motion", "scan", "--config", str(config), *arguments]


def run(folder: Path, *arguments: str, **more: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(folder, *arguments, **more),
        cwd=ROOT,
        env=clean_environment(TZ="UTC"),
        capture_output=True,
        text=True,
        timeout=110,
    )


def tree(folder: Path) -> dict[str, str]:
    """Return the digest of each file, except files that contain their own location."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "variables.yaml"
    }


@pytest.fixture(scope="module")
def whole(recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, str]]:
    """Output and stored files of a scan that is not interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    done = run(folder, str(recordings), "--json", "--store", "--processes", "1")
    return done.stdout, tree(folder)


def test_processes_give_the_bytes_of_one(recordings: Path, tmp_path: Path) -> None:
    made = []
    for count in ("1", "3"):
        folder = tmp_path / count
        done = run(
            folder,
            *(str(recordings), "--json", "--processes", count),
            *("--store", "--stills", "--video", "--out", str(folder / "out")),
        )
        assert done.returncode == 1, done.stderr
        assert "20260301_121000.mp4: is not a video that can be read" in done.stderr
        assert "7 recordings" in done.stderr
        made.append((done.stdout, tree(folder)))
    (one, one_tree), (many, many_tree) = made
    assert len(one.splitlines()) >= 6
    assert one == many
    assert one_tree == many_tree
    assert sum(name.endswith("overlay.mp4") for name in one_tree) == len(one.splitlines())
    assert "objects/edge1/.index/1/porch/2026/03/01.5ca9ed.jsonl.gz" in one_tree


@pytest.mark.parametrize("processes", [1, 2])
def test_after_sigkill_the_same_command_goes_on(
    recordings: Path, whole: tuple[str, dict[str, str]], tmp_path: Path, processes: int
) -> None:
    arguments = [str(recordings), "--json", "--store", "--processes", str(processes)]
    folder = tmp_path / "cut"
    markers = folder / "objects/edge1/.scan/1/porch/done"
    with subprocess.Popen(
        command(folder, *arguments),
        cwd=ROOT,
        env=clean_environment(TZ="UTC"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as scanning:
        eventually(lambda: len(list(markers.glob("[0-9a-f]*.json"))) >= 2, within_s=60, what="two markers")
        children = Path(f"/proc/{scanning.pid}/task/{scanning.pid}/children").read_text().split()
        scanning.kill()
    eventually(lambda: not any(is_alive(int(pid)) for pid in children), within_s=20, what="no orphan")
    known = {path.name for path in markers.glob("[0-9a-f]*.json")}
    written = {path: path.stat().st_mtime_ns for path in folder.rglob("event.json")}
    assert 2 <= len(known) < 6

    done = run(folder, *arguments)
    assert done.returncode == 1, "the broken one"
    assert f"{len(known)} done before" in done.stderr
    assert (done.stdout, tree(folder)) == whole
    again = [path for path, at in written.items() if path.stat().st_mtime_ns != at]
    assert len(again) <= processes


def test_a_stop_leaves_no_process(recordings: Path, tmp_path: Path) -> None:
    many = tmp_path / "porch"
    many.mkdir()
    for minute in range(60):  # far from done when the first line comes
        (many / f"20260301_12{minute:02d}00.mp4").hardlink_to(recordings / "20260301_120000.mp4")
    with subprocess.Popen(
        command(tmp_path, str(many), "--json", "--processes", "2", "--decode", "all"),
        cwd=ROOT,
        env=clean_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as scanning:
        assert scanning.stdout is not None
        assert scanning.stdout.readline()
        children = Path(f"/proc/{scanning.pid}/task/{scanning.pid}/children").read_text().split()
        # To the whole process group, as a terminal does.
        os.killpg(scanning.pid, signal.SIGINT)
        _, said = scanning.communicate(timeout=30)
        assert scanning.returncode == 0
    assert "Traceback" not in said
    # Helpers that watch a pipe of their parent end a moment after it.
    eventually(lambda: not any(is_alive(int(pid)) for pid in children), what="the end of the processes")


def test_the_events_are_those_of_the_live_service(recordings: Path, tmp_path: Path) -> None:
    clip = recordings / "20260301_120000.mp4"
    mqtt_port, web_port = free_ports(2)
    capture = {"speed": "max", "loop": False, "decode": "all"}
    live = {
        "instance": "edge1",
        "directory": {"path": str(tmp_path / "live/objects")},
        "spool": {"path": str(tmp_path / "live/spool.db")},
        "mqtt": {"port": mqtt_port},
        "web": {"port": web_port},
        "cameras": {"porch": {**CAMERA, "source": str(clip), "capture": capture}},
    }
    with Service(live, tmp_path / "live"):
        events = tmp_path / "live/objects/edge1/porch"
        eventually(lambda: bool(list(events.rglob("event.json"))), within_s=60, what="the event's summary")
        (path,) = events.rglob("event.json")
        expected = json.loads(path.read_text())
    done = run(tmp_path / "scan", str(clip), "--store", "--decode", "all", "--processes", "1")
    assert done.returncode == 0, done.stderr
    (path,) = (tmp_path / "scan/objects/edge1/porch").rglob("event.json")
    found = json.loads(path.read_text())
    for name in ("instance", "camera", "reason", "zones", "frames_stored"):
        assert found[name] == expected[name], name
    for name in ("duration_s", "peak_score"):
        assert found[name] == pytest.approx(expected[name], abs=0.002), name
    assert found.keys() == expected.keys()
    for frame, other in zip(found["frames"], expected["frames"], strict=True):
        assert frame.keys() == other.keys()
        for name in ("seq", "zones", "width", "height", "sha256"):
            assert frame[name] == other[name], name
        assert frame["score"] == pytest.approx(other["score"], abs=1e-4)
        since = parse_iso(frame["captured_at"]) - parse_iso(found["started_at"])
        other_since = parse_iso(other["captured_at"]) - parse_iso(expected["started_at"])
        assert since.total_seconds() == pytest.approx(other_since.total_seconds(), abs=0.002)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with seaweedfs(tmp_path_factory.mktemp("weed")) as server:
        yield server


async def test_from_a_bucket_into_a_bucket(recordings: Path, server: S3Server, tmp_path: Path) -> None:
    archive, motion = server.make_bucket(), server.make_bucket()
    names = ["20260301_120000.mp4", "20260301_120100.mp4"]
    async with MinioStore(bucket=archive, **server.admin.arguments()) as store:
        for name in names:
            body = (recordings / name).read_bytes()
            await store.put(f"2026/porch/{name}", body, content_type="video/mp4", metadata={}, tags={})
    minio = {
        "endpoint": server.endpoint,
        "bucket": motion,
        "access_key": server.admin.access_key,
        "secret_key": server.admin.secret_key,
        "prefix": "site/",
    }
    arguments = [f"s3://{archive}/2026/", "--json", "--store", "--processes", "2"]
    done = run(tmp_path, *arguments, settings={"minio": minio})
    assert done.returncode == 0, done.stderr
    assert server.admin.secret_key not in done.stderr + done.stdout
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["file"] for line in lines] == [f"s3://{archive}/2026/porch/{name}" for name in names]

    here = run(tmp_path / "disk", *(str(recordings / name) for name in names), "--json")
    assert [drop(line) for line in lines] == [drop(json.loads(each)) for each in here.stdout.splitlines()]

    settings = load(tmp_path / "variables.yaml", {})
    async with build_bucket(settings) as bucket:
        reader = build_events(settings, bucket)
        noon = datetime(2026, 3, 1, 12, tzinfo=UTC)
        found = [event async for event in reader.events("porch", since=noon)]
        assert [event.event_id for event in found] == [line["event_id"] for line in lines]
        for event, line in zip(found, lines, strict=True):
            frames = await reader.frames(event)
            assert [frame.seq for frame in frames] == [still["seq"] for still in line["stills"]]
            assert (await reader.fetch(frames[0]))[:2] == b"\xff\xd8"
        assert reader.skipped.count == 0

    again = run(tmp_path, *arguments, settings={"minio": minio})
    assert again.stdout == done.stdout
    assert "2 done before" in again.stderr
    missing = run(tmp_path, f"s3://{archive}/none/", settings={"minio": minio})
    assert missing.returncode == 2
    assert (
        missing.stderr == f"s3://{archive}/none/: holds no recording, expected objects such as .mp4 or .mkv\n"
    )


def test_a_store_that_is_away_is_one_clear_line(recordings: Path, tmp_path: Path) -> None:
    minio = {"endpoint": "127.0.0.1:9", "access_key": "someone", "secret_key": "very-secret-indeed"}
    done = run(tmp_path, str(recordings), "--store", settings={"minio": minio})
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "127.0.0.1:9" in line
    assert "very-secret" not in line


def drop(line: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in line.items() if name != "file"}
