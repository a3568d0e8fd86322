"""Problems derived from the state that the pages show."""

from __future__ import annotations

import pytest

from async_motion.web.state import problem_of, troubles


@pytest.mark.parametrize(
    ("part", "problem"),
    [
        ("ok", None),
        ("unavailable: no answer", "unavailable: no answer"),
        ({"problem": None, "alarm": None}, None),
        ({"problem": "disk full", "alarm": "2 records set aside"}, "disk full"),
        ({"problem": None, "alarm": "2 records set aside"}, "2 records set aside"),
        (None, None),
        (5, None),
    ],
)
def test_the_problem_of_a_part(part: object, problem: str | None) -> None:
    assert problem_of(part) == problem


def test_every_trouble_is_a_line() -> None:
    state = {
        "spool": {"problem": "disk full"},
        "store": "refused: wrong key",
        "broker": "ok",
        "index_problem": "access denied",
        "clock_problem": "it says 1970-01-01",
        "cameras": {
            "porch": {"status": "offline", "problem": "no route"},
            "yard": {"status": "online", "problem": "dark"},
            "gate": {"status": "offline"},
        },
    }
    assert troubles(state) == [
        "spool: disk full",
        "store: refused: wrong key",
        "index: access denied",
        "clock: it says 1970-01-01",
        "porch: no route",
        "gate: offline",
    ]


@pytest.mark.parametrize("state", [{}, {"cameras": None}])
def test_a_state_that_is_not_complete_yet_has_no_troubles(state: dict[str, object]) -> None:
    assert troubles(state) == []
