"""How delivery's two peers are, the store and the broker, as a value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class PeerState(StrEnum):
    """Whether a peer serves us."""

    OK = "ok"
    UNAVAILABLE = "unavailable"
    """It cannot be reached, or is in trouble: this may pass by itself."""
    REFUSED = "refused"
    """It answers, and refuses us: a person must act."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerHealth:
    """The health of one peer. `problem` is one line for an operator, None while the peer is well."""

    state: PeerState = PeerState.OK
    problem: str | None = None

    @property
    def ok(self) -> bool:
        """True while nothing is wrong."""
        return self.state is PeerState.OK

    def __str__(self) -> str:
        """Return the state, with its problem, for a line of the log."""
        return f"{self.state}: {self.problem}" if self.problem else str(self.state)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryHealth:
    """Both peers, and counters since the start. Its fields are those of `{base}/state`.

    `stored` and `announced` count frames; `repeats` those that had been tried before; `retries` failed
    tries; `set_aside` records that the store refused. `index_problem` is why the event index cannot be
    written now, None while it can. `upload_s` has the median (`p50`) and the worst percent (`p99`) of the
    last uploads, in seconds, None before the first.
    """

    store: PeerHealth = PeerHealth()
    broker: PeerHealth = PeerHealth()
    stored: int = 0
    announced: int = 0
    repeats: int = 0
    set_aside: int = 0
    retries: int = 0
    stored_bytes: int = 0
    index_problem: str | None = None
    upload_s: Mapping[str, float | None] = field(default_factory=lambda: {"p50": None, "p99": None})
