"""What the broker should retain, and which changes are not published yet. Pure: no loop, no network.

While connected, every change is published, in order: a subscriber that counts sees each ON and OFF. While
disconnected, only the newest payload of each topic is kept. After each connect everything is published again,
in the order in which the topics were first set: a broker without persistence has lost it.

Memory is bounded by the number of topics: when changes pile up on a stalled connection, they are reduced to
the newest of each topic.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from async_motion.errors import BrokerUnavailable

MAX_CHANGES: Final = 10_000
"""Pending changes on one connection, beyond which only the newest of each topic is kept."""

Outcome = Callable[[BrokerUnavailable | None], None]
"""Called once with the outcome of a change: None when the broker has acknowledged it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetainedChange:
    """A payload to retain; an empty one clears the topic. `outcome` is set when a caller waits."""

    topic: str
    payload: bytes
    outcome: Outcome | None = None


class Retained:
    """The retained topics of one client."""

    def __init__(self, max_changes: int = MAX_CHANGES) -> None:
        self._max_changes = max_changes
        self._values: dict[str, bytes] = {}
        self._cleared: dict[str, None] = {}
        self._changes: deque[RetainedChange] = deque()
        self._connected = False

    def __len__(self) -> int:
        return len(self._values)

    @property
    def pending(self) -> int:
        """The number of changes not sent yet."""
        return len(self._changes)

    def set(self, topic: str, payload: bytes, outcome: Outcome | None = None) -> None:
        """Remember `payload` for `topic` (empty: clear it), and publish it while connected."""
        if payload:
            self._values[topic] = payload
            self._cleared.pop(topic, None)
        else:
            self._values.pop(topic, None)
            self._cleared[topic] = None
        if self._connected:
            self._changes.append(RetainedChange(topic=topic, payload=payload, outcome=outcome))
            if len(self._changes) > self._max_changes:
                self._thin_out()

    def repeat(self, topic: str) -> None:
        """Publish the value of `topic` again, if it has one."""
        if topic in self._cleared:
            self.set(topic, b"")
        elif topic in self._values:
            self.set(topic, self._values[topic])

    def drop(self, topic: str, payload: bytes) -> None:
        """Forget `payload`, which the broker will never accept, without publishing."""
        if self._values.get(topic) == payload:
            del self._values[topic]

    def release(self, topic: str) -> None:
        """Forget the value of `topic` without publishing: another client has changed it."""
        self._values.pop(topic, None)
        self._cleared.pop(topic, None)

    def came_back(self) -> None:
        """Start a connection: queue everything again, cleared topics first."""
        self._connected = True
        self._changes.clear()
        self._changes.extend(RetainedChange(topic=topic, payload=b"") for topic in self._cleared)
        self._changes.extend(
            RetainedChange(topic=topic, payload=payload) for topic, payload in self._values.items()
        )

    def went_away(self) -> list[RetainedChange]:
        """End a connection; return the changes that were not sent, so that their callers can be told."""
        self._connected = False
        left = list(self._changes)
        self._changes.clear()
        return left

    def next(self) -> RetainedChange | None:
        """Take the next change to send."""
        return self._changes.popleft() if self._changes else None

    def acknowledged(self, change: RetainedChange) -> None:
        """Record that the broker has a change: a cleared topic need not be cleared again."""
        if not change.payload:
            self._cleared.pop(change.topic, None)

    def _thin_out(self) -> None:
        newest = {change.topic: change for change in self._changes}
        self._changes = deque(
            change for change in self._changes if change.outcome or newest[change.topic] is change
        )
