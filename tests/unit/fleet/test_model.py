"""The margins of a lease, from its time to live."""

from __future__ import annotations

import pytest

from async_motion.fleet.model import FleetSettings


@pytest.mark.parametrize(("ttl_s", "margin_s"), [(2.0, 0.5), (6.0, 1.5), (60.0, 1.5)])
def test_a_camera_is_stopped_then_cut_before_its_lease_ends(ttl_s: float, margin_s: float) -> None:
    settings = FleetSettings(worker="a", cameras=(), capacity=1.0, fingerprint="", ttl_s=ttl_s)
    assert settings.margin_s == margin_s
    assert 0 < settings.cut_s < settings.margin_s < ttl_s - ttl_s / 3, "one renewal may fail"
