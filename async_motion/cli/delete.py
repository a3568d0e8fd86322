"""`async-motion delete`: remove events from the bucket. A dry run without `--yes`."""

from __future__ import annotations

import argparse
import os
from datetime import timedelta
from typing import TYPE_CHECKING

from async_motion.cli.choosing import EventChoice, add_filters, chosen
from async_motion.cli.tell import tell
from async_motion.core.words import counted
from async_motion.errors import UsageError

if TYPE_CHECKING:
    from async_motion.cli.events import Parsers
    from async_motion.retrieval import Event
    from async_motion.settings import Settings

OPEN_FOR = timedelta(days=1)
"""An event without an end that began more recently than this is kept: a service may be writing it."""
_AT_ONCE = 64


def add_parser(commands: Parsers, config: argparse.ArgumentParser) -> None:
    """Add the command to the command line."""
    parser = commands.add_parser(
        "delete",
        parents=[config],
        help="delete events from the bucket; without --yes, only show what would go",
    )
    parser.add_argument("events", nargs="*", metavar="EVENT", help="ids of events, as `events` prints them")
    add_filters(parser)
    parser.add_argument("--yes", action="store_true", help="delete; without it nothing is changed")
    parser.set_defaults(command=main)


def main(args: argparse.Namespace) -> int:
    """Run the command; return its exit code."""
    from async_motion.cli.loop import run_output
    from async_motion.settings import load

    choice = chosen(args)
    if not args.events and not choice.narrows:
        raise UsageError("delete: expected the id of an event, or filters such as --to 30d")
    settings = load(args.config, os.environ)
    return run_output(delete(settings, choice, args))


async def delete(settings: Settings, choice: EventChoice, args: argparse.Namespace) -> int:
    """Print the selected events; delete them with `--yes`. Return 1 if an id is unknown or none matched."""
    from async_motion.app import buckets
    from async_motion.cli.events import printer, tell_skipped
    from async_motion.cli.get import Wanted
    from async_motion.retrieval import removal
    from async_motion.retrieval.model import utc_now

    async with buckets.build_bucket(settings) as bucket:
        reader = buckets.build_events(settings, bucket, args.instance)
        wanted = Wanted(reader, choice, args.events)
        show = printer("table", reader)
        events = frames = size = objects = left = 0
        waiting: list[Event] = []
        async for event in wanted.events():
            if event.ended_at is None and event.started_at > utc_now() - OPEN_FOR:
                left += 1
                continue
            show(event)
            events, frames, size = events + 1, frames + event.frames, size + event.bytes
            waiting.append(event)
            if len(waiting) == _AT_ONCE:
                objects += await removal.delete(reader, waiting) if args.yes else 0
                waiting.clear()
        if waiting and args.yes:
            objects += await removal.delete(reader, waiting)
        tell_skipped(reader)
    if left:
        tell(f"{counted(left, 'event')} not ended, and kept")
    for event_id in wanted.unknown:
        tell(f"missing: {event_id}: no such event")
    total = f"{counted(events, 'event')}, {counted(frames, 'frame')}, {size / 1e6:.1f} MB"
    if args.yes:
        print(f"deleted: {total} ({counted(objects, 'object')})")
    else:
        print(f"would delete: {total}. Nothing was changed; add --yes to delete")
    return 0 if events and not wanted.unknown else 1
