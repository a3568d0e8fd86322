"""When a refused topic may be tried again."""

from __future__ import annotations

from async_motion.broker.refusals import Refusals
from async_motion.core.backoff import Backoff


def refusals() -> Refusals:
    # A draw of 0 gives half of each delay: 5, 10, 20, 40, 50 s.
    return Refusals(lambda: Backoff(draw=lambda: 0.0, first_s=10, max_s=100))


def test_a_refused_topic_is_held_longer_each_time() -> None:
    topics = refusals()
    assert topics.held("t", 0.0) is None
    assert topics.refused("t", "no", 0.0), "news"
    assert topics.held("t", 4.9) == "no"
    assert topics.next_due() == 5.0
    assert topics.due(4.9) == []
    assert topics.held("t", 5.0) is None
    assert topics.due(5.0) == ["t"]
    assert not topics.refused("t", "no", 5.0), "no news"
    assert topics.next_due() == 15.0


def test_a_topic_is_due_once_and_again_when_it_was_held_back_in_the_meantime() -> None:
    topics = refusals()
    topics.refused("t", "no", 0.0)
    assert topics.due(5.0) == ["t"]
    assert topics.due(6.0) == []
    assert topics.next_due() is None
    topics.refused("t", "no", 6.0)
    topics.due(16.0)
    topics.refused("t", "no", 16.0)
    assert topics.held("t", 17.0) == "no"
    # The topic is due even if its time has passed before `next_due` is asked.
    assert topics.next_due() == 36.0
    assert topics.due(40.0) == ["t"]


def test_refusals_of_the_same_moment_count_as_one() -> None:
    topics = refusals()
    for _ in range(16):
        topics.refused("t", "no", 0.0)
    assert topics.next_due() == 5.0


def test_another_reason_is_reported() -> None:
    topics = refusals()
    topics.refused("t", "no", 0.0)
    assert topics.refused("t", "quota exceeded", 1.0)


def test_a_refusal_of_one_payload_holds_nothing_back() -> None:
    topics = refusals()
    topics.refused("t", "too large", 0.0, hold=False)
    assert topics.held("t", 0.0) is None
    assert topics.next_due() is None
    assert str(topics) == "t: too large"


def test_what_is_taken_is_refused_no_more() -> None:
    topics = refusals()
    topics.refused("one", "no", 0.0)
    topics.refused("two", "no", 0.0)
    topics.refused("three", "no", 0.0)
    assert str(topics) == "one: no (and 2 more topics)"
    topics.taken("one")
    assert str(topics) == "two: no (and 1 more topics)"
    topics.clear()
    assert str(topics) == ""
    assert topics.due(1000.0) == []
