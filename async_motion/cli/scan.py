"""`async-motion scan`: find motion in recordings; print it, make stills or clips, or store the events.

Results go to standard output in the order of the recordings' paths, regardless of the number of processes.
Progress and errors go to standard error.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from datetime import UTC, datetime, tzinfo
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, get_args

from async_motion.cli.tell import tell
from async_motion.core.options import Decode
from async_motion.core.words import counted
from async_motion.errors import UsageError

if TYPE_CHECKING:
    from async_motion.scan import Engine, Recording, ScanOutcome, ScanProgress
    from async_motion.settings import Settings

    Parsers = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001  # it has no other name

COLUMNS = (
    *("file", "camera", "event_id", "started_at", "ended_at", "time_from", "duration_s", "begin_s", "end_s"),
    *("reason", "peak_score", "zones", "frames", "best", "scores"),
)
EPILOG = """\
A recording's time comes from --start, from its name (20260301_120000.mp4, 2026-03-01/12-00-00.mp4, Unix
time, Frigate's folders), from its container, or else from the file's own date. Its camera is --camera, or the
folder that is named like one; a camera of the settings has its zones, masks and thresholds, others the
defaults. With --out or --store the same command continues where it stopped.

Exit codes: 0 all was read; 1 a recording could not be read, or the store failed; 2 wrong usage or settings.
"""


def add_parser(commands: Parsers, config: argparse.ArgumentParser) -> None:
    """Add the command to the command line."""
    parser = commands.add_parser(
        "scan",
        parents=[config],
        help="find motion in recordings, on all cores or a Ray cluster",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "paths",
        nargs="+",
        metavar="PATH",
        help="files, folders, or s3://bucket/prefix on the settings' server",
    )
    shape = parser.add_mutually_exclusive_group()
    shape.add_argument("--json", action="store_true", help="print a line of JSON for each event")
    shape.add_argument("--csv", action="store_true", help="print CSV with a header")
    making = parser.add_argument_group("output")
    making.add_argument("--out", type=Path, metavar="DIR", help="the folder for --stills and --video")
    making.add_argument("--stills", action="store_true", help="annotated stills of each event, as JPEG")
    making.add_argument(
        "--video", action="store_true", help="a clip of each event with boxes and score, as MP4"
    )
    making.add_argument(
        "--store", action="store_true", help="store events and frames as if they had been live, as `run` does"
    )
    how = parser.add_argument_group("reading")
    how.add_argument("--camera", metavar="NAME", help="the camera that recorded them (default: by folder)")
    how.add_argument("--start", metavar="TIME", help="when the one recording began: 2026-03-01T12:00:00")
    how.add_argument(
        "--timezone",
        metavar="ZONE",
        help="of the times in names: Europe/Berlin, UTC (default: this machine's)",
    )
    how.add_argument(
        "--decode",
        choices=get_args(Decode),
        default="auto",
        help="auto: in full only where something happens; all: every frame; keyframes: fastest, coarse",
    )
    how.add_argument("--again", action="store_true", help="scan again what an earlier scan has done")
    where = how.add_mutually_exclusive_group()
    where.add_argument(
        "--ray",
        metavar="ADDRESS",
        help="scan on the Ray cluster with this head: host:port, or auto for this machine's",
    )
    where.add_argument(
        "--processes",
        type=int,
        metavar="N",
        help="read N recordings at the same time (default: one for each core)",
    )
    parser.set_defaults(command=main)


def main(args: argparse.Namespace) -> int:
    """Run the command; return its exit code."""
    from async_motion.cli.loop import run_async
    from async_motion.core.names import is_name
    from async_motion.settings import load

    problems = []
    if args.camera is not None and not is_name(args.camera):
        problems.append(f"--camera: {args.camera}: expected a name (a-z 0-9 _ -)")
    if args.processes is not None and not 1 <= args.processes <= 1024:
        problems.append(f"--processes: {args.processes}: expected a number from 1 to 1024")
    if (args.stills or args.video) and args.out is None:
        problems.append("--stills, --video: expected with --out DIR")
    if args.out is not None and args.out.exists() and not args.out.is_dir():
        problems.append(f"--out: {args.out}: not a folder")
    zone, start = None, None
    try:
        zone = _zone(args.timezone)
        start = _start(args.start, zone)
    except UsageError as exc:
        problems += exc.problems
    if problems:
        raise UsageError(*problems)
    settings = load(args.config, os.environ)
    return run_async(scan(settings, args, zone=zone, start=start))


async def scan(
    settings: Settings, args: argparse.Namespace, *, zone: tzinfo | None, start: datetime | None
) -> int:
    """Scan the recordings and print their events; return 1 if one could not be read, else 0."""
    from async_motion.scan import find_recordings, specs_for
    from async_motion.scan import scan as run

    recordings = await find_recordings(args.paths, settings, camera=args.camera, zone=zone, start=start)
    cores = _cores()
    engine = _engine(args, min(args.processes or cores, len(recordings)))
    specs = specs_for(
        settings,
        recordings,
        decode=args.decode,
        # Spare cores help to decode. The threads must not depend on the number of processes: what FFmpeg
        # makes of a damaged frame may depend on them.
        threads=max(1, cores // len(recordings)) if args.ray is None else 1,
        store=args.store,
        out=args.out,
        stills=args.stills,
        video=args.video,
    )
    shown = ScanLine(sys.stderr.isatty())
    show = printer("json" if args.json else "csv" if args.csv else "table", sys.stdout)
    outcomes = run(
        recordings,
        specs,
        engine,
        again=args.again,
        index_every_s=settings.index.every,
        on_progress=shown.update,
    )
    total = Total()
    # Ray prints node events to standard output, which is for the results alone.
    with redirect_stdout(sys.stderr):
        async for outcome in outcomes:
            shown.clear()
            show(outcome)
            total.add(outcome)
    shown.clear()
    tell(total.words())
    return 1 if total.problems else 0


def _engine(args: argparse.Namespace, slots: int) -> Engine:
    from async_motion.scan import InProcess, Processes, RayCluster

    if args.ray is not None:
        return RayCluster(args.ray)
    return Processes(slots) if slots > 1 else InProcess()


class Total:
    """Totals over all recordings."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._recordings = self._remembered = self._events = 0
        self._seconds = 0.0
        self.problems = 0

    def add(self, outcome: ScanOutcome) -> None:
        """Add an outcome, and report its problem or its damaged frames on standard error."""
        self._recordings += 1
        self._events += len(outcome.events)
        if outcome.problem is not None:
            self.problems += 1
            tell(f"{outcome.recording.name}: {outcome.problem}")
        elif outcome.damaged:
            tell(f"{outcome.recording.name}: {outcome.damaged} damaged frames were left out")
        if outcome.remembered:
            self._remembered += 1
        else:
            self._seconds += outcome.seconds

    def words(self) -> str:
        """Return the summary line."""
        took = max(1e-6, time.monotonic() - self._began)
        rate = f" ({self._seconds / took:.0f} times real time)" if self._seconds else ""
        known = f"; {self._remembered} done before" if self._remembered else ""
        bad = f"; {self.problems} could not be read" if self.problems else ""
        of = f"{counted(self._recordings, 'recording')}, {_clock(self._seconds)} of video in {took:.1f} s"
        return f"{of}{rate}: {counted(self._events, 'event')}{known}{bad}"


class ScanLine:
    """A progress line on the terminal: recordings done, rate, time left. Draws nothing off a terminal."""

    def __init__(self, shows: bool) -> None:
        self._shows = shows

    def update(self, progress: ScanProgress) -> None:
        """Draw the line."""
        if self._shows:
            print(f"\r\x1b[K{self.words(progress, time.monotonic())}", end="", file=sys.stderr, flush=True)

    def words(self, progress: ScanProgress, now: float) -> str:
        """Return the line."""
        rate = progress.seconds / max(1e-6, now - progress.began)
        left = progress.left_s(now)
        fast = f"  {rate:.0f} times real time" if progress.seconds else ""
        return (
            f"{progress.done} of {counted(progress.recordings, 'recording')}  {progress.share:.0%}"
            f"  {counted(progress.events, 'event')}{fast}  {'…' if left is None else f'{_clock(left)} left'}"
        )

    def clear(self) -> None:
        """Remove the line."""
        if self._shows:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def printer(shape: str, out: TextIO) -> Callable[[ScanOutcome], None]:
    """Return a function that prints the events of a recording to `out`. `shape`: json, csv or table."""
    if shape == "json":
        return partial(_print_json, out)
    if shape == "csv":
        return _csv(out)
    return _table(out)


def _print_json(out: TextIO, outcome: ScanOutcome) -> None:
    for event in outcome.events:
        print(json.dumps({"file": outcome.recording.name, **event}, ensure_ascii=False), file=out, flush=True)


def _csv(out: TextIO) -> Callable[[ScanOutcome], None]:
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()

    def show(outcome: ScanOutcome) -> None:
        for event in outcome.events:
            lists = {
                "zones": " ".join(event["zones"]),
                "scores": " ".join(f"{score:g}" for score in event["scores"]),
            }
            writer.writerow({"file": outcome.recording.name, **event, **lists})
        out.flush()

    return show


def _table(out: TextIO) -> Callable[[ScanOutcome], None]:
    heading = (
        f"{'began':<24}  {'camera':<14}  {'at':>8}  {'lasted':>9}  {'frames':>6}  {'peak':>6}"
        f"  {'score':<16}  file"
    )
    waiting = [heading]

    def show(outcome: ScanOutcome) -> None:
        for event in outcome.events:
            while waiting:
                print(waiting.pop(), file=out, flush=True)
            print(row(event, outcome.recording), file=out, flush=True)

    return show


def row(event: Mapping[str, Any], recording: Recording) -> str:
    """Return an event as a line of the table."""
    from async_motion.cli.events import sparkline
    from async_motion.cli.when import local
    from async_motion.core.payloads import parse_iso

    zones = f"  [{', '.join(event['zones'])}]" if event["zones"] else ""
    return (
        f"{local(parse_iso(event['started_at'])):<24}  {event['camera']:<14}  {_clock(event['begin_s']):>8}"
        f"  {event['duration_s']:>7.1f} s  {event['frames']:>6}  {event['peak_score']:>6.1%}"
        f"  {sparkline(tuple(event['scores'])):<16}  {recording.name}{zones}"
    )


def _zone(name: str | None) -> tzinfo | None:
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    if name is None:
        return None
    try:
        return UTC if name.upper() in ("UTC", "Z") else ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise UsageError(f"--timezone: {name}: expected a zone such as Europe/Berlin or UTC") from None


def _start(text: str | None, zone: tzinfo | None) -> datetime | None:
    from async_motion.cli.when import moment

    if text is None:
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return moment(text, datetime.now(UTC), "--start")
    try:
        return (at if at.tzinfo is not None else at.replace(tzinfo=zone)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise UsageError(f"--start: {text}: expected a time within the calendar") from None


def _cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
