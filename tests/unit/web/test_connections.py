"""A client cannot exhaust the file descriptors: connections are bounded, and an idle one is closed first."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from unittest.mock import Mock

import pytest
import uvloop

from async_motion.web.connections import (
    MAX_CONNECTIONS,
    MIN_CONNECTIONS,
    RESERVE,
    Closable,
    Connections,
    Refused,
    connection_bound,
)


@pytest.mark.parametrize(
    ("handles", "bound"),
    [
        (resource.RLIM_INFINITY, MAX_CONNECTIONS),
        (100_000, MAX_CONNECTIONS),
        (RESERVE + 40, 40),
        (RESERVE, MIN_CONNECTIONS),
        (16, MIN_CONNECTIONS),
    ],
)
def test_handles_stay_free_for_the_service(handles: int, bound: int) -> None:
    assert connection_bound(handles) == bound


class Handler(asyncio.Protocol):
    """A connection of the server; `alive` lists the open ones."""

    def __init__(self, alive: list[Closable]) -> None:
        self.alive = alive
        alive.append(self)

    def force_close(self) -> None:
        self.alive.remove(self)


def test_the_connection_that_rests_for_longest_makes_room() -> None:
    alive: list[Closable] = []
    connections = Connections(2)
    connect = connections.factory(lambda: Handler(alive), lambda: list(alive))
    first, second = connect(), connect()
    assert isinstance(first, Handler)
    assert isinstance(second, Handler)
    connections.at_work(first)
    connections.at_rest(first)
    third = connect()
    assert list[object](alive) == [first, third], "the second one had rested for longer"


def test_a_connection_is_refused_while_all_are_at_work() -> None:
    alive: list[Closable] = []
    connections = Connections(1)
    connect = connections.factory(lambda: Handler(alive), lambda: list(alive))
    only = connect()
    assert isinstance(only, Handler)
    connections.at_work(only)
    assert isinstance(connect(), Refused)
    only.force_close()
    assert isinstance(connect(), Handler), "what has closed by itself counts no longer"


def test_a_connection_that_is_not_open_yet_does_not_make_room() -> None:
    alive: list[Closable] = []
    connections = Connections(2)
    late: list[Closable] = []
    first, second = (connections.factory(lambda: Handler(late), lambda: list(alive))() for _ in range(2))
    connect = connections.factory(lambda: Handler(alive), lambda: list(alive))
    assert isinstance(connect(), Refused), "neither of the two can be closed"
    alive += [first, second]  # type: ignore[list-item]  # both are handlers
    assert isinstance(connect(), Handler)
    assert list[object](late) == [second], "the first one was closed"


def test_a_refused_connection_is_closed_before_it_is_read() -> None:
    transport = Mock(spec=asyncio.Transport)
    Refused().connection_made(transport)
    transport.abort.assert_called_once_with()


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_a_refused_connection_ends_on_the_loop_of_the_service_too(run: Callable[[Any], None]) -> None:
    async def connect() -> None:
        server = await asyncio.get_running_loop().create_server(Refused, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname()[:2])
        async with asyncio.timeout(30):
            with suppress(ConnectionResetError):
                assert await reader.read() == b""
        writer.close()
        server.close()

    run(connect())
