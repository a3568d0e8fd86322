"""The settings that all workers of a fleet must share, and the event that a lost owner leaves open."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from async_motion.app.fleet import TRIES, FleetMember, cut_event, fingerprint
from async_motion.fleet import worker
from async_motion.settings import Settings, load
from tests.support.buckets import MemoryBucket

TEXT = """
instance: town
mqtt: {host: broker}
minio: {endpoint: store, secret_key: one}
fleet: {servers: ["nats://nats1:4222"], name: east}
cameras: {porch: {source: "rtsp://me:secret@192.0.2.1/one"}}
"""


def settings(tmp_path: Path, *changes: tuple[str, str]) -> Settings:
    text = TEXT
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    file = tmp_path / "variables.yaml"
    file.write_text(text)
    return load(file, {})


@pytest.mark.parametrize(
    "change",
    [
        ("name: east", "name: west, capacity: 3"),
        ("host: broker", "host: other"),
        ("secret_key: one", "secret_key: two"),
        ("me:secret@", "me:other@"),
        ('/one"', '/one", capture: {isolation: thread}'),  # the default, as another version may add one
        ("instance: town", "instance: town\nlog: {level: debug}\nweb: {port: 81}\nspool: {max_age: 1h}"),
    ],
)
def test_what_a_host_may_have_for_itself_is_not_a_difference(tmp_path: Path, change: tuple[str, str]) -> None:
    assert fingerprint(settings(tmp_path)) == fingerprint(settings(tmp_path, change))


@pytest.mark.parametrize(
    "change",
    [
        ("192.0.2.1/one", "192.0.2.1/two"),
        ('/one"', '/one", detect: {fps: 4}'),
        ("endpoint: store", "endpoint: store, prefix: other/"),
        ('nats1:4222"]', 'nats1:4222"], ttl: 11s'),
    ],
)
def test_what_all_must_share_is_a_difference(tmp_path: Path, change: tuple[str, str]) -> None:
    assert fingerprint(settings(tmp_path)) != fingerprint(settings(tmp_path, change))


def test_a_note_becomes_the_event_that_was_cut() -> None:
    note: dict[str, Any] = {
        "event_id": "20261122T073112345Z-7c1e9a",
        "started_at": "2026-11-22T07:31:12.345000Z",
        "zones": ["drive"],
        "peak_score": 0.5,
    }
    event = cut_event(note, "town", "porch")
    assert event is not None
    assert (event.event_id, event.camera, event.zones) == (note["event_id"], "porch", ("drive",))
    for junk in ({}, note | {"started_at": "soon"}, note | {"zones": None}, note | {"peak_score": "high"}):
        assert cut_event(junk, "town", "porch") is None


async def test_a_camera_goes_to_another_worker_after_so_many_failures_in_a_row_and_the_reason_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    member = FleetMember(settings(tmp_path), MemoryBucket(10.0))

    def refused() -> list[str]:
        found: list[str] = member.state()["fleet"]["workers"]["east"]["refused"]
        return found

    for _ in range(TRIES - 1):
        member.failed("porch", "no route to host")
    member.opened("porch")
    for _ in range(TRIES - 1):
        member.failed("porch", "no route to host")
    assert refused() == []
    member.failed("porch", "wrong password")
    assert refused() == ["porch"]
    member.failed("porch", "wrong password")
    (line,) = [record.getMessage() for record in caplog.records]
    assert line == f"fleet: porch: {TRIES} attempts failed (wrong password); asking another worker"


async def test_a_camera_that_still_fails_is_refused_again_after_its_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise it stays with a worker that cannot open it, though another one can by now."""
    monkeypatch.setattr(worker, "REFUSED_FOR_S", 0.0)
    member = FleetMember(settings(tmp_path), MemoryBucket(10.0))
    for _ in range(TRIES):
        member.failed("porch", "no route to host")
    assert member.state()["fleet"]["workers"]["east"]["refused"] == []
    monkeypatch.setattr(worker, "REFUSED_FOR_S", 300.0)
    member.failed("porch", "no route to host")
    assert member.state()["fleet"]["workers"]["east"]["refused"] == ["porch"]


@pytest.mark.parametrize(("ttl", "servers", "warns"), [(5, 3, True), (5, 1, False), (10, 3, False)])
async def test_a_ttl_below_the_servers_election_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, ttl: int, servers: int, warns: bool
) -> None:
    listed = ", ".join(f'"nats://nats{number}:4222"' for number in range(servers))
    change = ('["nats://nats1:4222"]', f"[{listed}], ttl: {ttl}s")
    member = FleetMember(settings(tmp_path, change), MemoryBucket(10.0))
    with suppress(TimeoutError):
        async with asyncio.timeout(0.01):
            await member.run()
    assert ("for a new leader" in caplog.text) is warns


async def test_the_end_of_a_connection_by_a_stop_is_no_failure_of_the_camera(tmp_path: Path) -> None:
    member = FleetMember(settings(tmp_path), MemoryBucket(10.0))
    for _ in range(TRIES - 1):
        member.failed("porch", "timed out")
    await member.stop("porch")
    member.failed("porch", "stopped")
    assert member.state()["fleet"]["workers"]["east"]["refused"] == []


def test_one_host_imports_no_nats() -> None:
    script = "import sys, async_motion.app.service; print('nats' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "False"
