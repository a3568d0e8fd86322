"""The client in a program that is killed at its writes, with a real broker and a real bucket that fail."""

from __future__ import annotations

import asyncio
import itertools
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.support import s3
from tests.support.bucket import fill, make_event
from tests.support.storm import ended, storm, subscriber

EVENTS = 60


@pytest.mark.timeout(400)
@pytest.mark.parametrize("mode", ["cursor_file", "state"])
async def test_killed_at_every_write_it_goes_on_without_a_hole(tmp_path: Path, mode: str) -> None:
    began = datetime.now(UTC) - timedelta(minutes=30)
    made = [make_event(at=began + timedelta(seconds=no), salt=no, no=no) for no in range(1, 9)]
    await asyncio.to_thread(fill, tmp_path / "objects", *made)
    said = {"seed": 1, "every": True, "mode": mode, "total": len(made), "since": began.isoformat()}
    async with subscriber(tmp_path, **said, connect={"directory": str(tmp_path / "objects")}) as process:
        lives = await ended(process)
    # Killed before, during and after the write: three lives for each event.
    assert lives >= 3 * len(made) - 2
    ids = [event.event_id for event in made]
    if mode == "state":
        assert json.loads((tmp_path / "state").read_text())["seen"] == ids
    else:
        handed_out = (tmp_path / "seen").read_text().split()
        # If it is killed before its cursor is written, a program sees only the current event again.
        assert [event for event, _ in itertools.groupby(handed_out)] == ids
        assert len(handed_out) > len(ids)


@pytest.mark.timeout(400)
async def test_broker_emptied_bucket_away_and_killed_all_the_time(
    tmp_path: Path, seaweedfs: s3.S3Server
) -> None:
    outcome = await storm(tmp_path, seaweedfs, seed=4, events=EVENTS)
    assert (outcome.missed, outcome.repeated, outcome.out_of_order) == (0, 0, 0)
    assert outcome.events == EVENTS
    assert len(outcome.faults) == 5, "every kind of fault happened"
    assert outcome.faults["killed"] > EVENTS / 4
