"""The event index: when its files are written, their content, and failures of the store."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from async_motion.core.index import event_day as day_of
from async_motion.core.index import index_key, line_of, parse_line, unpack
from async_motion.errors import RecordRejected, StoreRefused, StoreUnavailable
from async_motion.spool import Spool
from tests.support.clock import BEGIN
from tests.support.delivering import QUICK, Bench
from tests.support.records import end_of, make_event, make_record, start_of
from tests.support.wait import eventually_async

DAY_S = 86400


def files(bench: Bench) -> dict[str, list[dict[str, Any]]]:
    """Return the lines of each index file in the store, by key."""
    return {
        key: [json.loads(line) for line in gzip.decompress(data).splitlines()]
        for key, data in bench.store.objects.items()
        if "/.index/" in key
    }


def key_of(writer: str, index: int = 0, camera: str = "porch") -> str:
    return index_key("", "edge1", camera, day_of(make_event(camera, index).event_id), writer)


async def test_an_ended_event_gets_its_line(bench: Bench) -> None:
    writer = await bench.spool.writer()
    await bench.accept_event(3)
    await bench.accept_event(2, index=60)
    async with bench.delivering(index_every_s=300.0) as delivery:
        assert await delivery.drain(20)
    ((key, lines),) = files(bench).items()
    assert key == key_of(writer)
    assert [(line["no"], line["frames"], line["reason"], line["v"]) for line in lines] == [
        (1, 3, "quiet", 1),
        (2, 2, "quiet", 1),
    ]
    assert lines[0]["best"] == 2
    assert lines[0]["bytes"] == 9000
    # A rebuild from the bucket writes the same line.
    (summary,) = [json.loads(d) for k, d in bench.store.objects.items() if k.endswith("event.json")][:1]
    stored = next(unpack(bench.store.objects[key]))
    assert parse_line(stored, writer) == line_of(summary)
    assert bench.store.metadata[key]["kind"] == "index"


async def test_each_camera_and_day_has_its_file(bench: Bench) -> None:
    writer = await bench.spool.writer()
    await bench.accept_event(1)
    await bench.accept_event(1, "yard")
    await bench.accept_event(1, index=DAY_S)
    async with bench.delivering(index_every_s=300.0) as delivery:
        assert await delivery.drain(20)
    assert set(files(bench)) == {
        key_of(writer),
        key_of(writer, camera="yard"),
        key_of(writer, DAY_S),
    }


async def test_a_file_is_written_at_most_once_in_its_time_and_not_later(bench: Bench) -> None:
    async with bench.delivering(index_every_s=0.05) as delivery:
        writes = 0
        for index in range(4):
            await bench.accept_event(1, index=index)
            await eventually_async(
                lambda: bench.spool.stats.empty and len(bench.announced()) == index + 1,  # noqa: B023
                what="the event to be told",
            )
            key = key_of(await bench.spool.writer())
            before = bench.store.puts.count(key)
            bench.clock.sleep(0.04)  # still within the interval after the last write, if there was one
            if before:
                await eventually_async(lambda: bool(files(bench)), what="the first file")
            bench.clock.sleep(0.02)
            await eventually_async(
                lambda: [line["no"] for line in files(bench).get(key, [])] == list(range(1, index + 2)),  # noqa: B023
                what="the next line",
            )
            writes = bench.store.puts.count(key)
        assert writes <= 4
        assert await delivery.drain(20)


async def test_within_its_time_a_file_waits(bench: Bench) -> None:
    async with bench.delivering(index_every_s=0.02) as delivery:
        await bench.accept_event(1)
        await eventually_async(lambda: bool(files(bench)), what="the first file")
        await bench.accept_event(1, index=60)
        await eventually_async(lambda: bench.spool.stats.empty, what="the second event")
        # The tests' clock stands still: the file is not due, however often it is checked.
        asked = 0
        real = bench.spool.due_index

        async def due_index() -> Any:
            nonlocal asked
            asked += 1
            return await real()

        bench.spool.due_index = due_index  # type: ignore[method-assign]
        await eventually_async(lambda: asked >= 5, what="some rounds")
        ((key, lines),) = files(bench).items()
        assert len(lines) == 1
        assert bench.store.puts.count(key) == 1
        assert await delivery.drain(20)
        assert len(files(bench)[key]) == 2, "a stop writes at once"


async def test_a_late_event_of_yesterday_rewrites_yesterday(bench: Bench) -> None:
    writer = await bench.spool.writer()
    bench.store.trouble = lambda key: StoreUnavailable("cut") if "000000.jpg" in key else None
    await bench.accept_event(1)
    bench.store.trouble = lambda _: None
    await bench.accept_event(1, index=1)

    def both() -> bool:
        bench.clock.sleep(0.02)  # the file may have been written after the first event: it is due again
        return len(files(bench).get(key_of(writer), [])) == 2

    async with bench.delivering(index_every_s=0.01) as delivery:
        await eventually_async(both, what="both")
        await bench.accept_event(1, index=DAY_S)
        bench.clock.sleep(1)
        await eventually_async(lambda: len(files(bench)) == 2, what="today's file")
        yesterday = bench.store.puts.count(key_of(writer))
        await bench.accept_event(2, index=2)  # delivered today, but of yesterday
        bench.clock.sleep(1)
        await eventually_async(lambda: len(files(bench)[key_of(writer)]) == 3, what="yesterday's")
        assert bench.store.puts.count(key_of(writer)) == yesterday + 1
        assert await delivery.drain(20)


@pytest.mark.parametrize("error", [StoreRefused("HTTP 403"), RecordRejected("HTTP 400")])
@pytest.mark.parametrize("before", [True, False])
async def test_a_refused_file_does_not_hold_up_a_stop_and_stays_due(
    bench: Bench, error: Exception, before: bool
) -> None:
    await bench.accept_event(1)
    bench.store.trouble = lambda key: error if "/.index/" in key else None
    pace = replace(QUICK, refused_first_s=3600, item_max_s=3600)
    async with bench.delivering(index_every_s=0.01, pace=pace) as delivery:
        if before:
            await eventually_async(lambda: delivery.health().index_problem is not None, what="the refusal")
        bench.store.puts.clear()
        assert await delivery.drain(60)
        assert [key for key in bench.store.puts if "/.index/" in key], "it is tried at the stop"
    assert await bench.spool.due_index()


async def test_a_store_that_refuses_us_altogether_does_not_hold_up_a_stop(bench: Bench) -> None:
    await bench.accept_event(1)
    async with bench.delivering() as delivery:
        assert await delivery.drain(20)
    bench.store.trouble = lambda _: StoreRefused("HTTP 403")
    await bench.spool.accept([make_record(make_event(index=60), 0)])
    (waiting,) = await bench.spool.take_uploads(fresh=True, limit=10)
    async with bench.delivering(index_every_s=3600.0) as delivery:
        await eventually_async(lambda: not delivery.health().store.ok, what="the refusal")
        await bench.spool.set_aside(waiting.number, "by hand")
        assert await delivery.drain(60)


async def test_a_stop_waits_for_a_file_while_the_store_is_away(bench: Bench) -> None:
    await bench.accept_event(1)
    bench.store.trouble = lambda key: StoreUnavailable("cut off") if "/.index/" in key else None
    async with bench.delivering(index_every_s=0.01) as delivery:
        assert not await delivery.drain(0.2)
        bench.store.trouble = lambda _: None
        bench.clock.sleep(60.0)
        assert await delivery.drain(60)
    assert files(bench)


async def test_a_record_set_aside_and_stored_later_is_in_summary_and_index(bench: Bench) -> None:
    bench.store.trouble = lambda key: RecordRejected("too large") if key.endswith("000001.jpg") else None
    records = await bench.accept_event(3)
    async with bench.delivering(index_every_s=0.01) as delivery:
        assert await delivery.drain(20)
        ((key, (line,)),) = files(bench).items()
        assert (line["frames"], line["no"]) == (2, 1)
        bench.store.trouble = lambda _: None
        bench.clock.sleep(60)
        assert await bench.spool.restore() != []
        assert await delivery.drain(20)
        bench.clock.sleep(1)
        await eventually_async(lambda: files(bench)[key][0]["frames"] == 3, what="the line to be revised")
    folder = records[0].info.object_key.rpartition("/")[0]
    summary = json.loads(bench.store.objects[f"{folder}/event.json"])
    assert [frame["seq"] for frame in summary["frames"]] == [0, 1, 2]
    assert sorted(bench.announced()) == [0, 1, 2]
    assert {(frame["no"], frame["delayed"]) for frame in bench.broker.frames} == {(1, False), (1, True)}
    assert [event["type"] for event in bench.broker.events].count("end") == 1
    assert bench.spool.stats.bytes == 0


async def test_what_is_due_survives_a_crash(tmp_path: Path) -> None:
    bench = Bench()
    bench.spool = Spool(tmp_path / "spool.db", clock=bench.clock, wall=bench.clock.wall)
    async with bench.spool:
        bench.store.trouble = lambda key: StoreUnavailable("away") if "/.index/" in key else None
        await bench.accept_event(1)
        async with bench.delivering(index_every_s=300.0) as delivery:
            while not await bench.spool.due_index():
                assert not await delivery.drain(0.3)
        assert [day.version for day in await bench.spool.due_index()] == [1]
    # The next run finds the due file in the tables, as after SIGKILL, and writes it without a new event.
    bench.store.trouble = lambda _: None
    bench.spool = Spool(tmp_path / "spool.db", clock=bench.clock, wall=bench.clock.wall)
    async with bench.spool, bench.delivering(index_every_s=300.0):
        await eventually_async(lambda: bool(files(bench)), what="the file")
        await eventually_async(bench.nothing_due, what="the note")


@pytest.mark.parametrize("error", [StoreRefused("AccessDenied"), RecordRejected("no such key")])
async def test_a_file_that_the_store_refuses_stops_no_frame(
    bench: Bench, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    bench.store.trouble = lambda key: error if "/.index/" in key else None
    await bench.accept_event(1)
    async with bench.delivering(index_every_s=0.01) as delivery:
        await eventually_async(lambda: delivery.health().index_problem, what="the refusal")
        await bench.accept_event(2, index=60)
        await eventually_async(lambda: len(bench.announced()) == 3, what="frames to pass")
        assert delivery.health().store.ok
        bench.store.trouble = lambda _: None
        bench.clock.sleep(1)
        assert await delivery.drain(20)
        assert delivery.health().index_problem is None
    ((_, lines),) = files(bench).items()
    assert [line["no"] for line in lines] == [1, 2]
    assert caplog.text.count("is not written") == 1


async def test_lines_added_while_a_file_is_written_are_not_lost(bench: Bench) -> None:
    (await bench.accept_event(1))[0]
    async with bench.delivering(index_every_s=0.01) as delivery:
        real = bench.spool.index_lines

        async def index_lines(day: Any) -> list[str]:
            lines = await real(day)
            bench.spool.index_lines = real  # type: ignore[method-assign]
            event = make_event(index=60)
            await bench.spool.accept([make_record(event, 0), start_of(event), end_of(event)])
            await eventually_async(lambda: bench.spool.stats.empty, what="the second event")
            return lines

        bench.spool.index_lines = index_lines  # type: ignore[method-assign]
        await eventually_async(lambda: bool(files(bench)), what="the first version")
        bench.clock.sleep(1)
        await eventually_async(
            lambda: [line["no"] for line in next(iter(files(bench).values()))] == [1, 2], what="both lines"
        )
        assert await delivery.drain(20)


async def test_a_spool_that_is_replaced_in_the_meantime_overwrites_nothing(bench: Bench) -> None:
    await bench.accept_event(1)
    async with bench.delivering() as delivery:
        assert await delivery.drain(20)
    writers = iter(["a41c07"])

    async def writer() -> str:
        return next(writers, "b00b1e")

    bench.spool.writer = writer  # type: ignore[method-assign]
    async with bench.delivering(index_every_s=0.01):
        await eventually_async(lambda: bool(files(bench)), what="a file")
    assert set(files(bench)) == {key_of("b00b1e")}, "what the first id wrote stays as it is"


async def test_numbers_are_in_every_message(bench: Bench) -> None:
    writer = await bench.spool.writer()
    for index in range(3):
        await bench.accept_event(2, index=index * 60)
    await bench.accept_event(1, "yard")
    lone = make_record(make_event("yard", 500), 0)
    await bench.spool.accept([lone])
    async with bench.delivering(update_every_s=0.0) as delivery:
        assert await delivery.drain(20)
    for message in [*bench.broker.frames, *bench.broker.events]:
        assert message["writer"] == writer
    numbers = {frame["event_id"]: frame["no"] for frame in bench.broker.frames if frame["camera"] == "porch"}
    assert list(numbers.values()) == [1, 2, 3]
    assert {event["no"] for event in bench.broker.events if event["camera"] == "yard"} == {1}
    assert [f["no"] for f in bench.broker.frames if f["event_id"] == lone.info.event_id] == [None]
    for key, data in bench.store.objects.items():
        if key.endswith("event.json"):
            summary = json.loads(data)
            assert (summary["writer"], summary["no"] in (1, 2, 3)) == (writer, True)
    assert BEGIN.year == 2026
