"""The socket on which the pages are served: one that systemd passed on, or one of our own."""

from __future__ import annotations

import os
import socket

FIRST_FD = 3
"""systemd's: descriptors that are passed on begin here (sd_listen_fds)."""


def listening_socket(host: str, port: int) -> socket.socket | None:
    """Return a socket that is ready to listen, or None where the event loop is to open `host` and `port`.

    `::` is every address of this machine, also its IPv4 ones, as people expect; asyncio would leave those
    out. Raises OSError when it cannot be opened.
    """
    passed = inherited_socket()
    if passed is not None:
        return passed
    if host == "::" and socket.has_dualstack_ipv6():
        return socket.create_server((host, port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=16)
    return None


def inherited_socket() -> socket.socket | None:
    """Return the socket that systemd's `.socket` unit passed on, once; None where there is none."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return None
    count = os.environ.pop("LISTEN_FDS", "")
    os.environ.pop("LISTEN_PID", None)
    if not count.isdecimal() or int(count) < 1:
        return None
    passed = socket.socket(fileno=FIRST_FD)
    passed.setblocking(False)
    return passed
