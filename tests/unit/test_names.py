"""A class is found by its name: none is defined twice, and the code's README names those that exist."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "async_motion"


def classes() -> dict[str, list[str]]:
    """Return where each class of the package is defined, by its name."""
    found = defaultdict(list)
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                found[node.name].append(f"{path.relative_to(PACKAGE)}:{node.lineno}")
    return found


def test_no_class_name_is_defined_twice() -> None:
    twice = {name: places for name, places in classes().items() if len(places) > 1}
    assert not twice


def test_classes_are_found() -> None:
    assert classes()["Detector"][0].startswith("core/detection/detector.py:")


def test_the_readme_names_classes_that_exist() -> None:
    text = (PACKAGE / "README.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`([A-Z][a-z]+[A-Z]\w+)`", text))
    assert "DetectorSettings" in named
    assert named <= classes().keys()
