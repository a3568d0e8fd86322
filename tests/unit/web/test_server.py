"""The server: health, headers, the port, and bounds that hold against a thousand slow clients."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import aiohttp
import pytest

from async_motion.tls import TlsFiles, client_context
from async_motion.web import Guard, Web, connections
from async_motion.web.connections import (
    MAX_CONNECTIONS,
    MAX_HANDSHAKES,
    MIN_CONNECTIONS,
    RESERVE,
    connection_bound,
)
from async_motion.web.listening import listening_socket
from tests.support.tls import make_authority
from tests.support.wait import eventually_async
from tests.unit.web.kit import TOKEN, Stage, bearer, camera, get, serving, state


def server(host: str, port: int) -> Web:
    return Web(host=host, port=port, guard=Guard(host=host, instance="edge1"), site=Stage().site())


@asynccontextmanager
async def https_pages(folder: Path) -> AsyncIterator[tuple[str, ssl.SSLContext]]:
    """Serve the pages with a certificate of their own; yield their address and what trusts it."""
    authority = make_authority(folder)
    tls = TlsFiles(cert_file=str(authority.cert_file), key_file=str(authority.key_file))
    guard = Guard(host="127.0.0.1", instance="edge1")
    pages = Web(host="127.0.0.1", port=0, guard=guard, site=Stage().site(), tls=tls)
    running = asyncio.create_task(pages.run())
    try:
        url = await eventually_async(lambda: pages.url, what="the pages")
        assert url is not None
        yield url, client_context(TlsFiles(ca_file=str(authority.ca_file)))
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


# ---- listening ----


async def test_the_pages_have_a_certificate_of_their_own(tmp_path: Path) -> None:
    async with https_pages(tmp_path) as (url, trusting):
        assert url.startswith("https://127.0.0.1:")
        async with aiohttp.ClientSession() as session, session.get(f"{url}/healthz", ssl=trusting) as answer:
            assert answer.status == 200


async def test_a_certificate_that_cannot_be_used_leaves_the_service_without_pages(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    guard = Guard(host="127.0.0.1", instance="edge1")
    tls = TlsFiles(cert_file=str(tmp_path / "none.pem"), key_file=str(tmp_path / "none.key"))
    await Web(host="127.0.0.1", port=0, guard=guard, site=Stage().site(), tls=tls).run()
    assert f"web.tls.cert_file: {tmp_path / 'none.pem'}: no such file" in caplog.text


async def test_two_colons_are_every_address_also_of_ipv4() -> None:
    pages = Web(host="::", port=0, guard=Guard(host="::", instance="edge1", token=TOKEN), site=Stage().site())
    running = asyncio.create_task(pages.run())
    try:
        url = await eventually_async(lambda: pages.url, what="the pages")
        assert url is not None
        port = url.rpartition(":")[2]
        async with aiohttp.ClientSession() as session:
            for host in ("127.0.0.1", "[::1]"):
                async with session.get(f"http://{host}:{port}/healthz") as answer:
                    assert answer.status == 200
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


def test_a_socket_that_systemd_passes_is_taken_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        monkeypatch.setattr("async_motion.web.listening.FIRST_FD", os.dup(listening.fileno()))
        monkeypatch.setenv("LISTEN_FDS", "1")
        monkeypatch.setenv("LISTEN_PID", "1")
        assert listening_socket("127.0.0.1", 8585) is None, "it was meant for another process"
        monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
        passed = listening_socket("127.0.0.1", 8585)
        assert passed is not None
        with passed:
            assert passed.getsockname() == listening.getsockname()
        assert listening_socket("127.0.0.1", 8585) is None
        assert "LISTEN_FDS" not in os.environ


# ---- health ----


async def test_healthz_answers_whatever_is_wrong_elsewhere() -> None:
    async with serving(Stage(store={"problem": "away"})) as session, session.get("/healthz") as answer:
        assert answer.status == 200
        assert answer.content_type == "application/json"
        assert await answer.json() == {"status": "ok"}


async def test_readyz_says_what_does_not_work() -> None:
    stage = Stage()
    async with serving(stage) as session:
        assert await get(session, "/readyz") == (200, '{"status": "ready", "reasons": []}')
        stage.state.state = state(
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


async def test_readyz_names_records_that_are_set_aside_or_dropped() -> None:
    alarm = "7 records are set aside: HTTP 413"
    stage = Stage(spool={"problem": None, "alarm": alarm})
    async with serving(stage) as session, session.get("/readyz") as answer:
        assert answer.status == 503
        assert (await answer.json())["reasons"] == [f"spool: {alarm}"]


@pytest.mark.parametrize("well", ["ok", {"problem": None}, None])
async def test_readyz_takes_a_part_in_one_word_too(well: object) -> None:
    async with serving(Stage(store=well, broker="unavailable: not connected")) as session:
        _, text = await get(session, "/readyz")
        assert "broker: unavailable: not connected" in text
        assert "store" not in text


@pytest.mark.parametrize("status", ["starting", "watching", "paused"])
async def test_a_camera_that_starts_or_rests_is_not_trouble(status: str) -> None:
    async with serving(Stage(cameras={"porch": camera(status=status)})) as session:
        assert (await get(session, "/readyz"))[0] == 200


async def test_probes_need_no_token_and_learn_no_reasons() -> None:
    async with serving(Stage(store={"problem": "s3.internal refuses"}), token=TOKEN) as session:
        assert (await get(session, "/healthz"))[0] == 200
        assert await get(session, "/readyz") == (503, '{"status": "not ready"}')
        assert "s3.internal refuses" in (await get(session, "/readyz", **bearer(TOKEN)))[1]


async def test_browsers_are_told_to_keep_and_load_nothing_foreign() -> None:
    async with serving(Stage(), token=TOKEN) as session:
        for path in ("/", "/healthz", "/login", "/other"):
            async with session.get(path) as answer:
                policy = answer.headers["Content-Security-Policy"]
                assert policy.startswith("default-src 'none'")
                assert "unsafe" not in policy
                assert "frame-ancestors 'none'" in policy
                assert answer.headers["Cache-Control"] == "no-store"
                assert answer.headers["X-Content-Type-Options"] == "nosniff"
                assert answer.headers["Referrer-Policy"] == "no-referrer"


# ---- the port ----


async def test_a_taken_port_is_one_warning_and_no_failure(caplog: pytest.LogCaptureFixture) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        async with asyncio.timeout(30):
            await server("127.0.0.1", port).run()
    (record,) = [record for record in caplog.records if record.name.startswith("async_motion")]
    assert record.levelno == logging.WARNING
    assert record.getMessage() == (
        f"no web pages: port {port} on 127.0.0.1 is taken by another program (web.host, web.port)"
    )


async def test_an_address_of_another_machine_is_a_warning_too(caplog: pytest.LogCaptureFixture) -> None:
    async with asyncio.timeout(30):
        await server("192.0.2.1", 0).run()
    assert "this machine has no address 192.0.2.1" in caplog.text


async def test_the_port_is_free_again_after_the_end() -> None:
    stage = Stage()
    async with serving(stage):
        port = int(stage.url.rpartition(":")[2])
    async with asyncio.TaskGroup() as tasks:
        web = server("127.0.0.1", port)
        running = tasks.create_task(web.run(), name="web")
        assert await eventually_async(lambda: web.url) == f"http://127.0.0.1:{port}"
        running.cancel()


# ---- bounds ----


HALF_HEAD = b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: "
FORM = (
    b"POST /login HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost\r\n"
    b"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 100\r\n\r\ntoken="
)
"""A login whose form never ends."""


async def half_sent(
    port: int, beginning: bytes = HALF_HEAD
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(beginning)
    return reader, writer


def test_the_bound_leaves_a_reserve_of_handles() -> None:
    assert connection_bound(1024) == MAX_CONNECTIONS
    assert connection_bound(RESERVE + 100) == 100
    assert connection_bound(64) == MIN_CONNECTIONS
    assert connection_bound(-1) == MAX_CONNECTIONS  # RLIM_INFINITY


@pytest.mark.parametrize("beginning", [HALF_HEAD, FORM])
async def test_half_sent_requests_do_not_take_the_place_of_whole_ones(
    beginning: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("async_motion.web.server.connection_bound", lambda: 20)
    stage = Stage()
    async with serving(stage) as session:
        port = int(stage.url.rpartition(":")[2])
        slow = [await half_sent(port, beginning) for _ in range(60)]
        for _ in range(3):
            async with aiohttp.ClientSession(stage.url) as fresh:
                assert (await get(fresh, "/healthz"))[0] == 200
        assert (await get(session, "/healthz"))[0] == 200

        def closed() -> int:
            return sum(reader.at_eof() or reader.exception() is not None for reader, _ in slow)

        for reader, _ in slow[:40]:
            with suppress(OSError, TimeoutError):
                async with asyncio.timeout(10):
                    await reader.read()
        assert closed() >= 40
        for _, writer in slow:
            writer.close()


async def test_forms_that_never_end_shut_out_no_client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("async_motion.web.server.connection_bound", lambda: 10)
    stage = Stage()
    async with serving(stage, token=TOKEN):
        port = int(stage.url.rpartition(":")[2])
        slow = []
        for _ in range(20):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(FORM)
            slow.append((reader, writer))
        # The oldest are closed.
        async with asyncio.timeout(60):
            for reader, _ in slow[:10]:
                with suppress(ConnectionError):
                    await reader.read()
        for _ in range(3):
            async with aiohttp.ClientSession(stage.url) as fresh:
                assert (await get(fresh, "/healthz"))[0] == 200
        for _, writer in slow:
            writer.close()


async def test_a_form_must_come_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("async_motion.web.api.routing.BODY_S", 0.2)
    stage = Stage()
    async with serving(stage, token=TOKEN):
        reader, writer = await asyncio.open_connection("127.0.0.1", int(stage.url.rpartition(":")[2]))
        writer.write(FORM)
        async with asyncio.timeout(60):
            assert b" 408 " in await reader.readline()
        writer.close()


async def test_handshakes_that_never_end_shut_out_no_client(tmp_path: Path) -> None:
    async with https_pages(tmp_path) as (url, trusting):
        port = int(url.rpartition(":")[2])
        silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3 * MAX_HANDSHAKES)]
        # The oldest are closed: the client sees the end of the stream.
        async with asyncio.timeout(30):
            for reader, _ in silent[: 2 * MAX_HANDSHAKES]:
                assert await reader.read() == b""
        async with aiohttp.ClientSession() as session, session.get(f"{url}/healthz", ssl=trusting) as answer:
            assert answer.status == 200
        for _, writer in silent:
            writer.close()


async def test_a_head_must_come_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("async_motion.web.server.HEAD_S", 0.2)
    stage = Stage()
    async with serving(stage):
        reader, writer = await half_sent(int(stage.url.rpartition(":")[2]))
        async with asyncio.timeout(30):
            while not reader.at_eof():
                with suppress(OSError):
                    writer.write(b"x")  # single bytes do not extend the deadline
                    await reader.read(1)
        writer.close()


@pytest.mark.parametrize(
    "broken", [b"\0" * 100 + b"\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"GET / HTTP/1.1\r\nX: " + b"x" * 10_000]
)
async def test_broken_requests_leave_nothing_in_the_log(
    broken: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    stage = Stage()
    async with serving(stage):
        reader, writer = await asyncio.open_connection("127.0.0.1", int(stage.url.rpartition(":")[2]))
        writer.write(broken)
        async with asyncio.timeout(30):
            assert b" 400 " in await reader.readline()
        writer.close()
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_where_all_are_at_work_one_more_is_refused() -> None:
    made: list[asyncio.Protocol] = []

    class Connection(asyncio.Protocol):
        closed = False

        def force_close(self) -> None:
            self.closed = True

    def make() -> Connection:
        connection = Connection()
        made.append(connection)
        return connection

    kept = connections.Connections(2)
    opened: list[connections.Closable] = []
    factory = kept.factory(make, lambda: opened)
    first, second = factory(), factory()
    assert isinstance(first, Connection)
    assert isinstance(second, Connection)
    opened += [first, second]
    kept.at_work(first)
    third = factory()
    assert isinstance(third, Connection)
    assert second.closed, "it was idle"
    assert not first.closed
    opened[:] = [first, third]
    kept.at_work(third)
    assert isinstance(factory(), connections.Refused)
    kept.at_rest(third)
    assert isinstance(factory(), Connection)
