"""The command line: arguments, output for people, exit codes.

Exit codes: 0 done or stopped on purpose, 1 failure, 2 wrong usage or settings. Output is for people;
`--json` prints it for programs. Each command imports its modules when it runs, so that `--help` does not
wait for OpenCV.
"""

from __future__ import annotations

import argparse
import errno
import io
import os
import re
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

from async_motion import __version__
from async_motion.cli.tell import discard_output, flush_output, open_output, tell
from async_motion.errors import AsyncMotionError, SettingsError, UsageError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""Errors of a disk: also of the one that standard output goes to."""

MISSING_LIBRARY = re.compile(r"(lib\S+): cannot open shared object file")
"""The loader's message on Linux when a compiled module needs a missing shared library."""

OPENCV_LIBRARIES = ("libGL.so.1", "libglib-2.0.so.0", "libgthread-2.0.so.0", "libxcb.so.1")
"""System libraries that opencv-python needs; a server or a slim image may have none of them."""

OPENCV_PACKAGES = "libgl1 libglib2.0-0 libxcb1"
"""The Debian and Ubuntu packages of these. The image has opencv-python-headless, which needs none."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    open_output()
    words = sys.argv[1:] if argv is None else argv
    args = _parser(words[0] if words else "").parse_args(words)
    # OpenCV's own log lines do not name the camera; ours report the same failure in one line that does.
    os.environ.setdefault("OPENCV_LOG_LEVEL", "ERROR")
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A terminal that is not UTF-8 shows escapes, as on standard error, instead of ending the command.
        sys.stdout.reconfigure(errors="backslashreplace")
    with suppress(ValueError):  # outside the main thread Python allows no signal handler
        signal.signal(signal.SIGTERM, _interrupt)
    try:
        code: int = args.command(args)
        sys.stdout.flush()
    except (SettingsError, UsageError) as exc:
        for problem in exc.problems:
            _say(problem)
        return 2
    except AsyncMotionError as exc:
        _say(f"async-motion: {exc}")
        return 1
    except ImportError as exc:
        library = MISSING_LIBRARY.search(str(exc))
        if library is None:
            raise
        _say(f"async-motion: {_missing(library[1])}")
        return 1
    except KeyboardInterrupt:
        return 0
    except BrokenPipeError:
        # The reader has closed the pipe (`listen | head`), which is no error.
        discard_output()
        return 0
    except OSError as exc:
        if exc.errno not in FULL:
            raise
        flush_output()  # the full disk may be that of another file
        place = "" if exc.filename is None else f"{exc.filename}: "
        _say(f"async-motion: {place}{exc.strerror}")
        return 1
    return code


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    """Make SIGTERM stop a command as Ctrl-C does, until the service installs its own handlers."""
    raise KeyboardInterrupt


def _parser(command: str) -> argparse.ArgumentParser:
    """Return the parser of all commands, or that of `health` alone: it runs every few seconds."""
    parser = argparse.ArgumentParser(
        prog="async-motion",
        description="Turns cameras into motion events: frames in a bucket, their keys over MQTT.",
    )
    parser.add_argument("--version", action="version", version=f"async-motion {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    config = argparse.ArgumentParser(add_help=False)
    config.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="the settings (default: $ASYNC_MOTION_CONFIG, then config/processor/variables.yaml here,"
        " then the embedded defaults)",
    )

    if command == "health":
        _add_health(commands, config)
    else:
        _add_commands(commands, config)
    return parser


def _add_health(commands: Any, config: argparse.ArgumentParser) -> None:
    health = commands.add_parser(
        "health", parents=[config], help="is the service alive? for container health checks"
    )
    health.set_defaults(command=_health)


def _add_commands(commands: Any, config: argparse.ArgumentParser) -> None:
    from async_motion.cli import backup, delete, events, fleet, get, lifecycle, policy, report, scan, schema

    run = commands.add_parser("run", parents=[config], help="run the service: watch, detect, store, announce")
    run.set_defaults(command=_run)

    _add_install(commands)
    _add_health(commands, config)

    check = commands.add_parser(
        "check",
        parents=[config],
        help="validate the settings; with --probe, also try cameras, store and broker",
    )
    check.add_argument(
        "--probe",
        action="store_true",
        help="open each camera, write, read and delete a test object, send a test message",
    )
    check.add_argument("--json", action="store_true", help="print the findings as JSON Lines")
    check.set_defaults(command=_check)

    listen = commands.add_parser("listen", parents=[config], help="show announcements as they come")
    listen.add_argument("--json", action="store_true", help="print each announcement as a line of JSON")
    listen.add_argument(
        "--save", type=Path, metavar="DIR", help="fetch each frame by its key into this folder"
    )
    listen.add_argument("--camera", metavar="NAME", help="only this camera")
    listen.add_argument("--all-instances", action="store_true", help="of every instance on the broker")
    listen.add_argument("--count", type=_positive, metavar="N", help="end after N announcements")
    listen.set_defaults(command=_listen)

    tune = commands.add_parser(
        "tune", parents=[config], help="try settings on labelled clips, and find better ones"
    )
    tune.add_argument(
        "files",
        nargs="+",
        type=Path,
        metavar="FILE",
        help="clips, or folders of clips; those in a folder motion/ or quiet/ are labelled by it",
    )
    tune.add_argument(
        "--labels",
        type=Path,
        metavar="FILE",
        help="what is in which clip, as YAML, JSON or CSV: quiet, motion, or from when to when",
    )
    tune.add_argument(
        "--camera", metavar="NAME", help="start from this camera's settings (default: from the defaults)"
    )
    tune.add_argument(
        "--night",
        action="store_true",
        help="the clips are from the night: tune the settings of the night profile",
    )
    tune.add_argument(
        "--miss-cost",
        type=_cost,
        default=5.0,
        metavar="N",
        help="number of false alarms that weigh as much as a missed event (default: 5)",
    )
    tune.add_argument("--json", action="store_true", help="print the findings as JSON")
    tune.set_defaults(command=_tune)

    spool = commands.add_parser(
        "spool", parents=[config], help="what waits for delivery, and what was set aside"
    )
    spool.add_argument(
        "--path",
        type=Path,
        metavar="FILE",
        help="a spool other than that of the settings, such as one set aside",
    )
    spool.add_argument("--json", action="store_true", help="print it as JSON")
    spool.set_defaults(command=_spool, action=None)
    actions = spool.add_subparsers(title="actions", metavar="ACTION")
    again = actions.add_parser("retry", help="deliver again what was set aside")
    again.add_argument("numbers", nargs="*", type=int, metavar="NUMBER", help="only these (default: all)")
    again.set_defaults(action="retry")
    send = actions.add_parser(
        "deliver", help="deliver a spool that no service uses, such as one from another machine's disk"
    )
    send.set_defaults(action="deliver")
    take = actions.add_parser("export", help="copy the JPEGs in the spool to a folder; the spool keeps them")
    take.add_argument("folder", type=Path, metavar="DIR")
    take.add_argument("--aside", action="store_true", help="only those that were set aside")
    take.set_defaults(action="export")

    for command in (scan, events, get, report, delete, lifecycle, policy, backup, fleet):
        command.add_parser(commands, config)

    shown = commands.add_parser("schema", help="print the JSON Schemas of what is published and stored")
    which = shown.add_mutually_exclusive_group()
    which.add_argument("name", nargs="?", choices=schema.NAMES, help="only this one")
    which.add_argument(
        "--asyncapi", action="store_true", help="print an AsyncAPI 3 document of all that goes over MQTT"
    )
    shown.set_defaults(command=_schema)


def _add_install(commands: Any) -> None:
    install = commands.add_parser("install", help="install it as a systemd service")
    where = install.add_mutually_exclusive_group(required=True)
    where.add_argument("--system", action="store_true", help="for the machine, with a user of its own")
    where.add_argument("--user", action="store_true", help="for yourself, without root")
    install.add_argument("--dry-run", action="store_true", help="print what would be done")
    install.add_argument(
        "--root", type=Path, default=Path("/"), metavar="DIR", help="with --system: write below this folder"
    )
    install.set_defaults(command=_install)


def _positive(text: str) -> int:
    number = int(text) if text.isascii() and text.isdecimal() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text}: expected a number, 1 or more")
    return number


def _missing(library: str) -> str:
    if library not in OPENCV_LIBRARIES:
        return f"the shared library {library} is missing on this system: install the package that contains it"
    # The loader names only the first missing library: name all packages.
    return (
        f"the shared library {library} is missing, which OpenCV needs:"
        f" apt-get install {OPENCV_PACKAGES} (Debian, Ubuntu)"
    )


def _cost(text: str) -> float:
    with suppress(ValueError):
        cost = float(text)
        if 0 < cost < 1e6:
            return cost
    raise argparse.ArgumentTypeError(f"{text}: expected a number above 0, below 1000000")


def _say(line: str) -> None:
    for each in line.splitlines():
        tell(each)


# Each command's module is imported when the command runs: `--help` must not wait for OpenCV.


def _install(args: argparse.Namespace) -> int:
    from async_motion.cli import install

    return install.main(args)


def _health(args: argparse.Namespace) -> int:
    from async_motion.cli import health

    return health.main(args)


def _run(args: argparse.Namespace) -> int:
    # Until the service handles it, a reload must not end it: the next line takes a second and more.
    with suppress(ValueError):  # as in `main`
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    from async_motion.cli import run

    return run.main(args)


def _check(args: argparse.Namespace) -> int:
    from async_motion.cli import check

    return check.main(args)


def _listen(args: argparse.Namespace) -> int:
    from async_motion.cli import listen

    return listen.main(args)


def _tune(args: argparse.Namespace) -> int:
    from async_motion.cli import tune

    return tune.main(args)


def _spool(args: argparse.Namespace) -> int:
    from async_motion.cli import spool

    return spool.main(args)


def _schema(args: argparse.Namespace) -> int:
    from async_motion.cli import schema

    return schema.main(args)
