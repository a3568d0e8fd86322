"""`async-motion check`: validate the settings; with `--probe` also test cameras, store and broker."""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import asdict

from async_motion.app import specs
from async_motion.app.probe import Finding, probe
from async_motion.cli.log_setup import log_as_set
from async_motion.cli.loop import run_async
from async_motion.settings import Settings, load


def main(args: argparse.Namespace) -> int:
    """Run the command; return its exit code."""
    settings = load(args.config, os.environ)
    # The findings report every failure; warnings from the probed parts would only interleave with them.
    log_as_set(settings, "error")
    return run_async(check(settings, with_probe=args.probe, as_json=args.json))


async def check(settings: Settings, *, with_probe: bool, as_json: bool) -> int:
    """Print that the settings are valid, then the findings of a probe. Return 1 if any failed, else 0."""
    _print(Finding(what="settings", ok=True, text=specs.summary(settings)), as_json)
    failed = False
    if with_probe:
        async for finding in probe(settings):
            _print(finding, as_json)
            failed = failed or finding.ok is False
    return 1 if failed else 0


def _print(finding: Finding, as_json: bool) -> None:
    if as_json:
        print(json.dumps(asdict(finding), ensure_ascii=False), flush=True)
        return
    mark = {True: "ok  ", False: "FAIL", None: "note"}[finding.ok]
    print(f"{mark}  {finding.what}: {finding.text}", flush=True)
