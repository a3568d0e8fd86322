"""Bound the connections: slow clients, or a thousand of them, must not exhaust the service's descriptors.

- A request's head must arrive within `HEAD_S`; an idle connection is closed after the same time.
- At most `max_connections` are open. One more closes the connection that has been idle, or without a whole
  request, for longest. If all are busy it is refused.
- A reserve of descriptors stays free for the cameras, the spool and the store: see `connection_bound`.
"""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Callable
from typing import Final, Protocol

HEAD_S: Final = 15.0
"""Seconds for a request's head, and for a connection without a request."""
BODY_S: Final = 15.0
"""Seconds for a request's body."""
MAX_CONNECTIONS: Final = 256
MIN_CONNECTIONS: Final = 8
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
        if isinstance(transport, asyncio.Transport):
            transport.abort()


class Connections:
    """The open connections: busy ones, and idle ones in the order of last use; see the module."""

    def __init__(self, max_connections: int) -> None:
        self._max = max_connections
        self._idle: dict[Closable, None] = {}
        self._busy: set[Closable] = set()

    def factory(
        self, make: Callable[[], asyncio.Protocol], open_now: Callable[[], list[Closable]]
    ) -> Callable[[], asyncio.Protocol]:
        """Return a protocol factory that enforces the bound. `open_now` returns the open connections."""

        def protocol() -> asyncio.Protocol:
            alive = set(open_now())
            self._busy &= alive
            self._idle = {one: None for one in self._idle if one in alive}
            if len(self._busy) >= self._max:
                return Refused()
            if len(alive) >= self._max and self._idle:
                oldest = next(iter(self._idle))
                del self._idle[oldest]
                oldest.force_close()
            made = make()
            self._idle[made] = None  # type: ignore[index]  # aiohttp's handler has `force_close`
            return made

        return protocol

    def at_work(self, connection: Closable) -> None:
        """Mark a connection as busy: a whole request has arrived."""
        self._idle.pop(connection, None)
        self._busy.add(connection)

    def at_rest(self, connection: Closable) -> None:
        """Mark a connection as idle: the request is answered."""
        self._busy.discard(connection)
        self._idle.pop(connection, None)
        self._idle[connection] = None
