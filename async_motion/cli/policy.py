"""`async-motion policy`: print the least privileges that the settings need, for a server of each kind."""

from __future__ import annotations

import argparse
import json
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from async_motion.cli.events import Parsers

SERVERS = ("minio", "aws", "mosquitto", "nats")


def add_parser(commands: Parsers, config: argparse.ArgumentParser) -> None:
    """Add the command to the command line."""
    parser = commands.add_parser(
        "policy", parents=[config], help="print the least privileges that the settings need"
    )
    parser.add_argument(
        "server",
        choices=SERVERS,
        help="minio, aws: a policy as JSON; mosquitto: lines of an access list; nats: a user's permissions",
    )
    parser.add_argument(
        "--reader", action="store_true", help="for the page, `events`, `get`, `fleet` and programs that read"
    )
    parser.set_defaults(command=main)


def main(args: argparse.Namespace) -> int:
    """Run the command; return its exit code."""
    from async_motion.app import rights
    from async_motion.settings import Unresolved, load

    # The policy may be what is missing to fetch them.
    settings = load(args.config, os.environ, references=Unresolved())
    if args.server == "mosquitto":
        print(rights.mosquitto_acl(settings, reader=args.reader), end="")
    elif args.server == "nats":
        print(rights.nats_permissions(settings, reader=args.reader), end="")
    else:
        policy = rights.s3_policy(settings, reader=args.reader, aws=args.server == "aws")
        print(json.dumps(policy, indent=2))
    return 0
