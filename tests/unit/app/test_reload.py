"""What a change of the settings does to a running service: as little as it can, and never in silence."""

from __future__ import annotations

from typing import Any

import pytest

from async_motion.app.reload import Plan, plan_of
from async_motion.settings import Settings

CAMERAS: dict[str, dict[str, Any]] = {
    "porch": {"source": "demo:"},
    "yard": {"source": "demo:"},
    "attic": {"source": "demo:", "enabled": False},
}


def settings(**changes: Any) -> Settings:
    """Return settings with changes of sections; `cameras` are laid over those above."""
    given: dict[str, dict[str, Any]] = changes.pop("cameras", {})
    cameras: dict[str, Any] = {}
    for name, values in given.items():
        cameras[name] = {**CAMERAS.get(name, {}), **values}
    return Settings.model_validate({"instance": "edge1", **changes, "cameras": {**CAMERAS, **cameras}})


def porch(**values: Any) -> Plan:
    return plan_of(settings(), settings(cameras={"porch": values}))


@pytest.mark.parametrize(
    "values",
    [
        {"detect": {"min_area": "1%"}},
        {"detect": {"sensitivity": "high"}},
        {"detect": {"zones": {"drive": {"polygon": [[0, 0], [1, 0], [1, 1]]}}}},
        {"detect": {"enabled": False}},
        {"name": "Front porch"},
        {"event": {"off_delay": "3s"}},
        {"jpeg": {"quality": 70}},
        {"profiles": {"night": {"sensitivity": "low"}}},
    ],
)
def test_detection_and_events_change_in_place(values: dict[str, Any]) -> None:
    assert porch(**values) == Plan(changed=("porch",))


@pytest.mark.parametrize(
    "values",
    [{"source": "usb:0"}, {"capture": {"threads": 2}}, {"detect": {"fps": 3}}, {"record_source": "demo:"}],
)
def test_capture_restarts_its_camera_alone(values: dict[str, Any]) -> None:
    assert porch(**values) == Plan(restarted=("porch",))


def test_cameras_come_and_go() -> None:
    new = settings(
        cameras={"porch": {"enabled": False}, "attic": {"enabled": True}, "gate": {"source": "demo:"}}
    )
    assert plan_of(settings(), new) == Plan(added=("attic", "gate"), removed=("porch",))


@pytest.mark.parametrize(
    ("changes", "plan"),
    [
        ({}, Plan()),
        ({"shutdown_grace": "3s"}, Plan()),
        ({"web": {"port": 9000}}, Plan(page=True)),
        ({"log": {"level": "debug"}}, Plan(fixed=("log",))),
        ({"mqtt": {"port": 2000}}, Plan(whole=("mqtt",))),
        ({"instance": "edge2", "minio": {"bucket": "other"}}, Plan(whole=("instance", "minio"))),
    ],
)
def test_sections(changes: dict[str, Any], plan: Plan) -> None:
    assert plan_of(settings(), settings(**changes)) == plan


def test_what_cannot_change_is_said_by_name() -> None:
    assert Plan(fixed=("log",)).words() == ["log: not changed while running; restart the process"]
    assert Plan().words() == ["nothing has changed"]
