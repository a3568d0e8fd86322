"""Tests mirror the package: a module's test has its path and name, or stands in a list with its reason."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE, TESTS = ROOT / "async_motion", ROOT / "tests"

HELD = ("camera", "capture", "core/events", "jpeg.py")
"""The packages and modules of which this is asked."""

ELSEWHERE = {
    "camera/spec.py": ("unit/camera/test_unit.py", "values alone"),
    "capture/ffmpeg/streams.py": ("integration/test_odd_cameras.py", "needs real streams"),
    "capture/handover.py": ("unit/capture/test_source.py", "both ends of one hand-over"),
    "capture/http/body.py": ("integration/test_odd_cameras.py", "needs FFmpeg as its reader"),
    "capture/main_stream.py": ("integration/test_capture_record.py", "needs two real streams"),
    "capture/spec.py": ("unit/capture/test_address.py", "values alone"),
    "capture/worker/child.py": ("integration/test_isolation.py", "needs a process"),
    "capture/worker/parent.py": ("integration/test_isolation.py", "needs a process"),
}
"""Modules without a test of their own: where they are tested, and why there."""


def modules() -> list[str]:
    found = (
        path.relative_to(PACKAGE) for path in sorted(PACKAGE.rglob("*.py")) if not path.name.startswith("__")
    )
    return [str(path) for path in found if str(path).startswith(HELD)]


def own_test(module: str) -> Path:
    path = Path(module)
    return TESTS / "unit" / path.parent / f"test_{path.name}"


@pytest.mark.parametrize("module", modules())
def test_a_module_has_a_test_of_its_own_or_a_reason(module: str) -> None:
    if module in ELSEWHERE:
        assert not own_test(module).exists(), f"{module} has its own test now: remove it from ELSEWHERE"
        assert (TESTS / ELSEWHERE[module][0]).exists()
    else:
        assert own_test(module).exists(), f"{module}: no {own_test(module).relative_to(ROOT)}"


def test_the_list_names_modules_that_are_there() -> None:
    assert ELSEWHERE.keys() <= set(modules())
