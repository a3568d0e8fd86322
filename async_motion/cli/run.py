"""`async-motion run`: run the service."""

from __future__ import annotations

import argparse
import os

from async_motion.app.editor import SettingsFile
from async_motion.app.health_socket import socket_name
from async_motion.app.liveness import Liveness
from async_motion.app.service import serve
from async_motion.cli.log_setup import log_as_set
from async_motion.cli.loop import run_async
from async_motion.logs import flush_logging


def main(args: argparse.Namespace) -> int:
    """Run the service until it is stopped; return the exit code."""
    file = SettingsFile(config=args.config, env=os.environ)
    settings = file.load()
    # The spool and the stored frames must not be readable by other users.
    os.umask(os.umask(0o077) | 0o007)
    log_as_set(settings, settings.log.level, service=True)
    try:
        return run_async(serve(settings, Liveness(address=socket_name(args.config, os.environ)), file))
    finally:
        flush_logging()
