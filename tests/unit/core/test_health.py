"""The health of store and broker, as a value and as text for the log."""

from __future__ import annotations

import pytest

from async_motion.core.health import PeerHealth, PeerState


@pytest.mark.parametrize(
    ("health", "ok", "line"),
    [
        (PeerHealth(), True, "ok"),
        (PeerHealth(state=PeerState.UNAVAILABLE, problem="no answer"), False, "unavailable: no answer"),
        (PeerHealth(state=PeerState.REFUSED, problem="wrong key"), False, "refused: wrong key"),
    ],
)
def test_a_peer(health: PeerHealth, ok: bool, line: str) -> None:
    assert health.ok is ok
    assert str(health) == line
