"""`async-motion run`: the service."""

from __future__ import annotations

import argparse
import os

from async_motion.app.liveness import Liveness, socket_name
from async_motion.app.service import serve
from async_motion.cli.loop import run_async
from async_motion.logs import setup_logging
from async_motion.settings import load


def main(args: argparse.Namespace) -> int:
    """Run the service until it is stopped; return the exit code."""
    settings = load(args.config, os.environ)
    setup_logging(settings.log.level, settings.log.format, settings.secrets())
    return run_async(serve(settings, Liveness(address=socket_name(args.config, os.environ))))
