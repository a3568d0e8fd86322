"""What the pages read out of the state."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

Snapshot = Callable[[], Mapping[str, Any]]
"""Returns the state as `{base}/state` says it, with `cameras`: name -> what `{base}/{camera}/state` says.

It must return at once. What is missing in it is left out of the answers.
"""

PARTS: Final = ("spool", "store", "broker", "fleet")
"""What can be in trouble besides cameras; the fleet only where there is one.

Each is a mapping with its `problem`, or a text: ``ok``.
"""


def problem_of(part: object) -> str | None:
    """Return what is wrong with one of `PARTS`, also what is set aside or dropped; None while it works."""
    if isinstance(part, Mapping):
        problem = part.get("problem") or part.get("alarm")
        return str(problem) if problem else None
    return part if isinstance(part, str) and part != "ok" else None


def troubles(state: Mapping[str, Any]) -> list[str]:
    """Return what does not work now, a line each: the parts, the index, cameras."""
    found = [f"{part}: {problem}" for part in PARTS if (problem := problem_of(state.get(part)))]
    if state.get("index_problem"):
        found.append(f"index: {state['index_problem']}")
    for name, camera in (state.get("cameras") or {}).items():
        if camera.get("status") == "offline":
            found.append(f"{name}: {camera.get('problem') or 'offline'}")
    return found
