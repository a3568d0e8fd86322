"""A machine's capacity and the cost of cameras, on a fake clock and fake CPU time."""

from __future__ import annotations

from pathlib import Path

import pytest

from async_motion.fleet.capacity import MEMORY_PER_CORE, CostMeter, measured_capacity, processor_s


def test_a_control_group_bounds_the_capacity(tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text("50000 100000\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert measured_capacity(tmp_path) == 0.5
    (tmp_path / "cpu.max").write_text("max 100000\n")
    (tmp_path / "memory.max").write_text(f"{MEMORY_PER_CORE // 4}\n")
    assert measured_capacity(tmp_path) == 0.25
    assert measured_capacity(tmp_path / "nothing") > 0.25


def test_the_time_is_shared_out_by_the_pixels_judged() -> None:
    now, spent, work = [0.0], [5.0], {"large": 0.0, "small": 100.0}
    meter = CostMeter(lambda: work, clock=lambda: now[0], spent_s=lambda: spent[0])
    assert meter.cost("large") is None
    now[0], spent[0] = 20.0, 15.0
    work.update(large=3000.0, small=1100.0, new=500.0)
    assert meter.cost("large") == pytest.approx(0.375)
    assert meter.cost("small") == pytest.approx(0.125)
    assert meter.cost("new") is None, "it was not there when the window began"
    # A camera that left and returned counts from 0 again.
    now[0], spent[0] = 40.0, 15.0
    work.update(large=10.0)
    assert meter.cost("large") is None
    assert meter.cost("small") is None


def test_this_process_has_spent_time() -> None:
    before = processor_s()
    sum(range(2_000_000))
    assert processor_s() > before > 0
