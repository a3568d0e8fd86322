"""`async-motion schema`: print the JSON Schemas of messages and stored objects, or an AsyncAPI document."""

from __future__ import annotations

import argparse
import json
from importlib import resources

NAMES = ("frame", "event", "event_summary", "index_line", "day_log", "state", "camera_state")


def main(args: argparse.Namespace) -> int:
    """Print one schema, a list of all, or the AsyncAPI document; return 0."""
    if args.asyncapi:
        from async_motion import __version__
        from async_motion.core import asyncapi

        schemas = {name: json.loads(_text(name)) for name in asyncapi.SCHEMAS}
        print(json.dumps(asyncapi.document(schemas, version=__version__), indent=2, ensure_ascii=False))
        return 0
    names = (args.name,) if args.name else NAMES
    texts = [_text(name) for name in names]
    print(texts[0] if args.name else "[\n" + ",\n".join(texts) + "\n]")
    return 0


def _text(name: str) -> str:
    folder = resources.files("async_motion") / "schemas"
    return (folder / f"{name}-1.json").read_text(encoding="utf-8").rstrip()
