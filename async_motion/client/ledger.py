"""Track which events a subscriber has received, and which come next. Pure: no loop, no clock, no file.

The events of one camera and one writer form a lane. They are numbered from 1 without a gap, so a lane knows
which are missing. It yields events in order of their numbers, each once:

    1 2 3 | . 5 6        yielded up to 3; 5 and 6 wait for 4
    1 2 3 . 5 6 |        4 has not arrived for `patience_s`: it is skipped, and 5 and 6 are yielded
    1 2 3 . 5 6 | 4      if 4 arrives later, it is yielded then

Skipped numbers are remembered for `MAX_HOLE_AGE_S`, at most `MAX_HOLES` in a lane. Events without numbers (of
`scan` and of earlier releases) have a lane of their own, ordered by id.

An event that says it began before the subscription is early: it is passed over, and waits for no other. Once
a lane has yielded an event, no later number is early: the service's clock was set back.

A ledger's `state` is plain data; a ledger created from it continues where the first one ended.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from async_motion.core.payloads import iso, parse_iso
from async_motion.retrieval import Event

MAX_HOLES = 1000
MAX_WAITING = 2000
"""How many events of a lane may wait for a missing one; with more, it is skipped at once."""
MAX_HOLE_AGE_S = 8 * 86400.0
"""How long skipped numbers are remembered: a spool keeps an event for at most a week by default."""

QUICK_S = 5.0
"""The least wait for a missing event: after an outage, events may arrive slightly out of order."""

_MAX_TIME = 2.5e11  # the year 9892, in Unix time
_OLD = ""  # the writer of the lane of events without numbers


@dataclass(slots=True)
class _Lane:
    """One writer of one camera. Times are Unix time in seconds, except `blocked_at`, which is monotonic.

    `at` is the start of the newest event that was yielded, and of the subscription before the first one.
    """

    upto: int
    at: float
    last_id: str = ""
    holes: dict[int, float] = field(default_factory=dict)
    waiting: dict[int, Event] = field(default_factory=dict)
    old: list[Event] = field(default_factory=list)
    blocked_at: float | None = None

    def wants(self, event: Event) -> bool:
        if event.no is None:
            known = any(other.event_id == event.event_id for other in self.old)
            return event.event_id > self.last_id and not known
        return (event.no > self.upto or event.no in self.holes) and event.no not in self.waiting


class Ledger:
    """All lanes of a subscription. Events may be added in any order, and repeatedly."""

    def __init__(self, origin: datetime) -> None:
        """Start empty; `origin` (aware) is the start of the subscription."""
        self.origin = origin
        self._lanes: dict[tuple[str, str], _Lane] = {}
        self._newest = 0.0

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> Ledger:
        """Return the ledger of a `state`. Raises ValueError if it is invalid."""
        try:
            if state["v"] != 1:
                raise ValueError("v: expected 1")
            ledger = cls(parse_iso(state["origin"]))
            for camera, writers in state["cameras"].items():
                for writer, fields in writers.items():
                    ledger._lanes[str(camera), str(writer)] = _Lane(
                        upto=int(fields["upto"]),
                        at=parse_iso(fields["at"]).timestamp(),
                        last_id=str(fields.get("last", "")),
                        holes={int(no): float(at) for no, at in fields.get("holes", {}).items()},
                    )
            if not all(0 <= at < _MAX_TIME for lane in ledger._lanes.values() for at in lane.holes.values()):
                raise ValueError("holes: expected times")
        except (KeyError, TypeError, AttributeError, OverflowError) as exc:
            raise ValueError(f"not a cursor: {type(exc).__name__}: {str(exc)[:100]}") from exc
        return ledger

    def state(self) -> dict[str, Any]:
        """Return the state to store: small, and serialisable as JSON."""
        cameras: dict[str, dict[str, Any]] = {}
        for (camera, writer), lane in sorted(self._lanes.items()):
            fields: dict[str, Any] = {"upto": lane.upto, "at": iso(datetime.fromtimestamp(lane.at, UTC))}
            if lane.last_id:
                fields["last"] = lane.last_id
            if lane.holes:
                fields["holes"] = {str(no): round(at, 6) for no, at in lane.holes.items()}
            cameras.setdefault(camera, {})[writer] = fields
        return {"v": 1, "origin": iso(self.origin), "cameras": cameras}

    def knows(self, event: Event) -> bool:
        """Return whether the event's lane is open."""
        return self._key(event) in self._lanes

    def open(self, event: Event, upto: int) -> None:
        """Open the lane of `event`; events with numbers up to `upto` began before the subscription."""
        self._lanes.setdefault(self._key(event), _Lane(upto=upto, at=self.origin.timestamp()))

    def wants(self, event: Event) -> bool:
        """Return whether the event is new: of an open lane, not yielded and not waiting."""
        lane = self._lanes.get(self._key(event))
        return lane is not None and lane.wants(event)

    def add(self, event: Event) -> bool:
        """Add an event of an open lane; return whether it is new."""
        lane = self._lanes[self._key(event)]
        if not lane.wants(event):
            return False
        self._newest = max(self._newest, event.started_at.timestamp())
        if event.no is None:
            if event.started_at >= self.origin:
                lane.old.append(event)
        else:
            lane.waiting[event.no] = event
        return True

    def ready(self, *, monotonic: float, patience_s: float, searched: bool) -> Iterator[Event]:
        """Yield the events that are due, in order for each camera.

        `searched`: the bucket was read since an event began to wait. Only then is a missing event skipped:
        after `patience_s`, or after `QUICK_S` if the event that waits for it is more than `patience_s` older
        than the newest event. `monotonic` is in seconds.
        """
        for key in sorted(self._lanes, key=lambda key: self._begins(self._lanes[key])):
            lane = self._lanes[key]
            yield from _old(lane)
            while lane.waiting:
                no = min(lane.waiting)
                early = self._is_early(lane, lane.waiting[no])
                if no > lane.upto + 1:
                    if lane.blocked_at is None:
                        lane.blocked_at = monotonic
                    missing_s = monotonic - lane.blocked_at
                    is_old = self._newest - lane.waiting[no].started_at.timestamp() > patience_s
                    hopeless = searched and missing_s >= (min(QUICK_S, patience_s) if is_old else patience_s)
                    if not (early or hopeless) and len(lane.waiting) <= MAX_WAITING:
                        break
                    for missing in range(max(lane.upto + 1, no - MAX_HOLES), no):
                        lane.holes[missing] = lane.at
                lane.blocked_at = None
                event = _taken(lane, no, early=early)
                if not early:
                    yield event

    def is_blocked(self) -> bool:
        """Return whether events wait for a missing one."""
        return any(lane.waiting and min(lane.waiting) > lane.upto + 1 for lane in self._lanes.values())

    def is_next(self, event: Event) -> bool:
        """Return whether the event is the next of its lane to be yielded."""
        lane = self._lanes.get(self._key(event))
        return lane is not None and event.no == lane.upto + 1 and not self._is_early(lane, event)

    def since(self, camera: str) -> datetime:
        """Return the time (aware) from which the bucket may hold new events of a camera.

        Forgets holes that are too old.
        """
        lanes = [lane for (name, _), lane in self._lanes.items() if name == camera]
        if not lanes:
            return self.origin
        newest = max(lane.at for lane in lanes)
        for lane in lanes:
            kept = sorted(no for no, at in lane.holes.items() if at >= newest - MAX_HOLE_AGE_S)[-MAX_HOLES:]
            lane.holes = {no: lane.holes[no] for no in kept}
        return datetime.fromtimestamp(
            min([newest, *(at for lane in lanes for at in lane.holes.values())]), UTC
        )

    def _is_early(self, lane: _Lane, event: Event) -> bool:
        """Return whether an event began before the subscription, and its lane has yielded none before it."""
        at = lane.at if event.no is None else lane.holes.get(event.no, lane.at)
        return event.started_at < self.origin and at == self.origin.timestamp()

    @staticmethod
    def _begins(lane: _Lane) -> str:
        events = [*lane.old, *lane.waiting.values()]
        return min((event.event_id for event in events), default="")

    @staticmethod
    def _key(event: Event) -> tuple[str, str]:
        return event.camera, (event.writer or _OLD) if event.no is not None else _OLD


def _old(lane: _Lane) -> Iterator[Event]:
    for event in sorted(lane.old, key=lambda event: event.event_id):
        lane.old.remove(event)
        lane.last_id = max(lane.last_id, event.event_id)
        lane.at = event.started_at.timestamp()
        yield event


def _taken(lane: _Lane, no: int, *, early: bool) -> Event:
    event = lane.waiting.pop(no)
    lane.holes.pop(no, None)
    if no > lane.upto:
        lane.upto = no
        if not early:
            lane.at = event.started_at.timestamp()
    return event
