"""The listening socket: systemd's if it passes one; `::` accepts IPv4 and IPv6."""

from __future__ import annotations

import os
import socket

import pytest

from async_motion.web import listening


@pytest.fixture
def passed(monkeypatch: pytest.MonkeyPatch) -> socket.socket:
    """Return a listening socket whose descriptor is taken for the first that systemd passes."""
    made = socket.create_server(("127.0.0.1", 0))
    monkeypatch.setattr(listening, "FIRST_FD", made.fileno())
    return made


def test_a_socket_of_systemd_is_taken_once(monkeypatch: pytest.MonkeyPatch, passed: socket.socket) -> None:
    address = passed.getsockname()
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
    monkeypatch.setenv("LISTEN_FDS", "1")
    taken = listening.listening_socket("127.0.0.1", 8080)
    assert taken is not None
    with taken:
        passed.detach()
        assert taken.getsockname() == address
        assert not taken.getblocking()
        assert listening.inherited_socket() is None, "a restarted page opens its own"


@pytest.mark.parametrize("env", [{}, {"LISTEN_PID": "1", "LISTEN_FDS": "1"}, {"LISTEN_FDS": "x"}])
def test_a_socket_for_another_process_is_not_taken(
    monkeypatch: pytest.MonkeyPatch, env: dict[str, str]
) -> None:
    monkeypatch.delenv("LISTEN_PID", raising=False)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    assert listening.inherited_socket() is None
    assert listening.listening_socket("127.0.0.1", 0) is None, "the event loop opens it"


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")
def test_all_addresses_include_ipv4() -> None:
    made = listening.listening_socket("::", 0)
    assert made is not None
    with made, socket.create_connection(("127.0.0.1", made.getsockname()[1]), timeout=5):
        pass
