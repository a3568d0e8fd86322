"""Topics that the broker has refused, and when each may be tried again. Pure: the time is passed in.

A refused topic is held back for a while, longer with each refusal. Otherwise each connect would publish the
forbidden topic again with everything retained, and a broker that closes the connection after a refusal
(mosquitto 2.0.11 does) would close every connection.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from async_motion.core.backoff import Backoff


@dataclass(slots=True)
class _Refusal:
    reason: str
    backoff: Backoff
    held_until: float
    """In the caller's monotonic seconds."""
    waiting: bool = False
    """Whether something was held back or refused, to be published from `held_until` on."""


class Refusals:
    """The refused topics of one client, in the order in which they were refused first."""

    def __init__(self, new_backoff: Callable[[], Backoff]) -> None:
        self._new_backoff = new_backoff
        self._topics: dict[str, _Refusal] = {}

    def refused(self, topic: str, reason: str, now: float, *, hold: bool = True) -> bool:
        """Record a refusal; return whether it is new. Without `hold` the topic may be tried at any time."""
        known = self._topics.get(topic)
        if known is None:
            known = self._topics[topic] = _Refusal(reason, self._new_backoff(), now)
            news = True
        else:
            news = known.reason != reason
            known.reason = reason
        if hold:
            known.waiting = True
            if now >= known.held_until:  # several at once count as one
                known.held_until = now + known.backoff.next_s()
        return news

    def held(self, topic: str, now: float) -> str | None:
        """Return why `topic` was refused while it is held back, else None. It will be `due` later."""
        known = self._topics.get(topic)
        if known is None or now >= known.held_until:
            return None
        known.waiting = True
        return known.reason

    def next_due(self) -> float | None:
        """Return when the next waiting topic is due, possibly in the past; None: no topic waits."""
        return min((known.held_until for known in self._topics.values() if known.waiting), default=None)

    def due(self, now: float) -> list[str]:
        """Return each waiting topic that may be tried again, once."""
        topics = [topic for topic, known in self._topics.items() if known.waiting and now >= known.held_until]
        for topic in topics:
            self._topics[topic].waiting = False
        return topics

    def taken(self, topic: str) -> None:
        """Forget the refusal of `topic`: the broker accepted a message, or it is no longer published."""
        self._topics.pop(topic, None)

    def clear(self) -> None:
        """Forget everything: it may be another broker now."""
        self._topics.clear()

    def __str__(self) -> str:
        """`topic: reason (and 2 more topics)`, or nothing."""
        for topic, known in self._topics.items():
            more = len(self._topics) - 1
            return f"{topic}: {known.reason}" + (f" (and {more} more topics)" if more else "")
        return ""
