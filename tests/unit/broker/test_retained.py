"""Which retained messages are kept for the broker, and which of them are published when."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_motion.broker.retained import Retained, RetainedChange
from async_motion.errors import BrokerUnavailable


def said(retained: Retained) -> list[tuple[str, bytes]]:
    changes = []
    while (change := retained.next()) is not None:
        changes.append((change.topic, change.payload))
        retained.acknowledged(change)
    return changes


def test_away_only_the_newest_of_each_topic_is_kept_in_the_order_of_the_topics() -> None:
    retained = Retained()
    for topic, payload in (("b", b"1"), ("a", b"1"), ("b", b"2"), ("c", b"1")):
        retained.set(topic, payload)
    assert retained.pending == 0
    retained.came_back()
    assert said(retained) == [("b", b"2"), ("a", b"1"), ("c", b"1")]
    assert len(retained) == 3


def test_connected_every_change_is_published_in_order() -> None:
    retained = Retained()
    retained.came_back()
    for payload in (b"ON", b"OFF", b"ON", b"OFF"):
        retained.set("motion", payload)
    assert said(retained) == [("motion", payload) for payload in (b"ON", b"OFF", b"ON", b"OFF")]


def test_everything_is_published_again_on_every_connect() -> None:
    retained = Retained()
    retained.set("a", b"1")
    for _ in range(3):
        retained.came_back()
        assert said(retained) == [("a", b"1")]
        retained.went_away()


def test_a_cleared_topic_is_cleared_until_the_broker_has_heard_it() -> None:
    retained = Retained()
    retained.set("a", b"1")
    retained.set("old", b"")
    retained.came_back()
    assert retained.next() == RetainedChange(topic="old", payload=b"")  # sent, but never acknowledged
    retained.went_away()
    retained.came_back()
    assert said(retained) == [("old", b""), ("a", b"1")]
    retained.went_away()
    retained.came_back()
    assert said(retained) == [("a", b"1")]


def test_a_topic_that_is_set_again_is_not_cleared() -> None:
    retained = Retained()
    retained.set("a", b"1")
    retained.set("a", b"")
    retained.set("a", b"2")
    retained.came_back()
    assert said(retained) == [("a", b"2")]


def test_what_is_not_sent_is_returned_to_its_waiter() -> None:
    outcomes: list[BrokerUnavailable | None] = []
    retained = Retained()
    retained.came_back()
    retained.set("a", b"1", outcomes.append)
    left = retained.went_away()
    assert [change.outcome for change in left] == [outcomes.append]
    assert retained.pending == 0


def test_a_dropped_payload_is_forgotten_but_not_a_newer_one() -> None:
    retained = Retained()
    retained.set("a", b"too large")
    retained.drop("a", b"too large")
    retained.set("b", b"newer")
    retained.drop("b", b"too large")
    retained.came_back()
    assert said(retained) == [("b", b"newer")]


def test_a_released_topic_is_never_published_again() -> None:
    retained = Retained()
    retained.set("a", b"1")
    retained.set("b", b"")
    retained.release("a")
    retained.release("b")
    retained.release("not ours")
    retained.came_back()
    assert said(retained) == []


@pytest.mark.parametrize(("payload", "again"), [(b"1", [("a", b"1")]), (b"", [("a", b"")])])
def test_a_topic_can_be_published_once_more(payload: bytes, again: list[tuple[str, bytes]]) -> None:
    retained = Retained()
    retained.came_back()
    retained.set("a", payload)
    retained.next()
    retained.repeat("a")
    retained.repeat("not ours")
    assert said(retained) == again


def test_changes_that_pile_up_are_thinned_out_except_awaited_ones() -> None:
    outcomes: list[BrokerUnavailable | None] = []
    retained = Retained(max_changes=10)
    retained.came_back()
    retained.set("waited for", b"1", outcomes.append)
    for number in range(1000):
        retained.set(f"topic {number % 3}", str(number).encode())
        assert retained.pending <= 10
    changes = said(retained)
    assert changes[0] == ("waited for", b"1")
    newest = dict(changes)
    assert newest == {"waited for": b"1", "topic 0": b"999", "topic 1": b"997", "topic 2": b"998"}


Step = tuple[str, str, bytes]
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["set", "lose", "connect", "send"]), st.sampled_from("abcd"), st.binary(max_size=1)
    )
)


@given(STEPS)
def test_in_the_end_the_broker_retains_what_was_published_last(steps: list[Step]) -> None:
    """Model test: after any sets, losses and sends, a last connect brings the broker up to date."""
    retained = Retained(max_changes=5)
    wanted: dict[str, bytes] = {}
    broker: dict[str, bytes] = {}
    connected = False
    for action, topic, payload in steps:
        if action == "set":
            retained.set(topic, payload)
            wanted[topic] = payload
        elif action == "connect" and not connected:
            connected = True
            retained.came_back()
        elif action == "lose":
            connected = False
            retained.went_away()
        elif action == "send" and connected and (change := retained.next()) is not None:
            broker[change.topic] = change.payload
            retained.acknowledged(change)
    retained.went_away()
    retained.came_back()
    broker.update(said(retained))
    assert {t: p for t, p in broker.items() if p} == {t: p for t, p in wanted.items() if p}
