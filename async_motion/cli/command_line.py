"""The command line: arguments, output for people, exit codes.

Exit codes: 0 done or stopped on purpose, 1 failure, 2 wrong usage or settings. What a person must read
goes to the terminal; `--json` prints what a program may read. Imports are made where they are needed:
`--help` must not wait for OpenCV.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import signal
import sys
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from importlib import resources
from pathlib import Path
from types import FrameType
from typing import Any

from async_motion import __version__
from async_motion.errors import AsyncMotionError, SettingsError, UsageError

SCHEMAS = ("frame", "event", "event_summary", "state", "camera_state")

MISSING_LIBRARY = re.compile(r"(lib\S+): cannot open shared object file")
"""How Linux says that a compiled module wants what the system has not."""

OPENCV_LIBRARIES = ("libGL.so.1", "libglib-2.0.so.0", "libgthread-2.0.so.0", "libxcb.so.1")
"""What opencv-python expects of the system; a server or a slim image may have none of it."""

OPENCV_PACKAGES = "libgl1 libglib2.0-0 libxcb1"
"""The same as packages of Debian and Ubuntu. The image has opencv-python-headless, which needs none."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    args = _parser().parse_args(argv)
    # What OpenCV thinks of a camera is said by us, in one line that names the camera.
    os.environ.setdefault("OPENCV_LOG_LEVEL", "ERROR")
    with suppress(ValueError):  # not in the main thread: then the signals are somebody else's
        signal.signal(signal.SIGTERM, _interrupt)
    try:
        code: int = args.command(args)
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
        # Our reader has left (`listen | head`): that is its right. Python would complain at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return code


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    """Let SIGTERM stop a command as Ctrl-C does, until the service handles both by itself."""
    raise KeyboardInterrupt


def run_async(work: Coroutine[Any, Any, int]) -> int:
    """Run `work` on a uvloop event loop (asyncio's own on Windows) and return its exit code."""
    if sys.platform == "win32":
        return asyncio.run(work)
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


def _parser() -> argparse.ArgumentParser:
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

    run = commands.add_parser("run", parents=[config], help="the service: watch, detect, store, announce")
    run.set_defaults(command=_run)

    health = commands.add_parser(
        "health", parents=[config], help="is the service alive? for container health checks"
    )
    health.set_defaults(command=_health)

    check = commands.add_parser(
        "check", parents=[config], help="are the settings right? with --probe: does it work?"
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
        "tune", parents=[config], help="try settings on clips that you have sorted, and find better ones"
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
        "--night", action="store_true", help="the clips are from the night: tune its profile's settings"
    )
    tune.add_argument(
        "--miss-cost",
        type=_cost,
        default=5.0,
        metavar="N",
        help="so many false alarms are as bad as an event that was not seen (default: 5)",
    )
    tune.add_argument("--json", action="store_true", help="print the findings as JSON")
    tune.set_defaults(command=_tune)

    spool = commands.add_parser(
        "spool", parents=[config], help="what waits for delivery, and what was set aside"
    )
    spool.add_argument(
        "--path", type=Path, metavar="FILE", help="another spool than that of the settings: one set aside"
    )
    spool.add_argument("--json", action="store_true", help="print it as JSON")
    spool.set_defaults(command=_spool_show)
    actions = spool.add_subparsers(title="actions", metavar="ACTION")
    again = actions.add_parser("retry", help="deliver again what was set aside")
    again.add_argument("numbers", nargs="*", type=int, metavar="NUMBER", help="only these (default: all)")
    again.set_defaults(command=_spool_retry)
    take = actions.add_parser("export", help="write the pictures in the spool to a folder; it keeps them")
    take.add_argument("folder", type=Path, metavar="DIR")
    take.add_argument("--aside", action="store_true", help="only those that were set aside")
    take.set_defaults(command=_spool_export)

    schema = commands.add_parser("schema", help="print the JSON Schemas of what is published")
    schema.add_argument("name", nargs="?", choices=SCHEMAS, help="only this one")
    schema.set_defaults(command=_schema)
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text}: expected a number from 1 on")
    return number


def _missing(library: str) -> str:
    if library not in OPENCV_LIBRARIES:
        return f"the shared library {library} is missing on this system: install the package that has it"
    # All of them: the loader names only the first.
    return (
        f"the shared library {library} is missing, which OpenCV needs:"
        f" apt-get install {OPENCV_PACKAGES} (Debian, Ubuntu)"
    )


def _cost(text: str) -> float:
    cost = float(text)
    if not 0 < cost < 1e6:
        raise argparse.ArgumentTypeError(f"{text}: expected a number above 0")
    return cost


def _say(line: str) -> None:
    print(line, file=sys.stderr)


def _load(args: argparse.Namespace) -> Any:
    from async_motion.settings import load

    return load(args.config, os.environ)


def _health(args: argparse.Namespace) -> int:
    from async_motion.cli.health import health

    return health(args.config)


def _run(args: argparse.Namespace) -> int:
    settings = _load(args)
    from async_motion.app.liveness import Liveness, socket_name
    from async_motion.app.service import serve
    from async_motion.logs import setup_logging

    setup_logging(settings.log.level, settings.log.format, settings.secrets())
    return run_async(serve(settings, Liveness(address=socket_name(args.config, os.environ))))


def _check(args: argparse.Namespace) -> int:
    settings = _load(args)
    from async_motion.cli.check import check
    from async_motion.logs import setup_logging

    # The findings say it all; the rooms' own words would come between them.
    setup_logging("error", settings.log.format, settings.secrets())
    return run_async(check(settings, probe=args.probe, as_json=args.json))


def _listen(args: argparse.Namespace) -> int:
    settings = _load(args)
    from async_motion.cli.listen import listen
    from async_motion.logs import setup_logging

    setup_logging("warning", settings.log.format, settings.secrets())
    return run_async(
        listen(
            settings,
            as_json=args.json,
            save=args.save,
            camera=args.camera,
            all_instances=args.all_instances,
            count=args.count,
        )
    )


def _tune(args: argparse.Namespace) -> int:
    settings = _load(args) if args.camera is not None or args.config is not None else None
    from async_motion.tune import present, tune

    return tune(
        args.files,
        present(settings, args.camera, night=args.night),
        labels=args.labels,
        as_json=args.json,
        miss_cost=args.miss_cost,
    )


def _spool_show(args: argparse.Namespace) -> int:
    from async_motion.cli.spool import show

    return show(_spool_path(args), as_json=args.json)


def _spool_retry(args: argparse.Namespace) -> int:
    from async_motion.cli.spool import retry

    return retry(_spool_path(args), args.numbers)


def _spool_export(args: argparse.Namespace) -> int:
    from async_motion.cli.spool import export

    return export(_spool_path(args), args.folder, aside_only=args.aside)


def _spool_path(args: argparse.Namespace) -> Path:
    """Return which spool is meant. The settings need not be right to save what is in one."""
    if args.path is not None:
        return Path(args.path)
    path = _load(args).spool.path
    if path == ":memory:":
        raise UsageError("spool.path is :memory:, which only the running service can see, expected a file")
    return Path(path)


def _schema(args: argparse.Namespace) -> int:
    names = (args.name,) if args.name else SCHEMAS
    folder = resources.files("async_motion") / "schemas"
    texts = [(folder / f"{name}-1.json").read_text(encoding="utf-8").rstrip() for name in names]
    print(texts[0] if args.name else "[\n" + ",\n".join(texts) + "\n]")
    return 0
