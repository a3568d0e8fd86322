"""Free TCP ports of the loopback interface."""

from __future__ import annotations

import contextlib
import random
import socket

BELOW_EPHEMERAL = range(15_000, 30_000)
"""Linux gives outgoing connections ports from 32768 on, also the one that a stopped server has left."""


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that is free now, and that no outgoing connection takes."""
    return free_ports(1)[0]


def free_ports(count: int) -> list[int]:
    """Return `count` different ports, each as `free_port` does."""
    ports: list[int] = []
    with contextlib.ExitStack() as held:
        while len(ports) < count:
            port = random.choice(BELOW_EPHEMERAL)
            sock = held.enter_context(socket.socket())
            with contextlib.suppress(OSError):
                sock.bind(("127.0.0.1", port))
                ports.append(port)
    return ports
