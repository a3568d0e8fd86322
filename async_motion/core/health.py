"""The health of delivery's two peers, the store and the broker, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class PeerState(StrEnum):
    """Whether a peer is usable."""

    OK = "ok"
    UNAVAILABLE = "unavailable"
    """It cannot be reached, or fails: this may end by itself."""
    REFUSED = "refused"
    """It answers, and refuses our requests: an operator must act."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerHealth:
    """The health of one peer. `problem` is one line for an operator, None while the peer is usable."""

    state: PeerState = PeerState.OK
    problem: str | None = None

    @property
    def ok(self) -> bool:
        """Whether the state is OK."""
        return self.state is PeerState.OK

    def __str__(self) -> str:
        """Return the state, with its problem, for a log line."""
        return f"{self.state}: {self.problem}" if self.problem else str(self.state)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryHealth:
    """Both peers, and counters since the start. Its fields are those of `{base}/state`.

    `stored` and `announced` count frames, `repeats` those among them that were attempted before, `retries`
    failed attempts, `set_aside` records that the store refused. `index_problem` is why the event index
    cannot be written now, None while it can. `upload_s` has the median (`p50`) and the 99th percentile
    (`p99`) of the last uploads, in seconds, None before the first.
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
