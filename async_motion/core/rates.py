"""How often something from outside has an effect, or leaves a line in the log. Times are passed in."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

MAX_KEYS: Final = 1000
"""Keys that are remembered at once; the one unused longest is forgotten first."""


class TokenBucket:
    """Lets `burst` through at once, and one more for every `every_s` that pass."""

    def __init__(self, burst: int, every_s: float) -> None:
        self._burst = burst
        self._every_s = every_s
        self._tokens = float(burst)
        self._at: float | None = None

    def take(self, now: float) -> bool:
        """Return whether one may pass at `now` (monotonic seconds), and count it."""
        if self._at is not None:
            self._tokens = min(self._burst, self._tokens + max(0.0, now - self._at) / self._every_s)
        self._at = now
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True


class TokenBuckets:
    """A bucket for each key."""

    def __init__(self, burst: int, every_s: float) -> None:
        self._burst = burst
        self._every_s = every_s
        self._buckets: OrderedDict[object, TokenBucket] = OrderedDict()

    def take(self, key: object, now: float) -> bool:
        """Return whether one of `key` may pass at `now`, and count it."""
        bucket = self._buckets.pop(key, None) or TokenBucket(self._burst, self._every_s)
        self._buckets[key] = bucket
        if len(self._buckets) > MAX_KEYS:
            self._buckets.popitem(last=False)
        return bucket.take(now)


class LogThrottle:
    """Bounds the lines about one thing: the first few are told, then one now and again with their number."""

    def __init__(self, burst: int = 5, every_s: float = 60.0) -> None:
        self._buckets = TokenBuckets(burst, every_s)
        self._left_out: OrderedDict[object, int] = OrderedDict()

    def admit(self, key: object, now: float) -> str | None:
        """Return None for a line to leave out, else what to append to it: the number left out before."""
        if not self._buckets.take(key, now):
            self._left_out[key] = self._left_out.get(key, 0) + 1
            if len(self._left_out) > MAX_KEYS:
                self._left_out.popitem(last=False)
            return None
        count = self._left_out.pop(key, 0)
        return f" ({count} more like it)" if count else ""
