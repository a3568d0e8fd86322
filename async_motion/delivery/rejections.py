"""Whose fault a rejection is: the record's, or the store's.

A store that rejects one record for good (too large for it, a name that it does not take) goes on taking
others. One behind a proxy with a limit, or without room, rejects them all, and says the same. So a rejection
is the record's at first, and the store's from the third in a row for the same reason: then the records of the
row are delivered after all, when the store takes them.

Only a stored frame ends a row: a summary is tiny, and passes where frames do not. While the store is blamed,
each trial takes other records than the last (those rejected are suspects, and wait), and a few at once: one
camera whose frames are too large does not stop the others for long. Where others are stored after all, the
records were at fault, and the next row must be longer.
"""

from __future__ import annotations

from collections.abc import Callable

IN_A_ROW = 3
MAX_ROW = 48
TRIED_AT_ONCE = 8
"""How many records one trial may try before the store gets its pause."""
SUSPECT_S = 3600.0
"""How long a suspect waits, unless a trial finds no other record, or the store takes a frame."""
FORGET_S = 3600.0
"""After this time without a rejection a short row is enough again."""


class Rejections:
    """The rejections of one store. `clock` counts seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.reason: str | None = None
        """Why the records of the present row were rejected."""
        self._row: list[int] = []
        self._limit = IN_A_ROW
        self._last = clock()
        self._tried = 0
        self.suspects: list[int] = []
        """What was rejected while the store is blamed."""
        self.blames_store = False
        """True from the rejection that blames the store to the next frame that it takes."""

    def add(self, number: int, reason: str) -> list[int] | None:
        """Note a rejection. Return None when the record is at fault; else the others of its row."""
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
        """Note a rejection in a trial. Return whether it may try another record at once."""
        self._tried = (self._tried + 1) % TRIED_AT_ONCE
        return self._tried != 0

    def stored(self) -> list[int]:
        """Note that the store took a frame. Return the suspects: they are judged each by itself now."""
        if self.blames_store:
            self._limit = min(MAX_ROW, 2 * self._limit)
        self.reason, self._row, self.blames_store, self._tried = None, [], False, 0
        return self.clear_suspects()

    def clear_suspects(self) -> list[int]:
        """Return the suspects, and suspect them no longer."""
        suspects, self.suspects = self.suspects, []
        return suspects
