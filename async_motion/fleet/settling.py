"""When a worker may take cameras: not before it has heard of the other workers.

After its start a worker has no reports, and during an outage those that it had expire. Alone in its view it
would take every camera, and the others would get them back one by one, minutes later. So it first waits

- after its start for `SETTLE_S`;
- after an outage for a new report of each worker that it knew before, for at most `RETURN_S`.

Both times count from when its watch has reported every key: an answer to its own report brings no other's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from typing import Final

from async_motion.fleet.bucket_view import PROBE_S, RETRY_S, BucketView

SETTLE_S: Final = 2.0
RETURN_S: Final = PROBE_S + RETRY_S
"""Within this time of the outage's end each worker that lives has noticed it."""


class Settling:
    """Whether a worker knows the others. Call `look` at each evaluation of its view."""

    def __init__(self, view: BucketView, *, ttl_s: float, clock: Callable[[], float]) -> None:
        self._view = view
        self._ttl_s = ttl_s
        self._clock = clock
        self._known: Collection[str] | None = None
        """The workers at the last look that succeeded; None: there was none yet."""
        self._settled = False
        self._lost_at = 0.0
        """When the bucket stopped answering, after this worker had settled."""
        self._back_at: float | None = None
        """When the bucket began to answer; None: it does not."""
        self._complete_at: float | None = None
        """When the watch had reported every key since then; None: it has not."""

    def look(self) -> bool:
        """Return whether the worker may take cameras now."""
        now = self._clock()
        if not self._view.connected:
            if self._settled:
                self._settled, self._lost_at = False, now
            self._back_at = self._complete_at = None
            return False
        if self._back_at is None:
            self._back_at = now
        if self._complete_at is None and self._view.complete:
            self._complete_at = now
        self._settled = self._settled or self._is_over(self._back_at, now)
        if self._settled:
            self._known = tuple(self._view.reports())
        return self._settled

    def _is_over(self, back_at: float, now: float) -> bool:
        listened_s = now - self._complete_at if self._complete_at is not None else -math.inf
        if self._known is None:
            return listened_s >= SETTLE_S
        if back_at - self._lost_at < self._ttl_s / 2 or listened_s >= RETURN_S:
            return True  # the outage was so short that no report has expired, or some workers are gone
        return all(self._view.heard_since(name, back_at) for name in self._known)
