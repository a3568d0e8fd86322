"""The circuit breaker of a peer: whether it may be called, shared by all callers.

    CLOSED ──a call fails──▶ OPEN ──waited──▶ HALF_OPEN ──the trial succeeds──▶ CLOSED
                              ▲                   │
                              └─the trial fails───┘

Closed, every call passes; open, none; half-open, one at a time: the trial. The trial is real work, not a
probe: a proxy or policy may accept a tiny object and refuse a frame. `probe` decides only when there is no
work.

So a failing peer gets one trial for each wait, regardless of the number of callers. The waits grow (backoff).
They are long from the start after a refusal, which a person must fix, and never shorter than the peer's
Retry-After. One success closes the breaker at once: a single broken connection is no outage.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum

from async_motion.core.backoff import Backoff
from async_motion.core.health import PeerHealth, PeerState
from async_motion.core.outage import OutageLog
from async_motion.errors import BrokerRefused, StoreRefused, TransientError

log = logging.getLogger(__name__)

MAX_RETRY_AFTER_S = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryPace:
    """The waits of delivery, in seconds.

    `first_s` and `max_s` bound the backoff for an unavailable peer, `refused_first_s` and `refused_max_s`
    for one that refuses us. `item_max_s` is the longest delay of an item that fails while others succeed
    (`max_s`, if the fault is its camera's connection to the broker).
    `aside_first_s` and `aside_max_s` bound the wait before records that were set aside are tried again.
    `poll_s` is how often delivery looks for work without a notification.
    """

    first_s: float = 0.25
    max_s: float = 5.0
    refused_first_s: float = 5.0
    refused_max_s: float = 30.0
    item_max_s: float = 300.0
    aside_first_s: float = 15.0
    aside_max_s: float = 6 * 3600.0
    poll_s: float = 0.5


class _BreakerState(Enum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


class CircuitBreaker:
    """The breaker of one peer.

    `probe` tests the peer, and raises TransientError. `has_work` returns whether there is work for a trial;
    if it is None, a probe precedes every trial. `draw` returns a random number in 0..1, `clock` monotonic
    seconds. `loud`: log outages at their own level, else at debug.
    """

    def __init__(
        self,
        name: str,
        probe: Callable[[], Awaitable[None]],
        *,
        pace: DeliveryPace,
        draw: Callable[[], float],
        clock: Callable[[], float],
        has_work: Callable[[], bool] | None = None,
        loud: bool = True,
    ) -> None:
        self._name = name
        self._probe = probe
        self._pace = pace
        self._has_work = has_work
        self._clock = clock
        self._loud = loud
        self._unavailable = Backoff(draw=draw, first_s=pace.first_s, max_s=pace.max_s)
        self._refused = Backoff(draw=draw, first_s=pace.refused_first_s, max_s=pace.refused_max_s)
        self.successes = 0
        self.trials = 0
        self._state = _BreakerState.CLOSED
        self._error: TransientError | None = None
        self._opened_at = 0.0
        self._outage = OutageLog(clock)
        self._logged = False
        """Whether this outage is logged; one broken connection is not."""
        self._left_closed = asyncio.Event()
        self._passable = asyncio.Event()
        self._passable.set()
        self._hurry = asyncio.Event()
        self._changed = asyncio.Event()

    @property
    def health(self) -> PeerHealth:
        """The health of the peer."""
        if self._error is None:
            return PeerHealth()
        state = PeerState.REFUSED if _is_refusal(self._error) else PeerState.UNAVAILABLE
        return PeerHealth(state=state, problem=str(self._error))

    @property
    def closed(self) -> bool:
        """True while every call may pass."""
        return self._state is _BreakerState.CLOSED

    @property
    def open(self) -> bool:
        """True while no call may pass."""
        return self._state is _BreakerState.OPEN

    @property
    def half_open(self) -> bool:
        """True while one call may pass at a time."""
        return self._state is _BreakerState.HALF_OPEN

    async def passable(self) -> None:
        """Wait until calls may pass: all of them, or one as a trial."""
        await self._passable.wait()

    def record_failure(self, error: TransientError) -> None:
        """Note that a call failed. Failures while the breaker is open are ignored."""
        if self._state is _BreakerState.OPEN:
            return
        if self._error is None:
            self._opened_at = self._clock()
        was_trial = self._state is _BreakerState.HALF_OPEN
        # Clear it here, not when the wait begins: a `hurry` in between must still end the wait.
        self._hurry.clear()
        self._trip(error)
        # The first failure may be one broken connection. It is an outage once a trial fails too.
        if was_trial or _is_refusal(error):
            self._log_refusal()

    def record_success(self) -> None:
        """Note that a call succeeded."""
        self.successes += 1
        if self._state is _BreakerState.CLOSED:
            return
        if self._state is _BreakerState.OPEN and self._error is not None and self._error.retry_after_s:
            return  # the peer sent a Retry-After; this call had begun before it
        self._close()

    def hurry(self) -> None:
        """End the current wait: the peer is probably back."""
        self._hurry.set()

    async def run(self) -> None:
        """Wait and allow trials while the breaker is not closed; runs until it is cancelled."""
        while True:
            await self._left_closed.wait()
            self._changed.clear()
            if self.open:
                await self._wait_open()
                if self.open:
                    await self._end_wait()
            else:
                await _wait(self._changed, self._pace.max_s)
                if self.half_open and self._is_idle():
                    await self._ask()

    def _is_idle(self) -> bool:
        """Return whether it is known that there is no work."""
        return self._has_work is not None and not self._has_work()

    async def _wait_open(self) -> None:
        error = self._error
        if error is None:
            return  # closed again in the meantime
        backoff = self._refused if _is_refusal(error) else self._unavailable
        delay_s = backoff.next_s(at_least_s=min(error.retry_after_s or 0.0, MAX_RETRY_AFTER_S))
        if self._logged and not _is_refusal(error):
            suffix = self._outage.failed(str(self.health))
            if suffix is not None:
                self._log(
                    logging.WARNING, "%s: %s; next try in %.1f s%s", self._name, self.health, delay_s, suffix
                )
        await _wait(self._hurry, delay_s)
        self._hurry.clear()

    async def _end_wait(self) -> None:
        if self._has_work is not None and self._has_work():
            self._half_open()
        else:
            await self._ask()

    async def _ask(self) -> None:
        """Probe the peer. On success, go half-open or, if there is no work, close; on failure, open."""
        try:
            await self._probe()
        except TransientError as exc:
            if self._state is not _BreakerState.CLOSED:
                self._trip(exc)
                self._log_refusal()
            return
        if self._state is _BreakerState.CLOSED:
            return
        if self._is_idle():
            self._close()
        elif self.open:
            self._half_open()

    def _half_open(self) -> None:
        self.trials += 1
        self._state = _BreakerState.HALF_OPEN
        self._passable.set()
        self._changed.set()

    def _trip(self, error: TransientError) -> None:
        self._state, self._error = _BreakerState.OPEN, error
        self._passable.clear()
        self._left_closed.set()
        self._changed.set()

    def _close(self) -> None:
        if self._logged:
            log.info("%s: works again after %.0f s", self._name, self._clock() - self._opened_at)
        self._state, self._error, self._logged = _BreakerState.CLOSED, None, False
        self._outage.over()
        self._unavailable.reset()
        self._refused.reset()
        self._left_closed.clear()
        self._passable.set()
        self._changed.set()
        self._hurry.set()

    def _log_refusal(self) -> None:
        """Log a refusal if a line is due; an outage is logged with its wait."""
        self._logged = True
        if self._error is not None and _is_refusal(self._error):
            suffix = self._outage.failed(str(self.health))
            if suffix is not None:
                message = "%s: %s. Delivery pauses and tries again by itself%s"
                self._log(logging.ERROR, message, self._name, self.health, suffix)

    def _log(self, level: int, message: str, *args: object) -> None:
        log.log(level if self._loud else logging.DEBUG, message, *args)


async def _wait(event: asyncio.Event, timeout_s: float) -> None:
    """Wait for an event, at most `timeout_s`."""
    try:
        async with asyncio.timeout(timeout_s):
            await event.wait()
    except TimeoutError:
        pass


def _is_refusal(error: TransientError) -> bool:
    return isinstance(error, (StoreRefused, BrokerRefused))
