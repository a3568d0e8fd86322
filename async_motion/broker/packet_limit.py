"""The largest packet that a broker accepts, learned from lost connections. Pure: no loop, no clock.

With MQTT 5 a broker announces its limit, or refuses with a reason. With MQTT 3.1.1 it can only close the
connection, without a reason. Sent again after each connect, one large message would end every connection. So
sizes are observed:

- A size that was acknowledged is proved, as are all below it. Larger packets in flight at a close are
  suspect.
- From the smallest suspect size on, messages go one at a time (`needs_trial`): a close then has one suspect.
- After `CUTS` closes in a row with one suspect each, and no larger packet acknowledged in between, the limit
  is just below the smallest suspect.
- A close without a suspect in flight proves nothing. `CUTS` of them in a row invalidate what was proved: the
  broker may be another one.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

CUTS: Final = 3
MIN_LIMIT: Final = 256
"""No broker refuses packets this small: a close with one in flight has another reason."""


class PacketLimit:
    """The observations of one broker. Sizes are of whole PUBLISH packets, in bytes."""

    def __init__(self) -> None:
        self.limit: int | None = None
        """The largest packet that the broker accepts; None: no limit observed."""
        self._proved = 0
        self._doubtful: int | None = None
        self._strikes: list[int] = []
        self._idle_cuts = 0
        self._crowded = False

    def acknowledged(self, size: int) -> None:
        """Record that the broker has acknowledged a packet of `size`."""
        self._idle_cuts = 0
        if size <= self._proved:
            return
        self._proved = size
        self._strikes = [strike for strike in self._strikes if strike > size]
        if self.limit is not None and size > self.limit:
            self.limit = None
        if self._doubtful is not None and size >= self._doubtful:
            self._doubtful = size + 1
        self._crowded = False

    def cut(self, in_flight: Iterable[int]) -> bool:
        """Record that the peer closed a connection with packets of these sizes in flight.

        Return whether a limit follows.
        """
        suspects = [size for size in in_flight if size > max(self._proved, MIN_LIMIT)]
        if not suspects:
            self._idle_cuts += 1
            if self._idle_cuts >= CUTS:
                self.clear()
            return False
        self._idle_cuts = 0
        smallest = min(suspects)
        self._doubtful = smallest if self._doubtful is None else min(self._doubtful, smallest)
        self._crowded = len(suspects) > 1
        if self._crowded:
            return False
        self._strikes.append(smallest)
        if len(self._strikes) < CUTS:
            return False
        self.limit = min(self._strikes) - 1
        return True

    def needs_trial(self, size: int) -> bool:
        """Return whether a packet of `size` must be the only suspect in flight."""
        return self._doubtful is not None and size >= self._doubtful

    @property
    def suspects(self) -> int | None:
        """The smallest packet that may have caused the last closes; None: no packet did."""
        return self._doubtful if self._strikes or self._crowded else None

    def doubt(self) -> None:
        """Test the limit once more: the broker was away and may have come back with another one."""
        if self.limit is not None:
            self._strikes = [self.limit + 1] * (CUTS - 1)
            self.limit = None

    def clear(self) -> None:
        """Forget everything: it may be another broker now."""
        self.limit = self._doubtful = None
        self._proved = self._idle_cuts = 0
        self._strikes.clear()
