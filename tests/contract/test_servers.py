"""The kit's own S3 servers: a port that another process takes between the choice and the start."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import pytest

from tests.support import s3
from tests.support.ports import free_ports


@pytest.mark.parametrize("run", [s3.seaweedfs, s3.juicefs])
def test_a_server_whose_port_is_taken_starts_on_another(
    run: Callable[[Path], AbstractContextManager[s3.S3Server]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    chosen: list[list[int]] = []
    with ExitStack() as held:

        def choose(count: int) -> list[int]:
            chosen.append(free_ports(count))
            if len(chosen) == 1:
                stranger = held.enter_context(socket.socket())
                stranger.bind(("127.0.0.1", chosen[0][0]))
                stranger.listen()
            return chosen[-1]

        monkeypatch.setattr(s3, "free_ports", choose)
        with run(tmp_path) as server:
            assert server.port == chosen[1][0]
            assert server.make_bucket()
