"""Words for people."""

from __future__ import annotations

from async_motion.core.words import counted


def test_a_count_has_its_noun() -> None:
    assert [counted(n, "event") for n in (0, 1, 2000)] == ["0 events", "1 event", "2,000 events"]
    assert counted(2, "entry", "entries") == "2 entries"
