"""Read problems from the service's state, for pages and probes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

Snapshot = Callable[[], Mapping[str, Any]]
"""Returns the payload of `{base}/state`, with `cameras`: name -> payload of `{base}/{camera}/state`.

It must return at once. Keys that are missing are omitted from the answers.
"""

PARTS: Final = ("spool", "store", "broker", "fleet")
"""The parts besides cameras that can fail; the fleet only if there is one.

Each is a mapping with a `problem`, or a text: ``ok`` or the problem.
"""


def problem_of(part: object) -> str | None:
    """Return the problem of one of `PARTS`, or its alarm (set aside, dropped); None while it works."""
    if isinstance(part, Mapping):
        problem = part.get("problem") or part.get("alarm")
        return str(problem) if problem else None
    return part if isinstance(part, str) and part != "ok" else None


def troubles(state: Mapping[str, Any]) -> list[str]:
    """Return one line for each current problem: of the parts, the index, the clock, the cameras."""
    found = [f"{part}: {problem}" for part in PARTS if (problem := problem_of(state.get(part)))]
    if state.get("index_problem"):
        found.append(f"index: {state['index_problem']}")
    if state.get("clock_problem"):
        found.append(f"clock: {state['clock_problem']}")
    for name, camera in (state.get("cameras") or {}).items():
        if camera.get("status") == "offline":
            found.append(f"{name}: {camera.get('problem') or 'offline'}")
    return found
