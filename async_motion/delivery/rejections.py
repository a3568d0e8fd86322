"""Whose fault a rejection is: the record's, or the store's.

A store that rejects one record for good (too large for it, a name that it does not take) goes on taking
others. One behind a proxy with a limit, or without room, rejects them all, and says the same. So a rejection
is the record's at first, and the store's from the third in a row for the same reason: then the records of the
row are delivered after all, when the store takes them.

Only a stored frame ends a row: a summary is tiny, and passes where frames do not. Where others were stored
after the store was blamed, the records were at fault; the next row must be longer, so that a camera whose
frames are too large does not stop the others again and again.
"""

from __future__ import annotations

from collections.abc import Callable

IN_A_ROW = 3
MAX_ROW = 48
FORGET_S = 3600.0
"""After so long without a rejection a short row is enough again."""


class Rejections:
    """The rejections of one store. `clock` counts seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._reason: str | None = None
        self._row: list[int] = []
        self._limit = IN_A_ROW
        self._last = clock()
        self.blames_store = False
        """True from the rejection that blames the store to the next frame that it takes."""

    def add(self, number: int, reason: str) -> list[int] | None:
        """Note a rejection. Return None when the record is at fault; else the others of its row."""
        now = self._clock()
        if now - self._last > FORGET_S and not self.blames_store:
            self._limit = IN_A_ROW
        self._last = now
        if reason != self._reason:
            self._reason, self._row, self.blames_store = reason, [], False
        others = [other for other in self._row if other != number]
        if not self.blames_store and len(others) + 1 < self._limit:
            self._row = [*others, number]
            return None
        self.blames_store = True
        self._row = []
        return others

    def stored(self) -> None:
        """Note that the store took a frame."""
        if self.blames_store:
            self._limit = min(MAX_ROW, 2 * self._limit)
        self._reason, self._row, self.blames_store = None, [], False
