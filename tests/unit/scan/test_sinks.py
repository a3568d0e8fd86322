from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from async_motion.errors import StoreRefused, StoreUnavailable
from async_motion.scan import sinks
from async_motion.scan.sinks import ScanOutbox, StoreSink, put_with_retries, write_file
from tests.support.records import end_of, make_event, make_record, start_of


class Failing:
    """A store that fails the first `failures` puts."""

    bucket = "test"

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.keys: list[str] = []

    async def put(
        self,
        key: str,
        data: bytes,
        *,
        content_type: str,
        metadata: Mapping[str, str],
        tags: Mapping[str, str],
    ) -> str:
        del data, content_type, metadata, tags
        if self.failures:
            raise self.failures.pop(0)
        self.keys.append(key)
        return "etag"

    async def read(self, key: str, max_bytes: int) -> bytes | None:
        raise NotImplementedError

    async def remove(self, keys: Sequence[str]) -> None:
        raise NotImplementedError


HOW: dict[str, Any] = {"content_type": "text/plain", "metadata": {}, "tags": {}}


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    async def at_once(_seconds: float) -> None:
        return None

    monkeypatch.setattr(asyncio, "sleep", at_once)


async def test_a_transient_failure_is_waited_for() -> None:
    store = Failing(StoreUnavailable("away"), StoreUnavailable("away"))
    assert await put_with_retries(store, "key", b"", **HOW) == "etag"
    store = Failing(*[StoreUnavailable("away")] * sinks.MAX_TRIES)
    with pytest.raises(StoreUnavailable):
        await put_with_retries(store, "key", b"", **HOW)
    assert store.failures == []


async def test_a_refusal_is_not() -> None:
    store = Failing(StoreRefused("no"), StoreRefused("no"))
    with pytest.raises(StoreRefused):
        await put_with_retries(store, "key", b"", **HOW)
    assert len(store.failures) == 1


async def test_the_summary_comes_after_the_frames_and_the_line_after_it() -> None:
    store = Failing()
    sink = StoreSink(store, prefix="")
    outbox = ScanOutbox([sink])
    began = make_event()
    await outbox.accept([make_record(began, 0), start_of(began), make_record(began, 1)])
    await outbox.accept([end_of(began)])
    assert [key.rpartition("/")[2] for key in store.keys][-1] == "event.json"
    assert len(store.keys) == 3
    assert len(sink.index_lines) == 1
    ((_, stills),) = outbox.events
    assert [still.seq for still in stills] == [0, 1]


async def test_an_outbox_that_has_failed_takes_nothing_more() -> None:
    sink = StoreSink(Failing(StoreRefused("no")), prefix="")
    outbox = ScanOutbox([sink])
    began = make_event()
    await outbox.accept([make_record(began, 0)])
    for _ in range(2):
        with pytest.raises(StoreRefused):
            await outbox.accept([end_of(began)])
    assert outbox.events == []
    await sink.aclose()


def test_a_file_appears_whole(tmp_path: Path) -> None:
    write_file(tmp_path / "a" / "b.jpg", b"1")
    write_file(tmp_path / "a" / "b.jpg", b"22")
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b.jpg"]
    assert (tmp_path / "a" / "b.jpg").read_bytes() == b"22"
