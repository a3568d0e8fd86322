"""The short mix of faults with a fixed seed; the long one is `python -m tests.fleet`."""

from __future__ import annotations

import json
import random
import subprocess
from pathlib import Path

import pytest

from tests.fleet.faults import KINDS, Fault, possible, schedule
from tests.fleet.network import isolated, missing
from tests.support.need import need
from tests.support.service import ROOT

SEED = 298
"""Workers are killed, cut off and stopped; NATS loses its leader, a disk, its majority; two pairs overlap."""
FAULTS = 6
SLACK_S = 15.0
"""What a busy machine may add to a failover: the run by hand asserts the bound itself."""


@pytest.mark.fleet
@pytest.mark.timeout(600)
def test_a_short_mix_of_faults_leaves_no_camera_alone_and_loses_no_frame(tmp_path: Path) -> None:
    why = missing()
    need(why is None, f"network namespaces: {why}")
    arguments = ["--seed", str(SEED), "--faults", str(FAULTS), "--overlap", "0.8"]
    arguments += ["--cameras", "4", "--slack", str(SLACK_S), "--keep", str(tmp_path / "fleet")]
    command = isolated(arguments)
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    print(done.stdout)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr[-4000:]}"
    figures = next(json.loads(line) for line in done.stdout.splitlines() if line.startswith("{"))
    assert figures["faults"] == FAULTS
    assert figures["frames"] > 0


def test_a_seed_draws_each_kind_before_any_comes_again() -> None:
    names = possible()

    def drawn() -> list[Fault]:
        rounds = schedule(random.Random(SEED), names, 2 * len(names), ttl_s=10.0, overlap=0.5)
        return [fault for chosen in rounds for fault in chosen]

    kinds = [fault.kind for fault in drawn()]
    assert sorted(kinds[: len(names)]) == sorted(kinds[len(names) :]) == sorted(names)
    assert drawn() == drawn()


def test_faults_that_overlap_break_different_hosts_and_leave_a_quorum() -> None:
    rounds = list(schedule(random.Random(SEED), list(KINDS), 200, ttl_s=10.0, overlap=0.8))
    pairs = [chosen for chosen in rounds if len(chosen) == 2]
    assert len(pairs) > 30
    assert sum(map(len, rounds)) == 200
    for first, second in pairs:
        assert "kill_majority" not in (first.kind, second.kind)
        assert first.worker != second.worker
        assert 0 <= second.after_s <= first.hold_s
