"""The short versions of `python -m tests.fuzz` and `python -m tests.soak`."""

from __future__ import annotations

from pathlib import Path

from tests import soak
from tests.fuzz.run import Fuzz


def test_hostile_cameras_and_files(tmp_path: Path) -> None:
    with Fuzz(tmp_path, seed=4) as fuzz:
        fuzz.run(cases=50)
        assert fuzz.report() == 0
    assert fuzz.number == 50
    assert {outcome.partition(":")[0] for outcome in fuzz.outcomes} == {"file", "stills", "http", "rtsp"}
    assert fuzz.frames["file"] > 0


def test_cameras_that_do_not_stay() -> None:
    samples, problems = soak.run(hours=0.1, reconnects=24)
    assert problems == []
    last = samples[-1]
    assert last["reconnects"] == 24
    assert last["opened"] > 0
    assert last["hours"] > 0.09
    assert last["events"] > 0
