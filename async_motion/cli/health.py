"""`async-motion health`: check whether the service on this host is alive, for container health checks.

It runs every few seconds, so it imports neither the settings nor an event loop.
"""

from __future__ import annotations

import argparse
import os
import socket
import sys

from async_motion.app.health_socket import ANSWER, socket_name

TIMEOUT_S = 4.0
"""Seconds within which the service's event loop must answer."""


def main(args: argparse.Namespace) -> int:
    """Return 0 if the service that was started with these settings answers, else print why and return 1."""
    address = socket_name(args.config, os.environ)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as peer:
            peer.settimeout(TIMEOUT_S)
            peer.connect(address)
            answer = peer.recv(len(ANSWER))
    except TimeoutError:
        print(f"async-motion: the service has not answered within {TIMEOUT_S:.0f} s", file=sys.stderr)
        return 1
    except BlockingIOError:
        # The socket's queue is full of checks that the service has not accepted.
        print("async-motion: the service has answered none of the last checks", file=sys.stderr)
        return 1
    except OSError:
        print("async-motion: no service runs here with these settings", file=sys.stderr)
        return 1
    if answer != ANSWER:
        print("async-motion: the service is ending", file=sys.stderr)
        return 1
    print("alive")
    return 0
