"""Which failed tries are logged."""

from __future__ import annotations

from itertools import pairwise

import pytest

from async_motion.core.outage import OutageLog
from tests.support.clock import Clock


def test_a_night_is_a_line_at_its_start_and_then_at_growing_intervals() -> None:
    clock = Clock()
    outage = OutageLog(clock)
    lines = []
    for _ in range(8 * 3600 // 5):
        said = outage.failed("cannot connect")
        if said is not None:
            lines.append((clock.seconds - 1000.0, said))
        clock.seconds += 5.0

    assert [at for at, _ in lines[:6]] == [0, 60, 180, 420, 900, 1800]
    assert {second - first for (first, _), (second, _) in pairwise(lines[5:])} == {900}
    assert lines[0][1] == ""
    assert lines[2][1] == " (37 tries in 3 min)"
    assert lines[-1][1].endswith(" h)")
    assert len(lines) == 35


def test_another_reason_is_a_line_at_once_and_a_word_with_a_digit_is_none() -> None:
    clock = Clock()
    outage = OutageLog(clock)
    assert outage.failed("put a/000001.jpg: no answer within 15 s") == ""
    assert outage.failed("put a/000002.jpg: no answer within 30 s") is None
    assert outage.failed("cannot connect (Connection refused)") == " (3 tries in 0 s)"
    assert outage.failed("cannot connect (Connection refused)") is None
    clock.seconds += 60.0
    assert outage.failed("cannot connect (Connection refused)") == " (5 tries in 60 s)"


@pytest.mark.parametrize("reason", ["cannot connect", "another"])
def test_after_its_end_the_next_try_begins_another_outage(reason: str) -> None:
    outage = OutageLog(Clock())
    outage.failed("cannot connect")
    outage.over()
    assert outage.failed(reason) == ""
