"""Open the listening socket of the pages, or take the one that systemd passed."""

from __future__ import annotations

import os
import socket

FIRST_FD = 3
"""The first descriptor that systemd passes (SD_LISTEN_FDS_START of sd_listen_fds)."""


def listening_socket(host: str, port: int) -> socket.socket | None:
    """Return a socket that is ready to listen, or None if the event loop can open `host` and `port` itself.

    For `::` the socket is dual-stack, so that IPv4 works too; asyncio would listen on IPv6 alone. Raises
    OSError if it cannot be opened.
    """
    passed = inherited_socket()
    if passed is not None:
        return passed
    if host == "::" and socket.has_dualstack_ipv6():
        return socket.create_server((host, port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=16)
    return None


def inherited_socket() -> socket.socket | None:
    """Return the socket that systemd's `.socket` unit passed; None on later calls, or if there is none."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return None
    count = os.environ.pop("LISTEN_FDS", "")
    os.environ.pop("LISTEN_PID", None)
    if not count.isdecimal() or int(count) < 1:
        return None
    passed = socket.socket(fileno=FIRST_FD)
    passed.setblocking(False)
    return passed
