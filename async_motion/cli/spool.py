"""`async-motion spool`: show pending records and those set aside; retry, deliver or export them.

Works with the service running or stopped; `deliver` needs it stopped.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Collection
from pathlib import Path

from async_motion.app import inspect
from async_motion.core.payloads import iso
from async_motion.errors import UsageError
from async_motion.settings import load


def main(args: argparse.Namespace) -> int:
    """Run one of the command's actions; return the exit code."""
    path = _path(args)
    match args.action:
        case "retry":
            return retry(path, args.numbers)
        case "export":
            return export(path, args.folder, aside_only=args.aside)
        case "deliver":
            return deliver(args, path)
        case _:
            return show(path, as_json=args.json)


def _path(args: argparse.Namespace) -> Path:
    """Return the spool's path. With `--path` the settings are not read, so invalid ones do no harm."""
    if args.path is not None:
        return Path(args.path)
    path = load(args.config, os.environ).spool.path
    if path == ":memory:":
        raise UsageError("spool.path is :memory:, which only the running service can see, expected a file")
    return Path(path)


def show(path: Path, *, as_json: bool) -> int:
    """Print the contents of the spool; return 0."""
    report = inspect.look(path)
    if as_json:
        waiting = [
            {
                "camera": w.camera,
                "to_store": w.to_store,
                "to_announce": w.to_announce,
                "phases": w.phases,
                "bytes": w.bytes,
                "oldest_at": iso(w.oldest_at),
            }
            for w in report.waiting
        ]
        aside = [
            {
                "number": a.number,
                "frame_id": a.info.frame_id,
                "object_key": a.info.object_key,
                "accepted_at": iso(a.accepted_at),
                "reason": a.reason,
            }
            for a in report.aside
        ]
        spools = [str(whole) for whole in report.set_aside_spools]
        fields = {"path": str(report.path), "file_bytes": report.file_bytes}
        print(json.dumps(fields | {"waiting": waiting, "aside": aside, "set_aside_spools": spools}, indent=2))
        return 0
    print(f"{report.path}: {report.records} frames wait, {len(report.aside)} were set aside")
    if report.waiting:
        print(f"\n{'camera':<16}  {'to store':>8}  {'to announce':>11}  {'KiB':>8}  oldest (UTC)")
    for w in report.waiting:
        print(
            f"{w.camera:<16}  {w.to_store:>8}  {w.to_announce:>11}  {w.bytes / 1024:>8.0f}"
            f"  {w.oldest_at:%Y-%m-%d %H:%M:%S}"
        )
    if report.aside:
        print("\nset aside (async-motion spool retry [NUMBER …]):")
    for a in report.aside:
        print(f"  {a.number}  {a.info.object_key}: {a.reason}")
    for whole in report.set_aside_spools:
        print(f"\nA whole spool was set aside (async-motion spool --path FILE …): {whole}")
    return 0


def retry(path: Path, numbers: Collection[int]) -> int:
    """Requeue records that were set aside: those with these numbers, or all. Return 0."""
    count = inspect.retry(path, set(numbers) or None)
    print(f"{count} records that were set aside are retried")
    return 0


def deliver(args: argparse.Namespace, path: Path) -> int:
    """Deliver a spool that no service uses; return 1 if any of its records are set aside, else 0."""
    from async_motion.app import spool_delivery
    from async_motion.cli.loop import run_async

    settings = load(args.config, os.environ)

    async def work() -> int:
        left = await spool_delivery.deliver(settings, path, lambda line: print(line, file=sys.stderr))
        print(f"{path}: delivered; {left.set_aside} frames were set aside")
        return 1 if left.set_aside else 0

    return run_async(work())


def export(path: Path, folder: Path, *, aside_only: bool) -> int:
    """Write the frames in the spool to a folder, under their object keys; the spool keeps them."""
    count = 0
    for file in inspect.export(path, folder, aside_only=aside_only):
        print(file)
        count += 1
    print(f"{count} images in {folder}")
    return 0
