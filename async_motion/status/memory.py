"""Small values that the reporter remembers across restarts: set at once, written in the background.

The newest value of a key wins. A failed write is retried, and once more at the end.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any

from async_motion.core import payloads, strict_json
from async_motion.errors import SpoolError

log = logging.getLogger(__name__)

RETRY_S = 10.0
LAST_SAVE_S = 3.0
"""Time limit for the remaining writes at the end."""

Remember = Callable[[str, bytes], Awaitable[None]]
"""Stores a small value under a key, so that it survives the process. Raises SpoolError."""


class RememberedValues:
    """Values of earlier runs and of this one. `recalled` holds what earlier runs passed to `remember`.

    `kept` is called with the key of each value that this run remembers.
    """

    def __init__(
        self,
        remember: Remember,
        recalled: Mapping[str, bytes] | None = None,
        kept: Callable[[str], None] = lambda _key: None,
    ) -> None:
        self._remember = remember
        self._values = dict(recalled or {})
        self._kept = kept
        self._unsaved: dict[str, bytes] = {}
        self._to_save = asyncio.Event()

    def recall(self, key: str) -> dict[str, Any]:
        """Return the object remembered under a key; empty if there is none, or it cannot be read."""
        try:
            return strict_json.parse_object(self._values.get(key) or b"{}")
        except ValueError:
            return {}

    def keep(self, key: str, value: Mapping[str, Any]) -> None:
        """Remember `value`; `recall` returns it at once."""
        self._values[key] = self._unsaved[key] = payloads.encode(value)
        self._to_save.set()
        self._kept(key)

    def replace(self, keys: Collection[str], values: Mapping[str, Any]) -> None:
        """Replace the values of `keys` by what another worker remembers, without a write."""
        for key in keys:
            value = values.get(key)
            self._values.pop(key, None)
            if isinstance(value, dict):
                self._values[key] = payloads.encode(value)

    async def run(self) -> None:
        """Write the values until cancelled; retry every `RETRY_S` while the spool fails."""
        failing = False
        while True:
            await self._to_save.wait()
            self._to_save.clear()
            try:
                await self._save_all()
            except SpoolError as exc:
                if not failing:
                    log.warning("cannot save changes by command, retrying: %s", exc)
                failing = True
                self._to_save.set()
                await asyncio.sleep(RETRY_S)
            else:
                failing = False

    async def flush(self) -> None:
        """Write the remaining values at the end, within `LAST_SAVE_S`."""
        try:
            async with asyncio.timeout(LAST_SAVE_S):
                await self._save_all()
        except (SpoolError, TimeoutError) as exc:
            why = str(exc) or "the spool did not answer"
            log.warning("the last changes by command may not survive the restart: %s", why)

    async def _save_all(self) -> None:
        while self._unsaved:
            key, value = next(iter(self._unsaved.items()))
            await self._remember(key, value)
            if self._unsaved.get(key) is value:
                del self._unsaved[key]
