"""The limit of a broker that disconnects on large packets is learned; other cuts teach no limit."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from async_motion.broker.packet_limit import CUTS, PacketLimit

IN_FLIGHT = 16


def one_connection(sizes: list[int], takes: int, known: PacketLimit) -> bool:
    """Send `sizes` (bytes) to a broker that accepts at most `takes`; return whether it cut the connection.

    The worst case: the broker acknowledges no packet that is in flight with one that is too large.
    """
    waiting = [size for size in sizes if known.limit is None or size <= known.limit]
    later = sorted(size for size in waiting if known.needs_trial(size))
    first = [size for size in waiting if not known.needs_trial(size)]
    for start in range(0, len(first), IN_FLIGHT):
        flight = first[start : start + IN_FLIGHT]
        if max(flight) > takes:
            known.cut(flight)
            return True
        for size in flight:
            known.acknowledged(size)
    for size in later:
        if size > takes:
            known.cut([size])
            return True
        known.acknowledged(size)
    return False


@given(st.lists(st.integers(10, 2_000_000), min_size=1, max_size=60), st.integers(300, 2_000_000))
def test_a_limit_is_found_after_a_few_connections_and_then_none_is_lost(sizes: list[int], takes: int) -> None:
    known = PacketLimit()
    cuts = 0
    while one_connection(sizes, takes, known):
        cuts += 1
        assert cuts < 20
    assert not one_connection(sizes, takes, known)
    taken = [size for size in sizes if known.limit is None or size <= known.limit]
    assert taken == [size for size in sizes if size <= takes], "all that the broker takes is sent"


@given(st.lists(st.lists(st.integers(10, 1_000_000), max_size=IN_FLIGHT), max_size=30))
def test_cuts_between_which_everything_passes_teach_no_limit(flights: list[list[int]]) -> None:
    known = PacketLimit()
    for flight in flights:
        known.cut(flight)
        for size in flight:
            known.acknowledged(size)
        assert known.limit is None
        assert not any(known.needs_trial(size) for size in flight)


def test_a_limit_is_forgotten_when_a_larger_packet_passes_or_the_broker_is_another() -> None:
    known = PacketLimit()
    for _ in range(CUTS):
        known.cut([5000])
    assert known.limit == 4999
    known.acknowledged(6000)
    assert known.limit is None
    for _ in range(CUTS):
        known.cut([9000])
    assert known.limit == 8999
    known.clear()
    assert (known.limit, known.needs_trial(9000)) == (None, False)


def test_what_no_broker_is_too_small_for_is_never_blamed() -> None:
    known = PacketLimit()
    for _ in range(10):
        known.cut([30])
        known.cut([30, 200])
    assert known.limit is None
    assert not known.needs_trial(200)


def test_cuts_that_no_packet_explains_put_what_was_proved_in_doubt() -> None:
    known = PacketLimit()
    known.acknowledged(100_000)
    for _ in range(CUTS):
        assert not known.cut([50_000])
    for _ in range(CUTS):
        known.cut([50_000])
    assert known.limit == 49_999
