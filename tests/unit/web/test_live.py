"""The live view: the newest frame, encoded once and only on request; bounded streams."""

# ruff: noqa: SLF001  (what is left when viewers have gone)

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp
import pytest

from async_motion.web.api.cameras import BOUNDARY
from tests.support.records import make_event
from tests.support.wait import eventually_async
from tests.unit.web.kit import Stage, detection, frame, get, serving


async def test_nothing_is_encoded_without_a_viewer() -> None:
    stage = Stage()
    async with serving(stage):
        for number in range(100):
            stage.live.judged("porch", frame(number), detection())
        assert stage.encoder.calls == []


async def test_a_frame_is_encoded_once_for_all_viewers() -> None:
    stage = Stage()
    async with serving(stage) as session:
        stage.live.judged("porch", frame(1), detection())

        async def look() -> str:
            async with session.get("/api/v1/cameras/porch/picture") as answer:
                assert answer.status == 200
                assert answer.content_type == "image/jpeg"
                assert (await answer.read())[:2] == b"\xff\xd8"
                return answer.headers["ETag"]

        async with asyncio.TaskGroup() as tasks:
            looks = [tasks.create_task(look()) for _ in range(5)]
        (tag,) = {task.result() for task in looks}
        assert len(stage.encoder.calls) == 1
        assert (await get(session, "/api/v1/cameras/porch/picture", **{"If-None-Match": tag}))[0] == 304
        stage.live.judged("porch", frame(2), detection())
        assert await look() != tag


async def test_before_the_first_frame_and_after_the_last() -> None:
    stage = Stage()
    async with serving(stage) as session:
        assert (await get(session, "/api/v1/cameras/porch/picture"))[0] == 404
        assert (await get(session, "/api/v1/cameras/nix/picture"))[0] == 404
        stage.live.judged("porch", frame(1), detection())
        async with session.get("/api/v1/cameras/porch/picture") as answer:
            shown = await answer.read()
        stage.live.offline("porch")
        async with session.get("/api/v1/cameras/porch/picture") as answer:
            assert await answer.read() == shown, "the last one stays"


async def parts(answer: aiohttp.ClientResponse, count: int) -> list[bytes]:
    """Return the next `count` JPEGs of a multipart stream."""
    head = f"--{BOUNDARY}\r\nContent-Type: image/jpeg\r\n\r\n".encode()
    async with asyncio.timeout(30):
        # Chromium shows a part only at the head of the next: without it, one frame late.
        found = [await answer.content.readuntil(b"\r\n" + head) for _ in range(count)]
    return [part.removeprefix(head).removesuffix(b"\r\n" + head) for part in found]


async def test_a_stream_shows_the_newest_frame_and_ends_with_its_viewer(
    caplog: pytest.LogCaptureFixture,
) -> None:
    stage = Stage(max_viewers=1)
    async with serving(stage) as session:
        stage.live.judged("porch", frame(1), detection())
        async with session.get("/api/v1/cameras/porch/stream") as answer:
            assert answer.content_type == "multipart/x-mixed-replace"
            (first,) = await parts(answer, 1)
            assert (first[:2], first[-2:]) == (b"\xff\xd8", b"\xff\xd9")
            assert (await get(session, "/api/v1/cameras/porch/stream"))[0] == 429
            for number in (2, 3, 4):
                stage.live.judged("porch", frame(50 * number), detection())
            (second,) = await parts(answer, 1)
            assert second != first
        stage.live.judged("porch", frame(9), detection())

        def free() -> bool:
            stage.live.judged("porch", frame(9), detection())
            return stage.live._streams == 0

        await eventually_async(free, what="the viewer's place")
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


async def told(answer: aiohttp.ClientResponse, count: int) -> list[tuple[str, str, Any]]:
    """Return the next `count` server-sent events: (id, name, values)."""
    found: list[tuple[str, str, Any]] = []
    fields: dict[str, str] = {}
    async with asyncio.timeout(30):
        while len(found) < count:
            name, _, value = (await answer.content.readline()).decode().strip().partition(": ")
            fields[name] = value
            if name == "data":
                found.append((fields.get("id", ""), fields["event"], json.loads(value)))
    return found


async def test_news_tell_motion_events_and_verdicts() -> None:
    stage = Stage()
    async with serving(stage) as session:
        async with session.get("/api/v1/news?camera=porch") as answer:
            assert answer.content_type == "text/event-stream"
            assert "no-transform" in answer.headers["Cache-Control"]
            assert await told(answer, 1) == [("", "hello", {})]
            stage.live.judged("porch", frame(1), detection())
            stage.live.motion("porch", True)
            stage.live.event_started(make_event())
            seen = {name: (cursor, values) for cursor, name, values in await told(answer, 3)}
        assert seen["motion"][1] == {"camera": "porch", "on": True}
        assert seen["event"][1]["phase"] == "start"
        assert seen["judged"][1]["boxes"] == [[0.1, 0.2, 0.3, 0.4]]
        stage.live.motion("porch", False)
        last = max(cursor for cursor, _ in seen.values())
        # A browser that connects again names the last event that it has seen.
        async with session.get("/api/v1/news?camera=porch", headers={"Last-Event-ID": last}) as answer:
            _, (_, name, values) = await told(answer, 2)
            assert (name, values) == ("motion", {"camera": "porch", "on": False})


async def test_news_after_a_cursor_are_the_same() -> None:
    stage = Stage()
    async with serving(stage) as session:

        async def after(cursor: str, of: str = "&camera=porch") -> tuple[str, list[str]]:
            status, text = await get(session, f"/api/v1/news/after?cursor={cursor}{of}")
            assert status == 200, text
            page = json.loads(text)
            return page["cursor"], [one["name"] for one in page["news"]]

        stage.live.motion("porch", True)
        stage.live.judged("porch", frame(1), detection())
        cursor, names = await after("")
        assert names == ["judged"], "what happened before is not news; the newest verdict is"
        stage.live.motion("porch", False)
        stage.live.judged("porch", frame(2), detection())
        cursor, names = await after(cursor)
        assert names == ["motion", "judged"]
        waiting = asyncio.create_task(after(cursor))
        await eventually_async(lambda: stage.live._listeners, what="a listener")
        stage.live.event_started(make_event())
        assert (await waiting)[1] == ["event"]
        assert (await after("ffffff-1-1", ""))[1] == [], "of another run of the service"
        assert (await after("nonsense", ""))[1] == []
        assert stage.live._listeners == 0


async def test_listeners_are_bounded() -> None:
    stage = Stage(max_viewers=1)
    async with serving(stage) as session, asyncio.TaskGroup() as tasks:
        cursor = json.loads((await get(session, "/api/v1/news/after"))[1])["cursor"]
        path = f"/api/v1/news/after?cursor={cursor}"
        waiting = [tasks.create_task(get(session, path)) for _ in range(4)]
        await eventually_async(lambda: stage.live._listeners == 4, what="four listeners")
        assert (await get(session, path))[0] == 429
        assert (await get(session, "/api/v1/news"))[0] == 429
        stage.live.motion("porch", True)
        for task in waiting:
            assert (await task)[0] == 200


async def test_a_listener_that_is_slow_loses_the_oldest() -> None:
    stage = Stage()
    cursor = stage.live.now()
    for number in range(200):
        stage.live.motion(str(number), True)
    cursor, news = await stage.live.news(cursor, None, 0)
    assert [values["camera"] for _, values in news] == [str(number) for number in range(136, 200)]
    assert await stage.live.news(cursor, None, 0) == (cursor, [])
    stage.executor.shutdown()


async def test_scores_of_the_last_minutes() -> None:
    stage = Stage()
    async with serving(stage) as session:
        for number in range(700):
            stage.live.judged("porch", frame(number), detection(score=number / 1000))
        answer = json.loads((await get(session, "/api/v1/cameras/porch/scores"))[1])
        assert len(answer["scores"]) == 600
        assert answer["scores"][-1]["score"] == 0.699
