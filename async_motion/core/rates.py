"""Rate limits for the effects and log lines of outside input. Pure: times are passed in."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

MAX_KEYS: Final = 1000
"""The maximum number of keys; the least recently used one is forgotten first."""


class TokenBucket:
    """Admits `burst` requests at once, and one more every `every_s` seconds."""

    def __init__(self, burst: int, every_s: float) -> None:
        self._burst = burst
        self._every_s = every_s
        self._tokens = float(burst)
        self._at: float | None = None

    def take(self, now: float) -> bool:
        """Return whether a request is admitted at `now` (monotonic seconds), and count it if so."""
        if self._at is not None:
            self._tokens = min(self._burst, self._tokens + max(0.0, now - self._at) / self._every_s)
        self._at = now
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True


class TokenBuckets:
    """A token bucket for each key."""

    def __init__(self, burst: int, every_s: float) -> None:
        self._burst = burst
        self._every_s = every_s
        self._buckets: OrderedDict[object, TokenBucket] = OrderedDict()

    def take(self, key: object, now: float) -> bool:
        """Return whether a request of `key` is admitted at `now` (monotonic seconds), and count it if so."""
        bucket = self._buckets.pop(key, None) or TokenBucket(self._burst, self._every_s)
        self._buckets[key] = bucket
        if len(self._buckets) > MAX_KEYS:
            self._buckets.popitem(last=False)
        return bucket.take(now)


class LogThrottle:
    """Limits the log lines about each key: the first `burst`, then one every `every_s` with a count."""

    def __init__(self, burst: int = 5, every_s: float = 60.0) -> None:
        self._buckets = TokenBuckets(burst, every_s)
        self._left_out: OrderedDict[object, int] = OrderedDict()

    def admit(self, key: object, now: float) -> str | None:
        """Return None to leave the line out, else the suffix for it: how many were left out before, or ""."""
        if not self._buckets.take(key, now):
            self._left_out[key] = self._left_out.get(key, 0) + 1
            if len(self._left_out) > MAX_KEYS:
                self._left_out.popitem(last=False)
            return None
        count = self._left_out.pop(key, 0)
        return f" ({count} more like it)" if count else ""
