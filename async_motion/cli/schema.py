"""`async-motion schema`: the JSON Schemas of what is published."""

from __future__ import annotations

import argparse
from importlib import resources

NAMES = ("frame", "event", "event_summary", "state", "camera_state")


def main(args: argparse.Namespace) -> int:
    """Print one schema, or a list of all."""
    names = (args.name,) if args.name else NAMES
    folder = resources.files("async_motion") / "schemas"
    texts = [(folder / f"{name}-1.json").read_text(encoding="utf-8").rstrip() for name in names]
    print(texts[0] if args.name else "[\n" + ",\n".join(texts) + "\n]")
    return 0
