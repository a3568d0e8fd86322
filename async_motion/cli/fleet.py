"""`async-motion fleet`: show the workers and their cameras, move a camera, drain a worker.

Works while the workers run.
"""

from __future__ import annotations

import argparse
import json
import os
from typing import TYPE_CHECKING

from async_motion.errors import UsageError

if TYPE_CHECKING:
    from async_motion.app.fleet_overview import FleetOverview
    from async_motion.cli.events import Parsers
    from async_motion.settings import Settings


def add_parser(commands: Parsers, config: argparse.ArgumentParser) -> None:
    """Add the command to the command line."""
    parser = commands.add_parser(
        "fleet", parents=[config], help="show which worker watches which camera; move cameras, drain workers"
    )
    parser.add_argument("--json", action="store_true", help="print it as JSON")
    parser.set_defaults(command=main, action=None)
    actions = parser.add_subparsers(title="actions", metavar="ACTION")
    move = actions.add_parser("move", help="give a camera to another worker")
    move.add_argument("camera", metavar="CAMERA")
    move.add_argument("worker", metavar="WORKER")
    move.set_defaults(action="move")
    drain = actions.add_parser("drain", help="make a worker give all its cameras away, until it restarts")
    drain.add_argument("worker", metavar="WORKER")
    drain.add_argument("--undo", action="store_true", help="let it take cameras again")
    drain.set_defaults(action="drain")


def main(args: argparse.Namespace) -> int:
    """Run the command; return its exit code."""
    from async_motion.cli.loop import run_async
    from async_motion.settings import load

    settings = load(args.config, os.environ)
    if not settings.fleet.servers:
        raise UsageError(f"{settings.origin}: fleet.servers is blank: this instance is no fleet")
    return run_async(_act(settings, args))


async def _act(settings: Settings, args: argparse.Namespace) -> int:
    from async_motion.app import fleet_overview
    from async_motion.app.fleet import open_bucket

    async with open_bucket(settings) as bucket:
        match args.action:
            case "move":
                epoch = await fleet_overview.move(bucket, settings, args.camera, args.worker)
                print(f"{args.camera}: {args.worker} has it, epoch {epoch}")
            case "drain":
                left = await fleet_overview.drain(bucket, settings, args.worker, undo=args.undo)
                if args.undo:
                    print(f"{args.worker}: takes cameras again")
                else:
                    print(f"{args.worker}: draining, {left} cameras left")
                    return 1 if left else 0
            case _:
                overview = await fleet_overview.look(bucket, settings)
                if args.json:
                    print(json.dumps(overview.to_json(), indent=2))
                else:
                    show(overview)
    return 0


def show(overview: FleetOverview) -> None:
    """Print the fleet as two tables: workers, cameras."""
    print(f"{'worker':<24}  {'cameras':>7}  {'load':>6}  {'capacity':>8}  {'spool':>7}  notes")
    for worker in overview.workers:
        notes = [
            *(["speaks for the instance"] if worker.speaker else []),
            *(["draining"] if worker.draining else []),
            *(["its settings differ from these"] if worker.different else []),
            *(f"cannot open {camera}: {why}" for camera, why in worker.refused.items()),
        ]
        print(
            f"{worker.name:<24}  {worker.cameras:>7}  {worker.load:>6.2f}  {worker.capacity:>8.2f}"
            f"  {worker.spool_records:>7}  {'; '.join(notes)}"
        )
    print(f"\n{'camera':<24}  {'worker':<24}  {'epoch':>8}")
    for camera, (worker_name, epoch) in overview.cameras.items():
        print(f"{camera:<24}  {worker_name:<24}  {epoch:>8}")
    for camera in overview.unowned:
        print(f"{camera:<24}  {'no worker':<24}")
