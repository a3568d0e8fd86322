"""The filter options of the event commands: what they select, and one line for each invalid one."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime

import pytest

from async_motion.cli.choosing import EventChoice, add_filters, chosen
from async_motion.errors import UsageError

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


def choose(*args: str) -> EventChoice:
    parser = argparse.ArgumentParser()
    add_filters(parser)
    return chosen(parser.parse_args(args), NOW)


def test_without_options_all_events_are_chosen() -> None:
    assert not choose().narrows


def test_what_the_options_mean() -> None:
    choice = choose(
        *("--camera", "porch", "--camera", "yard", "--zone", "drive"),
        *("--since", "2h", "--min-score", "2%", "--min-duration", "5s"),
    )
    assert choice.narrows
    assert (choice.cameras, choice.zones) == (("porch", "yard"), ("drive",))
    assert choice.since == datetime(2026, 11, 22, 10, tzinfo=UTC)
    assert (choice.min_score, choice.min_duration_s) == (0.02, 5.0)


def test_one_day_ends_where_the_next_begins() -> None:
    choice = choose("--on", "2026-11-20")
    assert choice.since is not None
    assert choice.until is not None
    assert (choice.until - choice.since).days == 1


@pytest.mark.parametrize(
    ("args", "problem"),
    [
        (("--camera", "../x"), "--camera: ../x: expected a name"),
        (("--zone", "A B"), "--zone: A B: expected a name"),
        (("--instance", ""), "--instance: : expected a name"),
        (("--on", "today", "--since", "2h"), "--on: expected alone"),
        (("--since", "2h", "--from", "2026-11-20"), "--since, --from: expected one of them"),
        (("--from", "2026-11-21", "--to", "2026-11-20"), "--to: it is not after"),
        (("--min-score", "2"), "--min-score: 2: expected a share"),
        (("--min-duration", "5"), "--min-duration: 5: expected a duration"),
        *[((option, ""), f"{option}: : expected") for option in ("--on", "--since", "--from", "--to")],
        (("--on", "", "--to", "today"), "--on: expected alone"),
    ],
)
def test_what_is_wrong_is_reported(args: tuple[str, ...], problem: str) -> None:
    with pytest.raises(UsageError) as raised:
        choose(*args)
    assert any(line.startswith(problem) for line in raised.value.problems), raised.value.problems


def test_all_that_is_wrong_is_reported_at_once() -> None:
    with pytest.raises(UsageError) as raised:
        choose("--camera", "A", "--min-score", "x", "--min-duration", "y")
    assert len(raised.value.problems) == 3
