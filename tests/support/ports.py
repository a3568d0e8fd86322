"""Free TCP ports of the loopback interface."""

from __future__ import annotations

import random
import socket

BELOW_EPHEMERAL = range(15_000, 30_000)
"""Linux gives outgoing connections ports from 32768 on."""


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that is free now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def listener_port() -> int:
    """Return a free TCP port that no outgoing connection takes, so that a server can restart on it."""
    while True:
        port = random.choice(BELOW_EPHEMERAL)
        with socket.socket() as sock:
            try:
                sock.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
