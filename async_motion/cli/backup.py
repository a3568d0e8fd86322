"""`async-motion backup` and `restore`: settings and spool in one file, restored here or on another host."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from async_motion.cli.events import Parsers


def add_parser(commands: Parsers, config: argparse.ArgumentParser) -> None:
    """Add both commands to the command line."""
    backup = commands.add_parser(
        "backup", parents=[config], help="write settings and spool into one file, also while the service runs"
    )
    backup.add_argument("file", type=Path, metavar="FILE", help="a new file; it holds your secrets")
    backup.set_defaults(command=_backup)
    restore = commands.add_parser(
        "restore",
        parents=[config],
        help="restore settings and spool from a backup; stop the service first",
    )
    restore.add_argument("file", type=Path, metavar="FILE")
    restore.add_argument(
        "--replace",
        action="store_true",
        help="replace settings and spool that are there; they are kept beside the new ones",
    )
    restore.set_defaults(command=_restore)


def _backup(args: argparse.Namespace) -> int:
    from async_motion.app import backup

    for line in backup.backup(args.config, os.environ, args.file):
        print(line)
    print(f"wrote {args.file}: keep it safe, it holds the secrets of the settings")
    return 0


def _restore(args: argparse.Namespace) -> int:
    from async_motion.app import backup

    for line in backup.restore(args.file, args.config, os.environ, replace=args.replace):
        print(line)
    return 0
