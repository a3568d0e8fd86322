"""A worker's report survives the bucket; a report that is not valid has its defaults."""

from __future__ import annotations

import pytest

from async_motion.fleet.leases import MAX_VALUE_BYTES
from async_motion.fleet.report import DEFAULT_COST, MAX_COSTS, MAX_REASONS, WorkerReport, parse_report


def test_a_report_comes_back_as_it_was() -> None:
    report = WorkerReport(
        capacity=4.0,
        fingerprint="0123456789abcdef",
        draining=True,
        refused={"yard": "no route"},
        costs={"porch": 0.25},
        about={"spool_records": 7},
    )
    assert parse_report(report.encode()) == report


def test_a_report_of_hundreds_of_cameras_fits_into_a_value() -> None:
    names = [f"camera-{number:04d}" for number in range(1000)]
    report = WorkerReport(
        capacity=4.0,
        fingerprint="0123456789abcdef",
        refused=dict.fromkeys(names, "x" * 500),
        costs=dict.fromkeys(names, 0.12345),
    )
    value = report.encode()
    assert len(value) <= MAX_VALUE_BYTES
    told = parse_report(value)
    assert (len(told.costs), len(told.refused)) == (MAX_COSTS, MAX_REASONS)


@pytest.mark.parametrize(("costs", "refused"), [(400, 0), (400, 16), (0, 16)])
def test_a_report_with_long_names_and_reasons_fits_too(costs: int, refused: int) -> None:
    report = WorkerReport(
        capacity=4.0,
        fingerprint="0123456789abcdef",
        refused={f"{number:064d}": "\N{CROSS MARK}" * 80 for number in range(refused)},
        costs={f"{number:064d}": 0.1 for number in range(costs)},
        about={"spool_records": 7},
    )
    value = report.encode()
    assert len(value) <= MAX_VALUE_BYTES
    told = parse_report(value)
    assert (told.capacity, told.about) == (4.0, {"spool_records": 7})
    assert bool(told.costs) == bool(costs)
    assert bool(told.refused) == bool(refused)


@pytest.mark.parametrize(
    "value",
    [b"", b"[[", b"\xff", b"NaN", b'{"capacity": true}', b'{"capacity": -1, "costs": [1], "about": 3}'],
)
def test_a_report_that_is_not_valid_has_no_capacity(value: bytes) -> None:
    assert parse_report(value) == WorkerReport(capacity=0.0, fingerprint=None)


def test_a_camera_without_a_measured_cost_has_the_default_cost() -> None:
    report = WorkerReport(capacity=4.0, fingerprint=None, costs={"porch": 0.25})
    view = report.as_view("east", ["porch", "yard"])
    assert view.load == pytest.approx(0.25 + DEFAULT_COST)
