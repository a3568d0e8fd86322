"""The filters that `events`, `get`, `delete` and `report` share."""

from __future__ import annotations

import argparse
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from async_motion.errors import UsageError

if TYPE_CHECKING:
    from async_motion.retrieval import Event, EventReader


def add_filters(parser: argparse.ArgumentParser) -> None:
    """Add the options that select events."""
    chosen = parser.add_argument_group("which events", "Times are local; a day is a local day.")
    chosen.add_argument("--camera", action="append", metavar="NAME", help="of this camera; may be repeated")
    chosen.add_argument("--instance", metavar="NAME", help="of this instance (default: the settings')")
    chosen.add_argument(
        "--since", metavar="TIME", help="that began since: 2h, yesterday, 2026-11-22, 2026-11-22T07:30"
    )
    chosen.add_argument("--on", metavar="DAY", help="on one day: today, yesterday, monday, 2026-11-22")
    chosen.add_argument("--from", dest="start", metavar="TIME", help="that began at or after this time")
    chosen.add_argument("--to", metavar="TIME", help="that began before this time; a day is included")
    chosen.add_argument(
        "--zone", action="append", metavar="NAME", help="that touched this zone; may be repeated"
    )
    chosen.add_argument("--min-score", metavar="SHARE", help="whose highest score is at least: 2%% or 0.02")
    chosen.add_argument("--min-duration", metavar="TIME", help="that lasted for at least: 5s")


@dataclass(frozen=True, slots=True, kw_only=True)
class EventChoice:
    """The events that a command selects: `since` <= start < `until` (UTC); scores 0..1.

    `cameras` None means all cameras; empty `zones` means any zone.
    """

    cameras: tuple[str, ...] | None
    since: datetime | None
    until: datetime | None
    zones: tuple[str, ...]
    min_score: float
    min_duration_s: float

    @property
    def narrows(self) -> bool:
        """Whether any filter is set."""
        return self != EventChoice(
            cameras=None, since=None, until=None, zones=(), min_score=0.0, min_duration_s=0.0
        )

    def takes(self, event: Event) -> bool:
        """Return whether an event matches all filters but the camera's."""
        from async_motion.retrieval import Filter

        wanted = Filter(
            since=self.since,
            until=self.until,
            zones=self.zones,
            min_score=self.min_score,
            min_duration_s=self.min_duration_s,
        )
        return wanted.takes(event)

    def events(self, reader: EventReader, *, reverse: bool = False) -> AsyncIterator[Event]:
        """Yield the selected events from the bucket."""
        return reader.events(
            self.cameras,
            since=self.since,
            until=self.until,
            zone=self.zones or None,
            min_score=self.min_score,
            min_duration=self.min_duration_s,
            reverse=reverse,
        )


def chosen(args: argparse.Namespace, now: datetime | None = None) -> EventChoice:
    """Parse the options that `add_filters` added. Raises UsageError with one line for each wrong option."""
    problems = [*_wrong_names(args)]
    since, until = _range(args, now or datetime.now(UTC), problems)
    min_score, min_duration_s = _bounds(args, problems)
    if problems:
        raise UsageError(*problems)
    return EventChoice(
        cameras=tuple(args.camera) if args.camera else None,
        since=since,
        until=until,
        zones=tuple(args.zone or ()),
        min_score=min_score,
        min_duration_s=min_duration_s,
    )


def _wrong_names(args: argparse.Namespace) -> Iterator[str]:
    from async_motion.core.names import is_name

    instances = () if args.instance is None else (args.instance,)
    for option, names in (("camera", args.camera), ("zone", args.zone), ("instance", instances)):
        for name in names or ():
            if not is_name(name):
                yield f"--{option}: {name}: expected a name (a-z 0-9 _ -)"


def _range(
    args: argparse.Namespace, now: datetime, problems: list[str]
) -> tuple[datetime | None, datetime | None]:
    """Return the beginning and the end of the chosen time; None: open. Appends to `problems`."""
    from async_motion.cli.when import moment, whole_day

    since = until = None
    # An empty text is no absent option: `delete --to "$UNSET"` must not select all events.
    if args.on is not None and not (args.since is args.start is args.to is None):
        problems.append("--on: expected alone, without --since, --from and --to")
    if args.since is not None and args.start is not None:
        problems.append("--since, --from: expected one of them")
    try:
        if args.on is not None:
            since, until = whole_day(args.on, now, "--on")
        for option, text in (("--from", args.start), ("--since", args.since)):
            if text is not None:
                since = moment(text, now, option)
        if args.to is not None:
            until = moment(args.to, now, "--to", end=True)
    except UsageError as exc:
        problems += exc.problems
    if since and until and since >= until:
        problems.append("--to: it is not after the beginning of the range")
    return since, until


def _bounds(args: argparse.Namespace, problems: list[str]) -> tuple[float, float]:
    """Return the smallest score and duration (seconds) of an event. Appends to `problems`."""
    from async_motion.settings.quantities import duration_of, share_of

    score = 0.0 if args.min_score is None else share_of(args.min_score)
    if score is None or not 0 <= score <= 1:
        problems.append(f"--min-score: {args.min_score}: expected a share such as 2% or 0.02")
    duration_s = 0.0 if args.min_duration is None else duration_of(args.min_duration)
    if duration_s is None:
        problems.append(f"--min-duration: {args.min_duration}: expected a duration such as 5s")
    return score or 0.0, duration_s or 0.0
