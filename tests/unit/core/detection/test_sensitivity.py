"""The measures behind low, medium and high; the documentation states the same numbers."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from typing import get_args

import pytest

from async_motion.core.detection.sensitivity import MEASURES, Measures
from async_motion.core.options import Sensitivity

ROOT = Path(__file__).parents[4]
LEVELS = get_args(Sensitivity)
NAMES = [field.name for field in fields(Measures)]


def shown(name: str, value: float) -> str:
    return f"{value:.0%}" if name == "strong_share" else f"{value:g}"


def test_more_sensitive_asks_for_less() -> None:
    assert tuple(MEASURES) == LEVELS == ("low", "medium", "high")
    for name in NAMES:
        low, medium, high = (getattr(MEASURES[level], name) for level in LEVELS)
        assert low >= medium >= high


@pytest.mark.parametrize("name", NAMES)
def test_the_reference_and_its_readme_say_the_same_numbers(name: str) -> None:
    values = [shown(name, getattr(MEASURES[level], name)) for level in LEVELS]
    reference = (ROOT / "config/processor/variables.yaml").read_text()
    (blank,) = re.findall(rf"^# +{name}:.*Blank: (.*)$", reference, re.MULTILINE)
    assert blank.split(" | ") == values
    page = (ROOT / "config" / "README.md").read_text()
    (row,) = re.findall(rf"^\| `{name}` \| (.*) \|$", page, re.MULTILINE)
    assert row.split(" | ")[:3] == values
