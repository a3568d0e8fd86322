"""Keep the day logs: take samples of the state that is published, and add up what changed by the hour.

    {base}/state, {base}/{camera}/state ──every SAMPLE_S──▶ DayLogs ──▶ delivery: a file for each day

- An outage is logged once it has lasted for `MIN_OUTAGE_S`, so that a single broken connection is not one.
  One that lasts over midnight (UTC) is logged on both days.
- Seconds and durations are measured by the monotonic clock; the wall clock only names the hour.
- The logs of earlier runs are recalled from the spool, so that a restart continues the day's file. After a
  SIGKILL, what was counted since the last note is missing.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from datetime import time as time_of_day
from typing import Any, Final

from async_motion.core.day_log import (
    MAX_OUTAGES,
    HourLog,
    Outage,
    SubjectLog,
    encode_day_line,
    pack_day_log,
    parse_day_line,
    problem_line,
)
from async_motion.core.items import DueDayLog
from async_motion.core.model import CameraStatus, Reason
from async_motion.errors import UnreadableObject

log = logging.getLogger(__name__)

SAMPLE_S: Final = 5.0
MIN_OUTAGE_S: Final = 10.0
KEEP_DAYS: Final = 9
"""Days that could not be stored are kept for this long."""
SUPPRESSED: Final = (
    Reason.BELOW_AREA,
    Reason.ABOVE_AREA,
    Reason.MASKED,
    Reason.SCENE_CHANGE,
    Reason.DEBOUNCE,
)
"""The verdicts on frames in which something changed that was no motion."""

_MAX_STEP_S = 60.0
"""A longer time without a sample counts as this: the machine was suspended."""

State = Callable[[], Mapping[str, Any]]
"""Returns the payload of `{base}/state`, plus `cameras` with the payload of each camera's state."""


@dataclass(slots=True)
class _Day:
    subjects: dict[str | None, SubjectLog] = field(default_factory=dict)
    version: int = 1
    stored: int = 0


@dataclass(slots=True)
class _Open:
    """An outage that goes on. `place` is its index in the day's outages, None while it is not listed."""

    day: date
    began: datetime
    lasted_s: float
    problem: str
    logged: bool = False
    place: int | None = None


class DayLogs:
    """Samples the state and holds the logs of the days that are not yet stored.

    `recalled` is what `note` returned in an earlier run of the same spool.
    """

    def __init__(
        self,
        instance: str,
        *,
        recalled: bytes | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._instance = instance
        self._now = now
        self._monotonic = monotonic
        self._state: State | None = None
        self._days: dict[date, _Day] = {}
        self._writer: str | None = None
        self._at: float | None = None
        self._counts: dict[tuple[str | None, str], Counter[str]] = {}
        self._going: set[tuple[str, str]] = set()
        """The cameras and reasons of which the last sample had suppressed frames."""
        self._open: dict[tuple[str | None, str], _Open] = {}
        self._recall(recalled or b"")

    async def run(self, state: State) -> None:
        """Take samples of `state` until cancelled."""
        self.watch(state)
        while True:
            self.sample()
            await asyncio.sleep(SAMPLE_S)

    def watch(self, state: State) -> None:
        """Take samples of `state` from now on; before, `sample` does nothing."""
        self._state = state

    # ---- for delivery ----

    def follow(self, writer: str) -> None:
        """Begin again if another spool, with another `writer`, has replaced a damaged one.

        The earlier writer's file keeps what was counted until then.
        """
        if self._writer not in (None, writer):
            self._days.clear()
            self._open.clear()
        self._writer = writer

    def due(self) -> list[DueDayLog]:
        """Take a sample; return the files that have changed since they were stored, oldest first."""
        self.sample()
        return [
            DueDayLog(instance=self._instance, day=day, version=each.version, body=pack_day_log(_lines(each)))
            for day, each in sorted(self._days.items())
            if each.version > each.stored
        ]

    def mark_stored(self, due: DueDayLog) -> None:
        """Note that a file was stored; forget a day that is over."""
        day = self._days.get(due.day)
        if day is None:
            return
        day.stored = max(day.stored, due.version)
        if day.stored == day.version and due.day != self._now().astimezone(UTC).date():
            del self._days[due.day]

    def note(self) -> bytes:
        """Return all logs, to be recalled by the next run."""
        return b"".join(
            f"{day.isoformat()} ".encode() + line + b"\n"
            for day, each in sorted(self._days.items())
            for line in _lines(each)
        )

    # ---- samples ----

    def sample(self) -> None:
        """Add what has changed since the last sample to the current hour."""
        if self._state is None:
            return
        state, now, monotonic = self._state(), self._now().astimezone(UTC), self._monotonic()
        elapsed_s = 0.0 if self._at is None else min(max(0.0, monotonic - self._at), _MAX_STEP_S)
        self._at = monotonic
        day = self._day(now.date())
        self._service(day, state, now, elapsed_s)
        for camera, fields in state["cameras"].items():
            self._camera(day, camera, fields, now, elapsed_s)
        day.version += 1

    def _service(self, day: _Day, state: Mapping[str, Any], now: datetime, elapsed_s: float) -> None:
        subject, hour = _hour(day, None, now)
        hour.watched_s += elapsed_s
        hour.lost.update(self._new(None, "lost", state["spool"].get("dropped", {})))
        hour.lost.update(self._new(None, "refused", {"refused": state["set_aside"]}))
        for peer in ("store", "broker"):
            fields = state[peer]
            problem = None if fields["state"] == "ok" else fields["problem"] or fields["state"]
            self._outage(subject, (None, peer), problem, now, elapsed_s)
        self._outage(subject, (None, "spool"), state["spool"].get("problem"), now, elapsed_s)

    def _camera(
        self, day: _Day, camera: str, fields: Mapping[str, Any], now: datetime, elapsed_s: float
    ) -> None:
        subject, hour = _hour(day, camera, now)
        status, problem = fields["status"], fields["problem"]
        if status == CameraStatus.WATCHING:
            hour.watched_s += elapsed_s
        elif status == CameraStatus.PAUSED:
            hour.paused_s += elapsed_s
        hour.frames += self._new(camera, "frames", {"frames": fields["frames"]})["frames"]
        verdicts = self._new(camera, "verdicts", fields["verdicts"])
        for reason in SUPPRESSED:
            count, place = verdicts[reason.value], (camera, reason.value)
            if not count:
                self._going.discard(place)
                continue
            hour.suppressed[reason.value] += count
            if place not in self._going:
                self._going.add(place)
                hour.stretches[reason.value] += 1
        hour.scene_changes.update(self._new(camera, "scene_changes", fields["scene_changes"]))
        hour.lost.update(self._new(camera, "lost", fields["dropped"]))
        offline = status == CameraStatus.OFFLINE
        self._outage(subject, (camera, "offline"), problem if offline else None, now, elapsed_s)
        self._outage(subject, (camera, "image"), None if offline else problem, now, elapsed_s)

    def _new(self, subject: str | None, what: str, counts: Mapping[str, int]) -> Counter[str]:
        """Return by how much counters have grown since the last sample; they restart from 0 at times."""
        before = self._counts.get((subject, what), Counter())
        self._counts[subject, what] = Counter(counts)
        return +Counter({k: n - before[k] if n >= before[k] else n for k, n in counts.items()})

    def _outage(
        self,
        subject: SubjectLog,
        place: tuple[str | None, str],
        problem: str | None,
        now: datetime,
        elapsed_s: float,
    ) -> None:
        """Begin, extend or end the outage of one kind."""
        if problem is None:
            self._open.pop(place, None)
            return
        at, kind = self._open.get(place), place[1]
        if at is None:
            at = self._open[place] = _Open(now.date(), now, 0.0, problem_line(problem))
        elif at.day != now.date():
            midnight = datetime.combine(now.date(), time_of_day(), UTC)
            at = self._open[place] = _Open(now.date(), midnight, MIN_OUTAGE_S, at.problem)
        else:
            at.lasted_s += elapsed_s
        if at.lasted_s < MIN_OUTAGE_S:
            return
        if not at.logged:
            at.logged = True
            if sum(outage.kind == kind for outage in subject.outages) < MAX_OUTAGES:
                at.place = len(subject.outages)
                subject.outages.append(_outage_of(kind, at))
            else:
                subject.unlisted[kind] += 1
                subject.unlisted_s += at.lasted_s
        elif at.place is not None:
            subject.outages[at.place] = _outage_of(kind, at)
        else:
            subject.unlisted_s += elapsed_s

    def _day(self, today: date) -> _Day:
        if today not in self._days:
            self._days[today] = _Day()
            for old in sorted(self._days)[:-KEEP_DAYS]:
                del self._days[old]
        return self._days[today]

    def _recall(self, note: bytes) -> None:
        try:
            for line in note.splitlines():
                day, _, text = line.partition(b" ")
                camera, subject = parse_day_line(text)
                known = self._days.setdefault(date.fromisoformat(day.decode()), _Day())
                known.subjects[camera] = subject
        except (ValueError, UnreadableObject) as exc:
            log.warning("the day logs of the last run cannot be read: %s", exc)


def _hour(day: _Day, subject: str | None, now: datetime) -> tuple[SubjectLog, HourLog]:
    known = day.subjects.setdefault(subject, SubjectLog())
    return known, known.hours.setdefault(now.hour, HourLog())


def _outage_of(kind: str, at: _Open) -> Outage:
    return Outage(
        kind=kind, began=at.began, ended=at.began + timedelta(seconds=at.lasted_s), problem=at.problem
    )


def _lines(day: _Day) -> Iterator[bytes]:
    """Yield the lines of a day: the service's, then those of the cameras by name."""
    for subject in sorted(day.subjects, key=lambda subject: subject or ""):
        yield encode_day_line(subject, day.subjects[subject])
