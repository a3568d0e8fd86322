"""The largest packet that a broker takes, learned from the connections that it cuts. Pure: no loop, no clock.

A broker with MQTT 5 announces its limit, or refuses with a reason. With MQTT 3.1.1 it can only cut the
connection, without a word: sent again at the next connect, one large message would cost one connection after
the other. So sizes are observed:

- A size that was acknowledged is proved, and all below it. What was in flight at a cut, and is larger, is
  suspect.
- From the smallest suspect on, messages go one at a time (`needs_trial`): then a cut points at one message.
- After `CUTS` cuts in a row that point at one message each, without a larger one acknowledged in between, the
  limit is just below the smallest of them.
- A cut with nothing suspect in flight tells nothing; `CUTS` of them in a row mean that what was proved no
  longer holds: the broker may be another one.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

CUTS: Final = 3
MIN_LIMIT: Final = 256
"""No broker cuts at packets as small as this: a cut over one has another reason."""


class PacketLimit:
    """What is known of one broker. Sizes are those of whole PUBLISH packets, in bytes."""

    def __init__(self) -> None:
        self.limit: int | None = None
        """The largest packet that the broker takes; None while nothing speaks for one."""
        self._proved = 0
        self._doubtful: int | None = None
        self._strikes: list[int] = []
        self._idle_cuts = 0
        self._crowded = False

    def acknowledged(self, size: int) -> None:
        """Note that the broker has taken a packet of `size`."""
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
        """Note that the peer ended a connection, with packets of these sizes in flight.

        Return whether that taught a limit.
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
        """Return whether a packet of `size` must be the only doubtful one in flight."""
        return self._doubtful is not None and size >= self._doubtful

    @property
    def suspects(self) -> int | None:
        """The smallest packet that the last cuts may have been about; None: they were not about packets."""
        return self._doubtful if self._strikes or self._crowded else None

    def doubt(self) -> None:
        """Try the limit once more: the broker was away and may have come back with another one."""
        if self.limit is not None:
            self._strikes = [self.limit + 1] * (CUTS - 1)
            self.limit = None

    def clear(self) -> None:
        """Forget everything: it may be another broker now."""
        self.limit = self._doubtful = None
        self._proved = self._idle_cuts = 0
        self._strikes.clear()
