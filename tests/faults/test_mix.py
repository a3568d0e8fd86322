"""The short mix with a fixed seed, for every test run. The long mix is `python -m tests.faults`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.mix import run_mix

SEED = 2060


@pytest.mark.faults
@pytest.mark.timeout(400)
async def test_nothing_accepted_is_lost_in_a_short_mix_of_faults(tmp_path: Path) -> None:
    verdict = await run_mix(tmp_path, SEED, seconds=150)
    print(verdict.figures)
    assert verdict.problems == []
    assert verdict.figures["accepted"] > 100
    assert verdict.figures["faults"] >= 6
