"""The metrics: they match the state, and omit what it lacks."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.unit.web.kit import FLEET, Stage, camera, get, serving


async def metrics(stage: Stage) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    async with serving(stage) as session:
        status, text = await get(session, "/metrics")
    assert status == 200
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def test_metrics_say_what_the_state_says() -> None:
    found = await metrics(Stage(broker={"problem": "away"}))
    porch = ("camera", "porch")
    expected: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {
        ("async_motion_info", (("instance_name", "edge1"), ("version", "0.1.0"))): 1,
        ("async_motion_start_time_seconds", ()): datetime(2026, 11, 22, 4, 31, 12, tzinfo=UTC).timestamp(),
        ("async_motion_part_up", (("part", "store"),)): 1,
        ("async_motion_part_up", (("part", "broker"),)): 0,
        ("async_motion_spool_records", ()): 3,
        ("async_motion_spool_oldest_age_seconds", ()): 12.5,
        ("async_motion_spool_accepted_total", ()): 40,
        ("async_motion_spool_dropped_total", (("reason", "age"),)): 2,
        ("async_motion_spool_dropped_total", (("reason", "full"),)): 1,
        ("async_motion_announced_frames_total", ()): 37,
        ("async_motion_upload_seconds", (("percentile", "p50"),)): 0.02,
        ("async_motion_camera_up", (porch,)): 1,
        ("async_motion_camera_problem", (porch,)): 0,
        ("async_motion_camera_frames_total", (porch,)): 1000,
        ("async_motion_camera_dropped_frames_total", (porch, ("reason", "too_slow"))): 5,
        ("async_motion_camera_connections_total", (porch,)): 3,
        ("async_motion_camera_stalls_total", (porch,)): 2,
        ("async_motion_camera_abandoned_readers_total", (porch,)): 1,
        ("async_motion_camera_stream_changes_total", (porch,)): 4,
        ("async_motion_camera_last_motion_timestamp_seconds", (porch,)): datetime(
            2026, 11, 22, 7, 21, 12, tzinfo=UTC
        ).timestamp(),
    }
    assert {key: found.get(key) for key in expected} == expected
    assert ("async_motion_upload_seconds", (("percentile", "p99"),)) not in found, "not known yet"
    assert found["async_motion_event_loop_lag_seconds", ()] >= 0
    assert found["process_resident_memory_bytes", ()] > 0


async def test_a_fleet_has_metrics_of_its_own() -> None:
    found = await metrics(Stage(fleet=FLEET))
    east = ("worker", "east")
    assert found["async_motion_part_up", (("part", "fleet"),)] == 0
    assert found["async_motion_fleet_unowned_cameras", ()] == 1
    assert found["async_motion_fleet_worker_capacity_cores", (east,)] == 4
    assert found["async_motion_fleet_worker_cameras", (east,)] == 2
    assert found["async_motion_fleet_camera_epoch", (("camera", "porch"), east)] == 41
    alone = await metrics(Stage())
    assert not any("fleet" in name or ("part", "fleet") in labels for name, labels in alone)


async def test_a_camera_offline_is_down() -> None:
    found = await metrics(Stage(cameras={"porch": camera(status="offline", problem="no answer")}))
    assert found["async_motion_camera_up", (("camera", "porch"),)] == 0
    assert found["async_motion_camera_problem", (("camera", "porch"),)] == 1


@pytest.mark.parametrize(
    "strange",
    [{}, {"spool": None, "cameras": None}, {"spool": "ok", "started_at": "then"}, {"cameras": {"a": {}}}],
)
async def test_what_is_missing_in_the_state_is_left_out(strange: dict[str, Any]) -> None:
    stage = Stage()
    stage.state.state = strange
    async with serving(stage) as session:
        for path in ("/", "/metrics", "/readyz", "/healthz"):
            assert (await get(session, path))[0] == 200, path


async def test_openmetrics_is_served_on_request() -> None:
    async with serving(Stage()) as session:
        accept = {"Accept": "application/openmetrics-text; version=1.0.0"}
        async with session.get("/metrics", headers=accept) as answer:
            assert answer.headers["Content-Type"].startswith("application/openmetrics-text")
            assert (await answer.text()).endswith("# EOF\n")


async def test_two_servers_do_not_share_a_registry() -> None:
    one, two = await metrics(Stage(instance="one")), await metrics(Stage(instance="two"))
    assert any("one" in str(key) for key in one)
    assert not any("one" in str(key[1]) for key in two)
