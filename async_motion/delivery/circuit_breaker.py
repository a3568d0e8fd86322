"""The gate before a peer: one place that knows whether it may be asked, shared by all who would ask it.

    OPEN ──somebody failed──▶ SHUT ──waited, probed──▶ TRIAL (one at a time) ──it went well──▶ OPEN
                               ▲  └──────the probe failed──┘ │
                               └──────── it failed ──────────┘

A peer in trouble thus sees one probe for each wait, however many workers there are. The waits grow (backoff),
are long from the beginning after a refusal, which a person has to mend, and never shorter than the peer asked
for. One success among failures opens the gate at once: a single broken connection is no outage.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum

from async_motion.core.backoff import Backoff
from async_motion.core.health import PeerHealth, PeerState
from async_motion.errors import BrokerRefused, StoreRefused, TransientError

log = logging.getLogger(__name__)

MAX_RETRY_AFTER_S = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How delivery waits, in seconds: bounds of the backoff before a peer that is away, and before one that
    refuses us; the longest delay of a piece that fails by itself; how often it looks without being called.
    """

    first_s: float = 0.25
    max_s: float = 5.0
    refused_first_s: float = 5.0
    refused_most_s: float = 30.0
    piece_most_s: float = 300.0
    poll_s: float = 0.5


class _State(Enum):
    OPEN = "open"
    TRIAL = "trial"
    SHUT = "shut"


class CircuitBreaker:
    """One peer's gate. `probe` asks it whether it is well again; `loud`: its outages are ours to log."""

    def __init__(
        self,
        name: str,
        probe: Callable[[], Awaitable[None]],
        *,
        pace: Pace,
        draw: Callable[[], float],
        clock: Callable[[], float],
        loud: bool = True,
    ) -> None:
        self._name = name
        self._probe = probe
        self._clock = clock
        self._loud = loud
        self._unavailable = Backoff(draw=draw, first_s=pace.first_s, max_s=pace.max_s)
        self._refused = Backoff(draw=draw, first_s=pace.refused_first_s, max_s=pace.refused_most_s)
        self.successes = 0
        self.trials = 0
        self._state = _State.OPEN
        self._error: TransientError | None = None
        self._shut_at = 0.0
        self._said: PeerHealth | None = None
        self._shut = asyncio.Event()
        self._passable = asyncio.Event()
        self._passable.set()
        self._hurry = asyncio.Event()

    @property
    def health(self) -> PeerHealth:
        """How the peer is."""
        if self._error is None:
            return PeerHealth()
        state = PeerState.REFUSED if _is_refusal(self._error) else PeerState.UNAVAILABLE
        return PeerHealth(state=state, problem=str(self._error))

    @property
    def shut(self) -> bool:
        """True while nobody may ask."""
        return self._state is _State.SHUT

    @property
    def on_trial(self) -> bool:
        """True while only one may ask at a time."""
        return self._state is _State.TRIAL

    async def passable(self) -> None:
        """Wait until the peer may be asked."""
        await self._passable.wait()

    def failed(self, error: TransientError) -> None:
        """Note that the peer failed somebody. Those who failed while the gate was shut tell nothing new."""
        if self._state is _State.SHUT:
            return
        if self._error is None:
            self._shut_at = self._clock()
        was_trial = self._state is _State.TRIAL
        # Here, not when the wait begins: who comes back in between is not waited for.
        self._hurry.clear()
        self._close(error)
        # The first failure may be one broken connection. It is an outage when a probe or a trial fails too.
        if was_trial or _is_refusal(error):
            self._say()

    def succeeded(self) -> None:
        """Note that the peer served somebody."""
        self.successes += 1
        if self._state is _State.OPEN:
            return
        if self._state is _State.SHUT and self._error is not None and self._error.retry_after_s:
            return  # it wishes to be left alone for a while, also if it served one who was before the others
        if self._said is not None:
            log.info("%s: works again after %.0f s", self._name, self._clock() - self._shut_at)
        self._state, self._error, self._said = _State.OPEN, None, None
        self._unavailable.reset()
        self._refused.reset()
        self._shut.clear()
        self._passable.set()
        self._hurry.set()

    def hurry(self) -> None:
        """End the present wait: there is reason to think that the peer is back."""
        self._hurry.set()

    async def run(self) -> None:
        """Wait and probe whenever the gate is shut; for ever."""
        while True:
            await self._shut.wait()
            error = self._error
            if error is None:
                continue  # it was opened again before we got here
            backoff = self._refused if _is_refusal(error) else self._unavailable
            delay_s = backoff.next_s(at_least_s=min(error.retry_after_s or 0.0, MAX_RETRY_AFTER_S))
            if self._said is not None and not _is_refusal(error):
                self._log(logging.WARNING, "%s: %s; next try in %.1f s", self._name, self.health, delay_s)
            try:
                async with asyncio.timeout(delay_s):
                    await self._hurry.wait()
            except TimeoutError:
                pass
            self._hurry.clear()
            if not self.shut:
                continue
            try:
                await self._probe()
            except TransientError as exc:
                if self.shut:
                    self._close(exc)
                    self._say()
                continue
            if self.shut:
                self.trials += 1
                self._state = _State.TRIAL
                self._shut.clear()
                self._passable.set()

    def _close(self, error: TransientError) -> None:
        self._state, self._error = _State.SHUT, error
        self._passable.clear()
        self._shut.set()

    def _say(self) -> None:
        """Log a refusal once for each change; an outage is logged with each wait."""
        if self._said == self.health:
            return
        self._said = self.health
        if self._error is not None and _is_refusal(self._error):
            self._log(
                logging.ERROR, "%s: %s. Delivery pauses and tries again by itself", self._name, self._said
            )

    def _log(self, level: int, message: str, *args: object) -> None:
        log.log(level if self._loud else logging.DEBUG, message, *args)


def _is_refusal(error: TransientError) -> bool:
    return isinstance(error, (StoreRefused, BrokerRefused))
