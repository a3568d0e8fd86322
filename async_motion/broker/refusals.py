"""Topics that the broker has refused, and when each may be tried again. Pure: the time is passed in.

A refused topic is held back for a while, longer with each refusal. Without that, everything retained would be
published again after each connect, the forbidden topic with it, and brokers that drop the connection after a
refusal (mosquitto 2.0.11 does) would drop us for ever.
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
    """Something was held back, or refused, that is to be said when `held_until` has come."""


class Refusals:
    """The refused topics of one client, in the order in which they were refused first."""

    def __init__(self, new_backoff: Callable[[], Backoff]) -> None:
        self._new_backoff = new_backoff
        self._topics: dict[str, _Refusal] = {}

    def refused(self, topic: str, reason: str, now: float, *, hold: bool = True) -> bool:
        """Note a refusal; return whether it is new. Without `hold` the topic may be tried at any time."""
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
        """Return why `topic` was refused, while it must not be tried again; then it will be `due`."""
        known = self._topics.get(topic)
        if known is None or now >= known.held_until:
            return None
        known.waiting = True
        return known.reason

    def next_due(self) -> float | None:
        """Return the time at which the next topic is due, when one waits; it may have passed."""
        return min((known.held_until for known in self._topics.values() if known.waiting), default=None)

    def due(self, now: float) -> list[str]:
        """Return, once, the topics that wait and may be tried again."""
        topics = [topic for topic, known in self._topics.items() if known.waiting and now >= known.held_until]
        for topic in topics:
            self._topics[topic].waiting = False
        return topics

    def taken(self, topic: str) -> None:
        """Note that the broker has taken something on `topic`, or that it is no longer to be published."""
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
