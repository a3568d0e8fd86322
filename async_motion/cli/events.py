"""`async-motion events`: list the events in the bucket, as a table, JSON Lines or CSV.

It needs the bucket alone. Each line is printed as soon as its event is read. Times in the table are local,
with their offset; in JSON and CSV they are UTC.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING

from async_motion.cli.choosing import EventChoice, add_filters, chosen
from async_motion.cli.tell import tell
from async_motion.core.words import counted
from async_motion.errors import StoreRefused, StoreUnavailable, UsageError

if TYPE_CHECKING:
    from async_motion.app.buckets import AnyReader
    from async_motion.retrieval import Event, EventReader
    from async_motion.settings import Settings

    Parsers = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001  # it has no other name

_FIND_S = 5.0
BARS = "▁▂▃▄▅▆▇█"
COLUMNS = (
    *("instance", "camera", "no", "writer", "event_id", "started_at", "ended_at", "duration_s"),
    *("reason", "peak_score", "zones", "frames", "bytes", "best", "scores", "folder", "best_frame"),
    "ongoing",
)


def add_parser(commands: Parsers, config: argparse.ArgumentParser) -> None:
    """Add the command to the command line."""
    parser = commands.add_parser(
        "events", parents=[config], help="what is in the bucket: list, filter; as a table, JSON Lines, CSV"
    )
    add_filters(parser)
    shape = parser.add_mutually_exclusive_group()
    shape.add_argument("--json", action="store_true", help="print a line of JSON for each event")
    shape.add_argument("--csv", action="store_true", help="print CSV with a header")
    parser.add_argument("--reverse", action="store_true", help="the newest first")
    parser.add_argument("--limit", type=int, metavar="N", help="end after N events")
    doing = parser.add_mutually_exclusive_group()
    doing.add_argument(
        "--watch",
        action="store_true",
        help="then print events as they end (without --since: from now on)",
    )
    doing.add_argument(
        "--rebuild", action="store_true", help="rebuild the index of these days from the bucket"
    )
    parser.set_defaults(command=main)


def main(args: argparse.Namespace) -> int:
    """Run the command; return its exit code."""
    from async_motion.cli.loop import run_output
    from async_motion.settings import load

    choice = chosen(args)
    if args.limit is not None and args.limit < 1:
        raise UsageError(f"--limit: {args.limit}: expected a number, 1 or more")
    if args.rebuild and (choice.zones or choice.min_score or choice.min_duration_s):
        raise UsageError("--rebuild: expected only --camera, --instance and times: it writes whole days")
    if args.watch and (args.reverse or choice.until is not None):
        raise UsageError("--watch: expected without --reverse, --on and --to")
    settings = load(args.config, os.environ)
    return run_output(events(settings, choice, args))


async def events(settings: Settings, choice: EventChoice, args: argparse.Namespace) -> int:
    """Print the selected events, or rebuild their index; return the exit code."""
    from async_motion.app import buckets

    async with buckets.build_bucket(settings) as bucket:
        reader = buckets.build_events(settings, bucket, args.instance)
        if args.rebuild:
            return await _rebuild(reader, choice)
        if args.watch:
            return await _watch(settings, bucket, reader, choice, args)
        show = printer(_shape(args), reader)
        count = 0
        async for event in choice.events(reader, reverse=args.reverse):
            show(event)
            count += 1
            if count == args.limit:
                break
        if not count:
            tell("no events")
        tell_skipped(reader)
    return 0


def printer(shape: str, reader: EventReader) -> Callable[[Event], None]:
    """Return a function that prints one event. `shape`: json, csv or table, which begins with a heading."""
    if shape == "json":
        return lambda event: print(json.dumps(payload(event, reader), ensure_ascii=False), flush=True)
    if shape == "csv":
        return _csv(reader)
    return _table()


def payload(event: Event, reader: EventReader) -> dict[str, object]:
    """Return an event's fields for JSON and CSV, with its folder and the object key of its best frame."""
    from async_motion.core.names import frame_key

    folder = reader.folder(event)
    best = None if event.best is None else frame_key(folder, event.best)
    return {**event.payload(), "folder": folder, "best_frame": best}


def tell_skipped(reader: EventReader) -> None:
    """Report the objects that could not be read on standard error: the count and the latest three."""
    skipped = reader.skipped
    if skipped.count:
        more = ", such as" if skipped.count > 3 else ":"
        tell(f"{counted(skipped.count, 'object')} could not be read{more}")
        for key, why in list(skipped.latest)[-3:]:
            tell(f"  {key}: {why}")


def sparkline(scores: tuple[float, ...]) -> str:
    """Return one bar for each score, the highest as a full bar."""
    top = max(scores, default=0.0)
    if top <= 0:
        return BARS[0] * len(scores)
    return "".join(BARS[min(7, int(score / top * 7.999))] for score in scores)


def row(event: Event) -> str:
    """Return an event as a line of the table."""
    from async_motion.cli.when import local

    lasted = event.open_word if event.duration_s is None else f"{event.duration_s:.1f} s"
    zones = f"  [{', '.join(event.zones)}]" if event.zones else ""
    return (
        f"{local(event.started_at):<24}  {event.camera:<14}  {lasted:>9}  {event.frames:>6}"
        f"  {event.peak_score:>6.1%}  {sparkline(event.scores):<16}  {event.event_id}{zones}"
    )


def _table() -> Callable[[Event], None]:
    heading = (
        f"{'began':<24}  {'camera':<14}  {'lasted':>9}  {'frames':>6}  {'peak':>6}  {'score':<16}  event"
    )
    waiting = [heading]

    def show(event: Event) -> None:
        while waiting:
            print(waiting.pop(), flush=True)
        print(row(event), flush=True)

    return show


def _csv(reader: EventReader) -> Callable[[Event], None]:
    writer = csv.DictWriter(sys.stdout, COLUMNS, lineterminator="\n")
    writer.writeheader()

    def show(event: Event) -> None:
        fields = payload(event, reader)
        lists = {"zones": " ".join(event.zones), "scores": " ".join(f"{score:g}" for score in event.scores)}
        writer.writerow({**fields, **lists})
        sys.stdout.flush()

    return show


async def _watch(
    settings: Settings, bucket: AnyReader, reader: EventReader, choice: EventChoice, args: argparse.Namespace
) -> int:
    """Print past events, then new ones, with no gap and no repeat. Without a broker it polls the bucket.

    The client gives each camera's events in order; the past is read before, to be in the order of time.
    """
    import asyncio

    from async_motion.app import build
    from async_motion.client import MotionClient
    from async_motion.retrieval.model import utc_now

    since = choice.since or utc_now()
    show, past = printer(_shape(args), reader), set[tuple[str, str]]()
    try:
        async for event in choice.events(reader) if choice.since else _none():
            if event.ended_at is not None:
                show(event)
                past.add((event.camera, event.event_id))
                if len(past) == args.limit:
                    return 0
    except StoreUnavailable as exc:
        if isinstance(exc, StoreRefused):
            raise
        tell(f"{exc}; trying again")  # the client does, and gives the rest
    broker = None
    try:
        async with asyncio.timeout(_FIND_S):
            broker = build.build_client(settings, *await build.find_broker(settings, tell))
    except TimeoutError:
        tell("no broker of this service found; reading the bucket every 10 s")
    client = MotionClient(
        bucket,
        broker,
        instance=reader.instance,
        prefix=reader.prefix,
        base_topic=settings.mqtt.base_topic,
    )
    count = len(past)
    async with client:
        async for event in client.events(since, camera=choice.cameras):
            if choice.takes(event) and (event.camera, event.event_id) not in past:
                show(event)
                count += 1
                if count == args.limit:
                    break
    return 0


async def _none() -> AsyncIterator[Event]:
    return
    yield


def _shape(args: argparse.Namespace) -> str:
    return "json" if args.json else "csv" if args.csv else "table"


async def _rebuild(reader: EventReader, choice: EventChoice) -> int:
    from async_motion.retrieval.rebuild import rebuild

    days = count = 0
    async for done in rebuild(reader, choice.cameras, since=choice.since, until=choice.until):
        tell(f"{done.camera} {done.day}: {counted(done.events, 'event')}")
        days, count = days + 1, count + done.events
    print(f"index rebuilt: {counted(count, 'event')} in {counted(days, 'file')}")
    tell_skipped(reader)
    return 0
