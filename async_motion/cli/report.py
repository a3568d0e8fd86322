"""`async-motion report`: a day or a week as one HTML file, with `--png` also as a PNG, or as text."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from async_motion.errors import AsyncMotionError, UsageError

if TYPE_CHECKING:
    from async_motion.cli.events import Parsers
    from async_motion.settings import Settings

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
LINK_S = 7 * 86400.0
_PNG_TIMEOUT_S = 60.0
_MAX_HEIGHT = 8000
_MARGIN = 32


def add_parser(commands: Parsers, config: argparse.ArgumentParser) -> None:
    """Add the command to the command line."""
    parser = commands.add_parser(
        "report",
        parents=[config],
        help="a day or a week as one HTML file: timeline, heat maps, best frames, losses, outages",
    )
    span = parser.add_mutually_exclusive_group()
    span.add_argument(
        "--day", metavar="DAY", help="today, yesterday, monday, 2026-11-22 (default: yesterday)"
    )
    span.add_argument("--week", metavar="DAY", help="the seven days that end with this day")
    parser.add_argument("--camera", action="append", metavar="NAME", help="only this camera; may be repeated")
    parser.add_argument("--instance", metavar="NAME", help="of this instance (default: the settings')")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("report.html"),
        metavar="FILE",
        help="the file (default: report.html)",
    )
    parser.add_argument("--text", action="store_true", help="print it as text, without images; write no file")
    parser.add_argument("--png", type=Path, metavar="FILE", help="also as an image; needs chromium")
    parser.add_argument(
        "--links",
        action="store_true",
        help="link images to the stored frames, for seven days (buckets only)",
    )
    parser.set_defaults(command=main)


def main(args: argparse.Namespace) -> int:
    """Run the command; return its exit code."""
    from async_motion.cli.loop import run_output
    from async_motion.cli.when import whole_day
    from async_motion.core.names import is_name
    from async_motion.settings import load

    if args.text and (args.png or args.links):
        raise UsageError("--text: expected without --png and --links: it has no images")
    wrong = [
        name
        for name in (*(args.camera or ()), *([] if args.instance is None else [args.instance]))
        if not is_name(name)
    ]
    if wrong:
        raise UsageError(*(f"{name}: expected a name (a-z 0-9 _ -)" for name in wrong))
    now = datetime.now(UTC)
    since, until = (
        whole_day(args.week, now, "--week", days=7)
        if args.week is not None
        else whole_day("yesterday" if args.day is None else args.day, now, "--day")
    )
    return run_output(report(load(args.config, os.environ), args, since, until))


async def report(settings: Settings, args: argparse.Namespace, since: datetime, until: datetime) -> int:
    """Write the report; return the exit code."""
    import asyncio

    from async_motion.app import buckets
    from async_motion.cli.events import tell_skipped
    from async_motion.cli.files import write_whole
    from async_motion.cli.when import hours_of
    from async_motion.retrieval.day_logs import accounts
    from async_motion.retrieval.report import gather
    from async_motion.retrieval.report_page import page
    from async_motion.retrieval.report_text import text

    async with buckets.build_bucket(settings) as bucket:
        reader = buckets.build_events(settings, bucket, args.instance)
        events = reader.events(args.camera, since=since, until=until)
        made = await gather(
            reader,
            events,
            hours_of(since, until),
            kept=await accounts(reader, args.camera, since=since, until=until),
            now=datetime.now(UTC),
            link_s=LINK_S if args.links else None,
            images=not args.text,
        )
        if args.text:
            print(text(made))
            tell_skipped(reader)
            return 0
    await asyncio.to_thread(write_whole, args.out, page(made).encode())
    print(args.out)
    if args.png is not None:
        await asyncio.to_thread(_photograph, args.out, args.png)
        print(args.png)
    if not made.events:
        print("no events", file=sys.stderr)
    return 0


def _photograph(page: Path, target: Path) -> None:
    """Render the page to a PNG in a headless browser. Raises AsyncMotionError."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        raise AsyncMotionError("--png: chromium is not installed; the HTML file was written")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        command += [f"--user-data-dir={profile}", "--hide-scrollbars", f"--window-size=1280,{_MAX_HEIGHT}"]
        command += [f"--screenshot={Path(profile) / 'page.png'}", page.absolute().as_uri()]
        try:
            subprocess.run(command, check=True, capture_output=True, timeout=_PNG_TIMEOUT_S)  # noqa: S603  # a browser of the PATH
        except (subprocess.SubprocessError, OSError) as exc:
            raise AsyncMotionError(f"--png: {browser} failed: {type(exc).__name__}") from exc
        _crop(Path(profile) / "page.png", target)


def _crop(png: Path, target: Path) -> None:
    """Write the screenshot without the blank area below the page. Raises AsyncMotionError."""
    import cv2
    import numpy as np

    whole = cv2.imread(str(png))
    if whole is None:
        raise AsyncMotionError("--png: the browser made no image")
    used = np.nonzero((whole != whole[-1, 0]).any(axis=(1, 2)))[0]
    height = int(used[-1]) + _MARGIN if len(used) else len(whole)
    if not cv2.imwrite(str(target), whole[:height]):
        raise AsyncMotionError(f"--png: {target} cannot be written")
