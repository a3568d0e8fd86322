"""`async-motion tune`: try settings on labelled clips."""

from __future__ import annotations

import argparse
import os

from async_motion.settings import load
from async_motion.tune import present, tune


def main(args: argparse.Namespace) -> int:
    """Try settings on clips and print the findings; return the exit code."""
    wanted = args.camera is not None or args.config is not None
    settings = load(args.config, os.environ) if wanted else None
    return tune(
        args.files,
        present(settings, args.camera, night=args.night),
        labels=args.labels,
        as_json=args.json,
        miss_cost=args.miss_cost,
    )
