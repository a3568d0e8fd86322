"""Parsed index files are kept by the digest of their bytes, and their lines are bounded."""

from __future__ import annotations

from datetime import UTC, datetime

from async_motion.core.index import IndexLine
from async_motion.retrieval.index_cache import IndexCache
from tests.support.bucket import make_event


def lines(count: int) -> list[IndexLine]:
    """Return lines of the index."""
    return [make_event(at=datetime(2026, 11, 22, n, tzinfo=UTC)).line for n in range(count)]


def test_a_file_is_kept_while_its_bytes_are_the_same() -> None:
    cache, parsed = IndexCache(10), lines(3)
    cache.put("a", b"1", parsed)
    assert cache.get("a", b"1") == parsed
    assert cache.get("a", b"2") is None
    assert cache.get("b", b"1") is None
    cache.put("a", b"2", parsed[:1])
    assert cache.get("a", b"1") is None
    assert cache.get("a", b"2") == parsed[:1]
    assert cache.lines == 1


def test_the_least_recently_used_files_make_room() -> None:
    cache = IndexCache(6)
    for key in "abc":
        cache.put(key, b"1", lines(2))
    cache.get("a", b"1")
    cache.put("d", b"1", lines(3))
    assert [key for key in "abcd" if cache.get(key, b"1") is not None] == ["a", "d"]
    assert cache.lines == 5
    cache.put("e", b"1", lines(7))
    assert cache.get("e", b"1") is None
    assert cache.lines == 5


def test_none_are_kept_by_default() -> None:
    cache = IndexCache(0)
    cache.put("a", b"1", lines(1))
    assert cache.get("a", b"1") is None
