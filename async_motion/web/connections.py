"""Bound the connections: slow clients, or a thousand of them, must not exhaust the service's descriptors.

- A request's head must arrive within `HEAD_S`; an idle connection is closed after the same time.
- At most `max_connections` are open. One more closes the connection that has been idle, or without a whole
  request, for longest. If there is none it is refused. Only a visitor's whole request makes a connection
  busy: strangers cannot keep others out.
- TLS handshakes are counted apart, and must be complete within `HANDSHAKE_S`. One more than `MAX_HANDSHAKES`
  ends the oldest: a client that is under way needs milliseconds.
- A reserve of descriptors stays free for the cameras, the spool and the store: see `connection_bound`.
"""

from __future__ import annotations

import asyncio
import os
import resource
import socket
import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final, Protocol, cast

HEAD_S: Final = 15.0
"""Seconds for a request's head, and for a connection without a request."""
BODY_S: Final = 15.0
"""Seconds for a request's body."""
HANDSHAKE_S: Final = 15.0
"""Seconds for a TLS handshake."""
MAX_HANDSHAKES: Final = 32
MAX_CONNECTIONS: Final = 256
MIN_CONNECTIONS: Final = 8
FRESH_S: Final = 1.0
"""Within this many seconds, an accepted connection is among the open ones."""
RESERVE: Final = 256
"""File descriptors kept for cameras, the spool, the store and the broker."""


def connection_bound(handles: int | None = None) -> int:
    """Return the maximum number of connections, for `handles` descriptors (default: the process's limit)."""
    if handles is None:
        handles = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if handles == resource.RLIM_INFINITY:
        return MAX_CONNECTIONS
    return max(MIN_CONNECTIONS, min(MAX_CONNECTIONS, handles - RESERVE))


class Closable(Protocol):
    """A connection that can be closed."""

    def force_close(self) -> None: ...


class Refused(asyncio.Protocol):
    """A connection that is closed before anything is read."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # No isinstance: uvloop's transports are none of asyncio's classes.
        cast(asyncio.Transport, transport).abort()


class _Arrival(asyncio.Protocol):
    """A connection before its TLS handshake."""

    def __init__(self, handshakes: Handshakes) -> None:
        self._handshakes = handshakes

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._handshakes.begin(cast(asyncio.Transport, transport))


class _Complete(asyncio.Protocol):
    """Gives way to a new protocol once the handshake is complete: until then, nothing counts it."""

    def __init__(self, make: Callable[[], asyncio.Protocol]) -> None:
        self._make = make

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        made = self._make()
        transport.set_protocol(made)
        made.connection_made(transport)


class Handshakes:
    """Accepts connections in plain text, and does their TLS handshakes, a bounded number at once.

    A server of asyncio has no bound on them, and can close none before it is complete. `make` is the
    protocol factory of the connections whose handshake is complete.
    """

    def __init__(self, make: Callable[[], asyncio.Protocol], tls: ssl.SSLContext) -> None:
        self._make = make
        self._tls = tls
        self._tasks: dict[asyncio.Task[None], None] = {}

    def arrival(self) -> asyncio.Protocol:
        """Return the protocol of one more connection: a protocol factory."""
        return _Arrival(self)

    def begin(self, transport: asyncio.Transport) -> None:
        """Take over the socket of a connection, and begin its handshake."""
        # A transport cannot be detached from its socket, but a copy of the descriptor outlives it.
        try:
            plain = socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno()))
        except OSError:  # no descriptor is left
            return
        finally:
            transport.abort()
        if len(self._tasks) >= MAX_HANDSHAKES:
            oldest = next(iter(self._tasks))
            del self._tasks[oldest]
            oldest.cancel()
        task = asyncio.get_running_loop().create_task(self._shake_hands(plain), name="web[handshake]")
        self._tasks[task] = None

        def ended(done: asyncio.Task[None]) -> None:
            self._tasks.pop(done, None)
            if done.cancelled():  # perhaps before its first step
                plain.close()

        task.add_done_callback(ended)

    async def close(self) -> None:
        """End the handshakes."""
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(list(self._tasks))

    async def _shake_hands(self, plain: socket.socket) -> None:
        plain.setblocking(False)
        loop = asyncio.get_running_loop()
        # OSError: no TLS, too slow, or hung up.
        with suppress(OSError):
            await loop.connect_accepted_socket(
                lambda: _Complete(self._make), plain, ssl=self._tls, ssl_handshake_timeout=HANDSHAKE_S
            )
            return
        plain.close()


class Connections:
    """The open connections: busy ones, and idle ones in the order of last use; see the module."""

    def __init__(self, max_connections: int) -> None:
        self._max = max_connections
        self._idle: dict[Closable, float] = {}
        """Each with the monotonic time since when it is idle, in seconds."""
        self._busy: set[Closable] = set()

    def factory(
        self, make: Callable[[], asyncio.Protocol], open_now: Callable[[], list[Closable]]
    ) -> Callable[[], asyncio.Protocol]:
        """Return a protocol factory that enforces the bound. `open_now` returns the open connections."""

        def protocol() -> asyncio.Protocol:
            alive = set(open_now())
            self._busy &= alive
            now = time.monotonic()
            # One that was accepted a moment ago is not among the open ones yet.
            self._idle = {
                one: since for one, since in self._idle.items() if one in alive or now - since < FRESH_S
            }
            if len(alive | self._idle.keys()) >= self._max:
                # Only an open one can be closed: not one that was accepted a moment ago.
                oldest = next((one for one in self._idle if one in alive), None)
                if oldest is None:
                    return Refused()
                del self._idle[oldest]
                oldest.force_close()
            made = make()
            self._idle[made] = now  # type: ignore[index]  # aiohttp's handler has `force_close`
            return made

        return protocol

    def at_work(self, connection: Closable) -> None:
        """Mark a connection as busy: a visitor's whole request has arrived, and is being answered."""
        self._idle.pop(connection, None)
        self._busy.add(connection)

    def at_rest(self, connection: Closable) -> None:
        """Mark a connection as idle: the request is answered."""
        self._busy.discard(connection)
        self._idle.pop(connection, None)
        self._idle[connection] = time.monotonic()
