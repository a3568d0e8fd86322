"""The bounds of the spool, on the real service with its store down."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.faults.stage import BASE, Stage, staged
from tests.support.mqtt import Recorder
from tests.support.wait import eventually_async

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]

MAX_BYTES = 1024 * 1024
ON_DISK = 10 * 1024 * 1024
"""What the files may take beyond the bound: the WAL up to a checkpoint, and free pages."""


def spool_state(recorder: Recorder) -> dict[str, Any]:
    """Return the spool's part of the service's last state."""
    said = recorder.on(f"{BASE}/state")
    state: dict[str, Any] = said[-1].json()["spool"] if said else {}
    return state


@pytest.mark.parametrize("when_full", ["drop_oldest", "drop_newest"])
async def test_every_event_outlives_a_spool_that_is_full(when_full: str, tmp_path: Path) -> None:
    settings = {"spool": {"max_bytes": "1MiB", "when_full": when_full}, "mqtt": {"state_every": "1s"}}
    async with staged(tmp_path, 13, settings=settings) as stage:
        watcher = Recorder(stage.broker.port, (f"{BASE}/state",), username="watcher", password="the-oracle")
        with watcher:
            await stage.store_proxy.close_port()
            begun = stage.accepted()
            await eventually_async(
                lambda: spool_state(watcher).get("dropped", {}).get("full", 0) >= 30,
                within_s=120,
                what="drops",
            )
            assert stage.accepted() > begun
            sizes = [m.json()["spool"]["bytes"] for m in watcher.on(f"{BASE}/state")]
            assert max(sizes) <= MAX_BYTES + 100_000  # index lines and phases count beyond the records
            report = stage.look()
            assert report is not None
            assert sum(waiting.bytes for waiting in report.waiting) <= MAX_BYTES + 100_000
            assert stage.oracle.spool_bytes <= MAX_BYTES + ON_DISK
            assert "dropping records (full" in stage.service.log_text()
            await stage.store_proxy.open_port()
            await stage.more_accepted()
            await stage.settle()
        await _judge(stage)


async def _judge(stage: Stage) -> None:
    verdict = await stage.oracle.judge()
    # Frames were dropped, as configured, and the oracle must report it; everything else must hold.
    problems = [p for p in verdict.problems if not p.startswith(("lost", "the spool has dropped"))]
    assert problems == []
    assert any(p.startswith("the spool has dropped") for p in verdict.problems)
    accepted, announced = stage.oracle.accepted(), stage.oracle.frames()
    events = {frame_id[:-7] for frame_id in accepted}
    assert events == {heard.payload["event_id"] for heard in announced}
    missing = len(accepted.keys() - {heard.payload["frame_id"] for heard in announced})
    dropped = [line["dropped"] for line in stage.oracle.lines() if "dropped" in line][-1]
    assert 0 < missing <= sum(dropped.values())
