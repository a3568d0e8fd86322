"""Delays between attempts: exponential backoff, capped, with jitter; the randomness is passed in.

The method is "equal jitter". Half of the delay is fixed, so that a broken peer is never hammered. Half is
random, so that many hosts that lost the same peer do not reconnect in the same instant.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(slots=True, kw_only=True)
class Backoff:
    """Counts failures, and returns how long to wait.

    `draw` returns a float in [0, 1). `first_s` and `max_s` bound the delay before jitter.
    """

    draw: Callable[[], float]
    first_s: float = 1.0
    max_s: float = 60.0
    factor: float = 2.0
    failures: int = field(default=0, init=False)

    def next_s(self, *, at_least_s: float | None = None) -> float:
        """Count one more failure and return the seconds to wait; never below `at_least_s`."""
        # Bound the exponent: after months of failures the power would overflow a float.
        delay = min(self.max_s, self.first_s * self.factor ** min(self.failures, 64))
        self.failures += 1
        jittered = delay / 2 + delay / 2 * self.draw()
        return max(jittered, at_least_s or 0.0)

    def reset(self) -> None:
        """Forget the failures, as the peer has answered."""
        self.failures = 0
