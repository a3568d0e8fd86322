"""`async-motion lifecycle`: show or set the bucket's rule that expires old events; `--apply` sets it."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING

from async_motion.errors import UsageError

if TYPE_CHECKING:
    from async_motion.cli.events import Parsers
    from async_motion.settings import Settings

MAX_DAYS = 36500


def add_parser(commands: Parsers, config: argparse.ArgumentParser) -> None:
    """Add the command to the command line."""
    parser = commands.add_parser(
        "lifecycle",
        parents=[config],
        help="show or set the bucket's rule that removes old events",
    )
    parser.add_argument("--days", type=int, metavar="N", help="events older than this are removed")
    parser.add_argument("--apply", action="store_true", help="set the rule; without it nothing is changed")
    parser.set_defaults(command=main)


def main(args: argparse.Namespace) -> int:
    """Run the command; return its exit code."""
    from async_motion.cli.loop import run_async
    from async_motion.settings import load

    if args.apply and args.days is None:
        raise UsageError("--apply: expected with --days")
    if args.days is not None and not 1 <= args.days <= MAX_DAYS:
        raise UsageError(f"--days: {args.days}: expected 1 to {MAX_DAYS}")
    settings = load(args.config, os.environ)
    if settings.minio.endpoint is None:
        raise UsageError("lifecycle: the store is a directory: set directory.keep in the settings")
    return run_async(lifecycle(settings, days=args.days, apply=args.apply))


async def lifecycle(settings: Settings, *, days: int | None, apply: bool) -> int:
    """Print the bucket's rules and the new one; set it if `apply`. Return the exit code."""
    from async_motion.app import buckets

    prefix = f"{settings.minio.prefix}{settings.instance}/"
    rule_id = f"async_motion-{settings.instance}"
    async with buckets.build_lifecycle(settings) as store:
        for rule in await store.rules():
            does = f"expires after {rule.days} days" if rule.days is not None else "has another action"
            mine = " (ours)" if rule.rule_id == rule_id else ""
            off = "" if rule.enabled else ", switched off"
            print(f"{rule.rule_id or '-'}{mine}: {rule.prefix or 'everything'}: {does}{off}")
        if days is None:
            return 0
        if apply:
            await store.set_rule(rule_id, prefix, days)
            print(f"set: {settings.minio.bucket}/{prefix} expires after {days} days")
        else:
            print(f"would set: {settings.minio.bucket}/{prefix} expires after {days} days; add --apply")
    return 0
