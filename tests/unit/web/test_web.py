"""The pages: who may read them, what they say, and that they never hold up the service."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from html.parser import HTMLParser
from typing import Any

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from async_motion.web import Web
from async_motion.web.page import render
from tests.support.wait import eventually_async

TOKEN = "tök3n"
NOW = datetime(2026, 11, 22, 7, 31, 12, tzinfo=UTC)


def state(**changes: Any) -> dict[str, Any]:
    """Return a state as the reporter gives it, all well."""
    return {
        "schema": "async_motion.state/1",
        "instance": "edge1",
        "version": "0.1.0",
        "started_at": "2026-11-22T04:31:12.000000Z",
        "spool": {
            "records": 3, "phases": 1, "bytes": 250_000, "max_bytes": 2 << 30, "oldest_age_s": 12.5,
            "set_aside": 0, "accepted": 40, "commits": 30, "dropped": {"age": 2, "full": 1}, "problem": None,
        },
        "store": {"problem": None},
        "broker": {"problem": None},
        "announced": 37,
        "upload_s": {"p50": 0.02, "p99": None},
        "counters": {"cameras": 1},
        "cameras": {"porch": camera()},
    } | changes  # fmt: skip


def camera(**changes: Any) -> dict[str, Any]:
    return {
        "schema": "async_motion.camera_state/1", "status": "watching", "problem": None, "fps": 4.9,
        "score": 0.03,
        "last_motion": "2026-11-22T07:21:12.000000Z", "events_today": 4, "events": 9, "frames": 1000,
        "motion_frames": 60, "stored": 37, "dropped": {"too_slow": 5}, "dropped_total": 5,
        "capture": {"opened": 3, "stalls": 2, "abandoned": 1, "changed": 4},
        "upload_latency_s": 0.08,
    } | changes  # fmt: skip


class Box:
    """A state that tests change."""

    def __init__(self, **changes: Any) -> None:
        self.state = state(**changes)

    def __call__(self) -> Mapping[str, Any]:
        return self.state


@asynccontextmanager
async def serving(
    box: Box, *, host: str = "127.0.0.1", token: str | None = None
) -> AsyncIterator[aiohttp.ClientSession]:
    web = Web(host=host, port=0, token=token, snapshot=box)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(web.run(), name="web")
        url = await eventually_async(lambda: web.url, what="the server")
        assert url is not None
        try:
            async with aiohttp.ClientSession(url.replace("0.0.0.0", "127.0.0.1")) as session:
                yield session
        finally:
            running.cancel()
    assert web.url is None


async def get(session: aiohttp.ClientSession, path: str, **headers: str) -> tuple[int, str]:
    async with session.get(path, headers=headers) as answer:
        return answer.status, await answer.text()


# ---- health ----


async def test_healthz_answers_whatever_is_wrong_elsewhere() -> None:
    async with serving(Box(store={"problem": "away"})) as session, session.get("/healthz") as answer:
        assert answer.status == 200
        assert answer.content_type == "application/json"
        assert await answer.json() == {"status": "ok"}


async def test_readyz_says_what_does_not_work() -> None:
    box = Box()
    async with serving(box) as session:
        assert await get(session, "/readyz") == (200, '{"status": "ready", "reasons": []}')
        box.state = state(
            store={"problem": "connection refused"},
            spool={"problem": "disk full"},
            cameras={
                "porch": camera(status="offline", problem="no answer"),
                "yard": camera(status="offline"),
            },
        )
        async with session.get("/readyz") as answer:
            assert answer.status == 503
            assert (await answer.json())["reasons"] == [
                "spool: disk full",
                "store: connection refused",
                "porch: no answer",
                "yard: offline",
            ]


@pytest.mark.parametrize("well", ["ok", {"problem": None}, None])
async def test_readyz_takes_a_part_in_one_word_too(well: object) -> None:
    async with serving(Box(store=well, broker="unavailable: not connected")) as session:
        _, text = await get(session, "/readyz")
        assert "broker: unavailable: not connected" in text
        assert "store" not in text


@pytest.mark.parametrize("status", ["starting", "watching", "paused"])
async def test_a_camera_that_starts_or_rests_is_no_trouble(status: str) -> None:
    async with serving(Box(cameras={"porch": camera(status=status)})) as session:
        assert (await get(session, "/readyz"))[0] == 200


# ---- who may read ----


@pytest.mark.parametrize("path", ["/", "/metrics"])
async def test_a_token_is_wanted_where_there_is_one(path: str) -> None:
    async with serving(Box(), token=TOKEN) as session:
        for headers in (
            {},
            {"Authorization": "Bearer wrong"},
            {"Authorization": f"Basic {TOKEN}"},
            {"Authorization": ""},
        ):
            status, text = await get(session, path, **headers)
            assert status == 401
            assert "edge1" not in text
            assert TOKEN not in text
        assert (await get(session, f"{path}?token=wrong"))[0] == 401
        assert (await get(session, f"{path}?token="))[0] == 401
        assert (await get(session, f"{path}?token={TOKEN}"))[0] == 200
        async with session.get(path) as answer:
            assert answer.headers["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize("path", ["/", "/metrics"])
async def test_the_token_comes_as_a_bearer(path: str) -> None:
    async with serving(Box(), token="t0ken") as session:
        assert (await get(session, path, Authorization="Bearer t0ken"))[0] == 200
        assert (await get(session, path, Authorization="bearer t0ken"))[0] == 200


async def test_probes_need_no_token_and_learn_no_reasons() -> None:
    async with serving(Box(store={"problem": "s3.internal refuses"}), token="t0ken") as session:
        assert (await get(session, "/healthz"))[0] == 200
        assert await get(session, "/readyz") == (503, '{"status": "not ready"}')
        assert "s3.internal refuses" in (await get(session, "/readyz", Authorization="Bearer t0ken"))[1]


async def test_a_foreign_name_for_the_loopback_address_is_refused() -> None:
    async with serving(Box()) as session:
        for host in ("evil.example", "evil.example:8585", "192.168.0.1", ""):
            status, text = await get(session, "/", Host=host)
            assert status in (400, 403)
            assert "edge1" not in text
        for host in ("localhost:8585", "127.0.0.1", "[::1]:80"):
            assert (await get(session, "/", Host=host))[0] == 200


async def test_with_a_token_any_name_will_do() -> None:
    async with serving(Box(), host="0.0.0.0", token="t0ken") as session:
        assert (await get(session, "/?token=t0ken", Host="cams.example"))[0] == 200


async def test_nothing_can_be_changed() -> None:
    async with serving(Box()) as session:
        for path in ("/", "/metrics", "/healthz", "/readyz"):
            async with session.post(path, data=b"x") as answer:
                assert answer.status == 405
        assert (await get(session, "/other"))[0] == 404


async def test_browsers_are_told_to_keep_and_load_nothing() -> None:
    async with serving(Box(), token="t0ken") as session:
        for path in ("/", "/healthz", "/?token=t0ken", "/other?token=t0ken"):
            async with session.get(path) as answer:
                assert answer.headers["Cache-Control"] == "no-store"
                assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")
                assert answer.headers["X-Content-Type-Options"] == "nosniff"
                assert answer.headers["Referrer-Policy"] == "no-referrer", "the address may hold the token"


async def test_the_token_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with serving(Box(), token="t0ken") as session:
        await get(session, "/?token=t0ken")
        await get(session, "/?token=t0ken-wrong")
    assert "t0ken" not in caplog.text


# ---- the port ----


async def test_a_taken_port_is_one_warning_and_no_failure(caplog: pytest.LogCaptureFixture) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        web = Web(host="127.0.0.1", port=port, token=None, snapshot=Box())
        async with asyncio.timeout(30):
            await web.run()
    (record,) = [record for record in caplog.records if record.name.startswith("async_motion")]
    assert record.levelno == logging.WARNING
    assert record.getMessage() == (
        f"no web pages: port {port} on 127.0.0.1 is taken by another program (web.host, web.port)"
    )


async def test_an_address_of_another_machine_is_a_warning_too(caplog: pytest.LogCaptureFixture) -> None:
    async with asyncio.timeout(30):
        await Web(host="192.0.2.1", port=0, token=None, snapshot=Box()).run()
    assert "this machine has no address 192.0.2.1" in caplog.text


async def test_the_port_is_free_again_after_the_end() -> None:
    async with serving(Box()) as session:
        port = session._base_url.port if session._base_url else None
    assert port is not None
    async with asyncio.TaskGroup() as tasks:
        web = Web(host="127.0.0.1", port=port, token=None, snapshot=Box())
        running = tasks.create_task(web.run(), name="web")
        assert await eventually_async(lambda: web.url) == f"http://127.0.0.1:{port}"
        running.cancel()


# ---- metrics ----


async def metrics(box: Box) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    async with serving(box) as session:
        status, text = await get(session, "/metrics")
    assert status == 200
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def test_metrics_say_what_the_state_says() -> None:
    found = await metrics(Box(broker={"problem": "away"}))
    porch = ("camera", "porch")
    expected: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {
        ("async_motion_info", (("instance_name", "edge1"), ("version", "0.1.0"))): 1,
        ("async_motion_start_time_seconds", ()): datetime(2026, 11, 22, 4, 31, 12, tzinfo=UTC).timestamp(),
        ("async_motion_part_up", (("part", "store"),)): 1,
        ("async_motion_part_up", (("part", "broker"),)): 0,
        ("async_motion_spool_records", ()): 3,
        ("async_motion_spool_oldest_age_seconds", ()): 12.5,
        ("async_motion_spool_accepted_total", ()): 40,
        ("async_motion_spool_dropped_total", (("reason", "age"),)): 2,
        ("async_motion_spool_dropped_total", (("reason", "full"),)): 1,
        ("async_motion_announced_frames_total", ()): 37,
        ("async_motion_upload_seconds", (("percentile", "p50"),)): 0.02,
        ("async_motion_camera_up", (porch,)): 1,
        ("async_motion_camera_problem", (porch,)): 0,
        ("async_motion_camera_frames_total", (porch,)): 1000,
        ("async_motion_camera_dropped_frames_total", (porch, ("reason", "too_slow"))): 5,
        ("async_motion_camera_connections_total", (porch,)): 3,
        ("async_motion_camera_stalls_total", (porch,)): 2,
        ("async_motion_camera_abandoned_readers_total", (porch,)): 1,
        ("async_motion_camera_stream_changes_total", (porch,)): 4,
        ("async_motion_camera_last_motion_timestamp_seconds", (porch,)): datetime(
            2026, 11, 22, 7, 21, 12, tzinfo=UTC
        ).timestamp(),
    }
    assert {key: found.get(key) for key in expected} == expected
    assert ("async_motion_upload_seconds", (("percentile", "p99"),)) not in found, "not known yet"
    assert found["async_motion_event_loop_lag_seconds", ()] >= 0
    assert found["process_resident_memory_bytes", ()] > 0


async def test_a_camera_offline_is_down() -> None:
    found = await metrics(Box(cameras={"porch": camera(status="offline", problem="no answer")}))
    assert found["async_motion_camera_up", (("camera", "porch"),)] == 0
    assert found["async_motion_camera_problem", (("camera", "porch"),)] == 1


@pytest.mark.parametrize(
    "strange",
    [{}, {"spool": None, "cameras": None}, {"spool": "ok", "started_at": "then"}, {"cameras": {"a": {}}}],
)
async def test_what_is_missing_in_the_state_is_left_out(strange: dict[str, Any]) -> None:
    box = Box()
    box.state = strange
    async with serving(box) as session:
        for path in ("/", "/metrics", "/readyz", "/healthz"):
            assert (await get(session, path))[0] == 200, path


async def test_openmetrics_is_spoken_to_those_who_ask() -> None:
    async with serving(Box()) as session:
        accept = {"Accept": "application/openmetrics-text; version=1.0.0"}
        async with session.get("/metrics", headers=accept) as answer:
            assert answer.headers["Content-Type"].startswith("application/openmetrics-text")
            assert (await answer.text()).endswith("# EOF\n")


async def test_two_servers_do_not_share_a_registry() -> None:
    one, two = await metrics(Box(instance="one")), await metrics(Box(instance="two"))
    assert any("one" in str(key) for key in one)
    assert not any("one" in str(key[1]) for key in two)


# ---- the page ----


class Texts(HTMLParser):
    """Collects what a reader sees, and every element; fails on elements that do not close."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.seen: list[str] = []
        self.elements: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == []
        self.text = " ".join(self.seen)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        assert not any(name.startswith("on") for name, _ in attrs)
        if tag != "meta":
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] != "style" and data.strip():
            self.seen.append(data.strip())


async def test_the_page_shows_the_state() -> None:
    async with serving(Box(store={"problem": "connection refused"})) as session, session.get("/") as answer:
        assert answer.content_type == "text/html"
        page = Texts(await answer.text())
    for words in ("edge1", "0.1.0", "connection refused", "porch", "watching"):
        assert words in page.text


def test_the_page_in_an_operators_words() -> None:
    text = Texts(render(state(), NOW)).text
    for words in (
        "running for 3 h",
        "3 frames wait, the oldest for 12 s",
        "244 KiB of 2 GiB",
        "10 min ago",
        "80 ms",
    ):
        assert words in text


@pytest.mark.parametrize(
    ("spool", "words"),
    [
        ({"records": 0, "bytes": 0, "max_bytes": 1 << 30}, "nothing waits"),
        ({"records": 1, "oldest_age_s": 200_000}, "1 frame waits, the oldest for 2 days"),
        ({"records": 0, "set_aside": 2}, "2 set aside"),
        ({"records": 0, "problem": "the disk is full"}, "the disk is full"),
        (None, "Spool not known"),
    ],
)
def test_the_spool_in_words(spool: object, words: str) -> None:
    assert words in Texts(render(state(spool=spool), NOW)).text


def test_a_page_without_cameras() -> None:
    assert "none" in Texts(render(state(cameras={}), NOW)).seen


def test_every_text_is_escaped() -> None:
    evil = "<script>alert(1)</script>\"'&"
    page = Texts(
        render(
            state(
                instance=evil, version=evil, started_at=evil, store={"problem": evil}, broker=evil,
                spool={"records": evil, "problem": evil},
                cameras={evil: camera(**dict.fromkeys(camera(), evil)) | {"dropped_total": evil}},
            ),
            NOW,
        )
    )  # fmt: skip
    assert "script" not in page.elements
    assert evil in page.text
