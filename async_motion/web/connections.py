"""Connections, bounded: a client that is slow, or asks for a thousand, must not cost the service its handles.

- A request's head must arrive within `HEAD_S`; an idle connection is closed after the same time.
- At most `max_connections` are open. One more closes the one that has been idle or half-sent for longest;
  where all are at work it is refused.
- A reserve of handles stays free for the cameras, the spool and the store: see `connection_bound`.
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
"""Handles that are not ours: cameras, the spool, the store, the broker."""


def connection_bound(handles: int | None = None) -> int:
    """Return how many connections may be open, of a process that may have `handles` (default: its limit)."""
    if handles is None:
        handles = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if handles == resource.RLIM_INFINITY:
        return MAX_CONNECTIONS
    return max(MIN_CONNECTIONS, min(MAX_CONNECTIONS, handles - RESERVE))


class Closable(Protocol):
    """A connection that can be closed."""

    def force_close(self) -> None: ...


class Refused(asyncio.Protocol):
    """A connection that is closed before it is read."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if isinstance(transport, asyncio.Transport):
            transport.abort()


class Connections:
    """The open connections in the order in which they last did something; see the module."""

    def __init__(self, max_connections: int) -> None:
        self._max = max_connections
        self._idle: dict[Closable, None] = {}
        self._busy: set[Closable] = set()

    def factory(
        self, make: Callable[[], asyncio.Protocol], open_now: Callable[[], list[Closable]]
    ) -> Callable[[], asyncio.Protocol]:
        """Return a protocol factory that keeps to the bound. `open_now` gives the open connections."""

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
