"""`async-motion fleet`: its tables, and its error without a fleet."""

from __future__ import annotations

from pathlib import Path

import pytest

from async_motion.app.fleet_overview import FleetOverview, WorkerLine
from async_motion.cli import fleet
from async_motion.cli.command_line import main


def test_the_tables_say_who_has_what(capsys: pytest.CaptureFixture[str]) -> None:
    east = WorkerLine(
        name="east",
        capacity=4.0,
        load=1.25,
        cameras=1,
        draining=True,
        speaker=True,
        different=True,
        spool_records=3,
        refused={"yard": "no route"},
    )
    fleet.show(FleetOverview(workers=(east,), cameras={"porch": ("east", 41)}, unowned=("yard",)))
    said = capsys.readouterr().out
    for part in ("speaks for the instance", "draining", "settings differ", "cannot open yard: no route"):
        assert part in said
    assert [line.split() for line in said.splitlines()[-2:]] == [
        ["porch", "east", "41"],
        ["yard", "no", "worker"],
    ]


def test_without_a_fleet_it_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "variables.yaml"
    file.write_text("instance: town\n")
    assert main(["fleet", "--config", str(file)]) == 2
    assert "fleet.servers is blank" in capsys.readouterr().err
