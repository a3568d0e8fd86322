"""Decide whether a rejection is the record's fault or the store's.

A store that rejects one record permanently (too large, or an invalid name) still accepts others. A store
behind a proxy with a size limit, or a full one, rejects all of them with the same error. So a rejection
counts as the record's fault at first, and as the store's from the third in a row with the same reason; then
the records of that row are delivered once the store accepts them.

Only a stored frame ends a row: a summary is tiny, and may pass where frames do not. While the store is
blamed, each trial takes different records (rejected ones are suspects, and wait), several in succession: so a
camera whose frames are too large does not stop the others for long. If the store then accepts others, the
records were at fault, and the next row must be twice as long before the store is blamed.
"""

from __future__ import annotations

from collections.abc import Callable

IN_A_ROW = 3
MAX_ROW = 48
TRIED_AT_ONCE = 8
"""How many records one trial may try in succession before the breaker opens."""
SUSPECT_S = 3600.0
"""How long a suspect waits, unless a trial finds no other record, or the store accepts a frame."""
FORGET_S = 3600.0
"""After this time without a rejection, a row of `IN_A_ROW` is enough again."""


class Rejections:
    """The rejections of one store. `clock` returns monotonic seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.reason: str | None = None
        """Why the records of the current row were rejected."""
        self._row: list[int] = []
        self._limit = IN_A_ROW
        self._last = clock()
        self._tried = 0
        self.suspects: list[int] = []
        """The numbers of the records rejected while the store is blamed."""
        self.blames_store = False
        """True from the rejection that blames the store until it accepts a frame."""

    def add(self, number: int, reason: str) -> list[int] | None:
        """Note a rejection. Return None if the record is at fault, else the other records of its row."""
        now = self._clock()
        if now - self._last > FORGET_S and not self.blames_store:
            self._limit = IN_A_ROW
        self._last = now
        if reason != self.reason:
            self.reason, self._row, self.blames_store = reason, [], False
            self._tried = 0
        others = [other for other in self._row if other != number]
        if not self.blames_store and len(others) + 1 < self._limit:
            self._row = [*others, number]
            return None
        self.blames_store = True
        self._row = []
        self.suspects.append(number)
        return others

    def trial_goes_on(self) -> bool:
        """Note a rejection in a trial. Return whether the trial may try another record at once."""
        self._tried = (self._tried + 1) % TRIED_AT_ONCE
        return self._tried != 0

    def stored(self) -> list[int]:
        """Note that the store accepted a frame. Return the suspects, to be tried again one by one."""
        if self.blames_store:
            self._limit = min(MAX_ROW, 2 * self._limit)
        self.reason, self._row, self.blames_store, self._tried = None, [], False, 0
        return self.clear_suspects()

    def clear_suspects(self) -> list[int]:
        """Return the suspects, and clear the list."""
        suspects, self.suspects = self.suspects, []
        return suspects
