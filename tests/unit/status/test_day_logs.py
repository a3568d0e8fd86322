"""The day logs: what samples of the state add up to, over midnight, restarts and outages."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, date, datetime, timedelta
from typing import Any

from async_motion.core.day_log import MAX_OUTAGES, SubjectLog, parse_day_line
from async_motion.core.index import unpack
from async_motion.core.items import DueDayLog
from async_motion.status.day_logs import DayLogs
from tests.support.clock import BEGIN, Clock


class Service:
    """A state to change by hand, and the logs that sample it every five seconds."""

    def __init__(self, clock: Clock | None = None, recalled: bytes | None = None) -> None:
        self.clock = clock or Clock(seconds=0.0)
        self.camera: dict[str, Any] = {
            "status": "watching",
            "problem": None,
            "frames": 0,
            "verdicts": {},
            "scene_changes": {},
            "dropped": {},
        }
        self.spool: dict[str, Any] = {"dropped": {}, "problem": None}
        self.store: dict[str, Any] = {"state": "ok", "problem": None}
        self.set_aside = 0
        self.logs = DayLogs("edge1", recalled=recalled, now=self.clock.now, monotonic=self.clock)
        self.logs.watch(self.state)
        self.logs.sample()

    def state(self) -> dict[str, Any]:
        return {
            "spool": self.spool,
            "set_aside": self.set_aside,
            "store": self.store,
            "broker": {"state": "ok", "problem": None},
            "cameras": {"porch": {**self.camera}},
        }

    def runs(self, seconds: float) -> None:
        for _ in range(round(seconds / 5)):
            self.clock.sleep(5.0)
            self.camera["frames"] += 25
            self.logs.sample()


def subjects(due: DueDayLog) -> dict[str | None, SubjectLog]:
    return dict(parse_day_line(line) for line in unpack(due.body))


def only(service: Service) -> dict[str | None, SubjectLog]:
    (due,) = service.logs.due()
    return subjects(due)


def test_time_and_frames_are_counted_by_the_hour() -> None:
    service = Service()
    service.runs(3600)  # from 07:31:12
    service.camera["status"] = "paused"
    service.runs(60)
    found = only(service)
    hours = found["porch"].hours
    assert set(hours) == {7, 8}
    assert hours[7].watched_s + hours[8].watched_s == 3600
    assert abs(hours[7].watched_s - 1727) <= 5
    assert (hours[7].paused_s, hours[8].paused_s) == (0, 60)
    assert hours[7].frames + hours[8].frames == 3660 * 5
    assert sum(hour.watched_s for hour in found[None].hours.values()) == 3660


def test_suppressed_frames_are_counted_and_their_stretches() -> None:
    service = Service()
    verdicts = service.camera["verdicts"]
    for count in (3, 4, 0, 0, 2):
        verdicts["masked"] = verdicts.get("masked", 0) + count
        verdicts["still"] = verdicts.get("still", 0) + 20
        service.runs(5)
    hour = only(service)["porch"].hours[7]
    assert hour.suppressed == Counter(masked=9), "still is nothing that was suppressed"
    assert hour.stretches == Counter(masked=2)


def test_losses_and_scene_changes_are_differences_also_when_a_counter_restarts() -> None:
    service = Service()
    service.camera["dropped"] = {"too_slow": 7, "corrupt": 2}
    service.spool["dropped"] = {"full": 4}
    service.set_aside = 1
    service.camera["scene_changes"] = {"light": 1}
    service.runs(5)
    service.camera["dropped"] = {"corrupt": 3}  # the camera has restarted
    service.runs(5)
    found = only(service)
    assert found["porch"].hours[7].lost == Counter(too_slow=7, corrupt=3)
    assert found["porch"].hours[7].scene_changes == Counter(light=1)
    assert found[None].hours[7].lost == Counter(full=4, refused=1)


def test_an_outage_is_logged_once_it_lasts_and_ends_when_it_ends() -> None:
    service = Service()
    service.camera |= {"status": "offline", "problem": "no route"}
    service.runs(10)
    assert only(service)["porch"].outages == [], "it may be a single broken connection"
    service.runs(290)
    service.camera |= {"status": "watching", "problem": None}
    service.runs(60)
    service.store = {"state": "refused", "problem": "Access Denied."}
    service.runs(30)
    found = only(service)
    (outage,) = found["porch"].outages
    assert (outage.kind, outage.problem) == ("offline", "no route")
    assert outage.began == BEGIN + timedelta(seconds=5)
    assert outage.ended - outage.began == timedelta(seconds=295)
    assert [(each.kind, each.problem) for each in found[None].outages] == [("store", "Access Denied.")]
    assert sum(hour.watched_s for hour in found["porch"].hours.values()) == 90


def test_what_is_wrong_with_the_image_is_no_time_offline() -> None:
    service = Service()
    service.camera["problem"] = "the picture is dark"
    service.runs(30)
    found = only(service)["porch"]
    assert [outage.kind for outage in found.outages] == ["image"]
    assert found.hours[7].watched_s == 30


def test_more_outages_than_are_listed_are_counted() -> None:
    service = Service()
    for _ in range(MAX_OUTAGES + 3):
        service.camera |= {"status": "offline", "problem": "no route"}
        service.runs(20)
        service.camera |= {"status": "watching", "problem": None}
        service.runs(5)
    found = only(service)["porch"]
    assert len(found.outages) == MAX_OUTAGES
    assert found.unlisted == Counter(offline=3)
    assert found.unlisted_s == 45.0


def test_an_outage_over_midnight_stands_on_both_days() -> None:
    service = Service()
    service.clock.turn_to(datetime(2026, 11, 22, 23, 58, tzinfo=UTC))
    service.camera |= {"status": "offline", "problem": "no route"}
    service.runs(300)
    first, second = service.logs.due()
    assert (first.day, second.day) == (date(2026, 11, 22), date(2026, 11, 23))
    (before,), (after,) = (subjects(each)["porch"].outages for each in (first, second))
    midnight = datetime(2026, 11, 23, tzinfo=UTC)
    assert timedelta() <= midnight - before.ended <= timedelta(seconds=5)
    assert after.began == midnight
    assert abs((after.ended - midnight).total_seconds() - 180) <= 10
    # A day that is over is forgotten once it is stored, today is not.
    service.logs.mark_stored(first)
    service.logs.mark_stored(second)
    assert [due.day for due in service.logs.due()] == [date(2026, 11, 23)]


def test_a_restart_continues_the_day() -> None:
    service = Service()
    service.camera["dropped"] = {"too_slow": 7}
    service.runs(60)
    after = Service(service.clock, recalled=service.logs.note())
    after.runs(60)
    hour = only(after)["porch"].hours[7]
    assert (hour.watched_s, hour.lost) == (120.0, Counter(too_slow=7))


def test_a_damaged_note_is_ignored() -> None:
    service = Service(recalled=b"2026-11-22 {}\nxyz\n")
    service.runs(5)
    assert only(service)["porch"].hours[7].watched_s == 5.0


def test_another_spool_begins_another_file() -> None:
    service = Service()
    service.logs.follow("a41c07")
    service.runs(60)
    service.logs.follow("a41c07")
    assert only(service)["porch"].hours[7].watched_s == 60
    service.logs.follow("bbbbbb")
    service.runs(10)
    assert only(service)["porch"].hours[7].watched_s == 10


def test_a_suspended_machine_has_not_watched() -> None:
    service = Service()
    service.clock.sleep(7200.0)
    service.logs.sample()
    assert only(service)["porch"].hours[9].watched_s == 60.0
