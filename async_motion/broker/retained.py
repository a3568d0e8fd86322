"""What the broker should retain, and what of it has still to be said. Pure: no loop, no network.

While connected every change goes out, in order, none left out: a subscriber that counts sees ON and OFF.
While away only the newest payload of each topic is kept, and after the next connect everything is said again,
in the order in which the topics came up: a broker without a disk has forgotten it.

Memory is bounded by the number of topics: should the changes pile up on a connection that does not move, they
are thinned out to the newest of each topic.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from async_motion.errors import BrokerUnavailable

MAX_CHANGES: Final = 10_000
"""Changes waiting on one connection before they are thinned out."""

Outcome = Callable[[BrokerUnavailable | None], None]
"""Told once how a change went: None when the broker has acknowledged it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetainedChange:
    """A payload to be retained; an empty one clears the topic. `outcome`: a caller waits for it."""

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
        """Changes that wait to be sent."""
        return len(self._changes)

    def set(self, topic: str, payload: bytes, outcome: Outcome | None = None) -> None:
        """Remember `payload` for `topic` (empty: clear it), and say so while connected."""
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
        """Say once more what `topic` should be, if it is ours."""
        if topic in self._cleared:
            self.set(topic, b"")
        elif topic in self._values:
            self.set(topic, self._values[topic])

    def drop(self, topic: str, payload: bytes) -> None:
        """Forget `payload`, which the broker will never take, without saying anything."""
        if self._values.get(topic) == payload:
            del self._values[topic]

    def release(self, topic: str) -> None:
        """Forget what `topic` should be, and publish nothing: another client has changed it."""
        self._values.pop(topic, None)
        self._cleared.pop(topic, None)

    def came_back(self) -> None:
        """Start a connection: everything is to be said again, what was cleared first."""
        self._connected = True
        self._changes.clear()
        self._changes.extend(RetainedChange(topic=topic, payload=b"") for topic in self._cleared)
        self._changes.extend(
            RetainedChange(topic=topic, payload=payload) for topic, payload in self._values.items()
        )

    def went_away(self) -> list[RetainedChange]:
        """End a connection; return the changes that were not sent, for those who wait for them."""
        self._connected = False
        left = list(self._changes)
        self._changes.clear()
        return left

    def next(self) -> RetainedChange | None:
        """Take the next change to send."""
        return self._changes.popleft() if self._changes else None

    def acknowledged(self, change: RetainedChange) -> None:
        """Note that the broker has it: a topic that is cleared need not be cleared again."""
        if not change.payload:
            self._cleared.pop(change.topic, None)

    def _thin_out(self) -> None:
        newest = {change.topic: change for change in self._changes}
        self._changes = deque(
            change for change in self._changes if change.outcome or newest[change.topic] is change
        )
