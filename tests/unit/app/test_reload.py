"""The plan for a change of the settings: restart as little as possible, and report each effect."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from pydantic import BaseModel

from async_motion.app import reload
from async_motion.app.reload import Plan, plan_of
from async_motion.settings import Settings
from tests.support.clock import Clock

CAMERAS: dict[str, dict[str, Any]] = {
    "porch": {"source": "demo:"},
    "yard": {"source": "demo:"},
    "attic": {"source": "demo:", "enabled": False},
}


def settings(**changes: Any) -> Settings:
    """Return settings with these sections changed; `cameras` is merged into `CAMERAS`."""
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
        ({"web": {"port": 9000}}, Plan(page=("web.port",))),
        ({"log": {"level": "debug"}}, Plan(fixed=("log.level",))),
        ({"minio": {"bucket": "other"}}, Plan(store=("minio.bucket",))),
        ({"directory": {"keep": {"days": 3}}}, Plan(store=("directory.keep",))),
        ({"spool": {"backlog_share": "20%"}}, Plan(store=("spool.backlog_share",))),
        ({"mqtt": {"keepalive": "60s"}}, Plan(broker=("mqtt.keepalive",))),
        ({"mqtt": {"port": 2000}}, Plan(whole=("mqtt.port",))),
        ({"mqtt": {"host": "broker.lan"}}, Plan(whole=("mqtt.host",))),
        (
            {"minio": {"prefix": "a/", "bucket": "other"}},
            Plan(store=("minio.bucket",), whole=("minio.prefix",)),
        ),
        ({"spool": {"path": ":memory:"}, "instance": "b"}, Plan(whole=("instance", "spool.path"))),
    ],
)
def test_sections(changes: dict[str, Any], plan: Plan) -> None:
    assert plan_of(settings(), settings(**changes)) == plan


def test_an_external_broker_is_replaced_by_another() -> None:
    old, new = (settings(mqtt={"host": host, "port": port}) for host, port in (("a.lan", 1883), ("b.lan", 2)))
    assert plan_of(old, new) == Plan(broker=("mqtt.host", "mqtt.port"))


@pytest.mark.parametrize(
    ("changes", "others"),
    [
        ({"location": {"latitude": 48.1, "longitude": 11.6}}, {}),
        ({"mqtt": {"snapshot": {"quality": 60}}}, {"store": ("mqtt.snapshot",)}),
    ],
)
def test_what_every_camera_reads_changes_in_place(changes: dict[str, Any], others: dict[str, Any]) -> None:
    assert plan_of(settings(), settings(**changes)) == Plan(changed=("porch", "yard"), **others)


def test_every_key_outside_a_camera_is_somewhere() -> None:
    """A key in none of the tables restarts everything; the keys meant to do so are listed here."""
    sections = {name: field.annotation for name, field in Settings.model_fields.items() if name != "cameras"}
    keys = [
        f"{name}.{key}" if isinstance(section, type) and issubclass(section, BaseModel) else name
        for name, section in sections.items()
        for key in getattr(section, "model_fields", {"": None})
    ]
    known = (*reload.FIXED, *reload.LATER, *reload.PAGE, *reload.STORE, *reload.BROKER, *reload.CAMERAS)
    loose = {key for key in keys if not any(key == one or key.startswith(f"{one}.") for one in known)}
    names = {"instance", "mqtt.base_topic", "mqtt.discovery", "mqtt.frigate_topic", "mqtt.state_every"}
    assert {key for key in loose if not key.startswith("fleet.")} == names | {
        "spool.path", "spool.max_bytes", "spool.max_age", "spool.when_full", "spool.delayed_after"
    }  # fmt: skip


def test_what_cannot_change_is_reported_by_name() -> None:
    assert Plan(fixed=("log.level",)).words() == ["log.level: not changed while running; restart the process"]
    assert Plan().words() == ["nothing has changed"]
    parts = Plan(page=("web.port",), store=("minio.bucket",), broker=("mqtt.tls",))
    assert parts.words() == [
        "minio.bucket: the store is reopened",
        "mqtt.tls: the broker is reconnected",
        "web.port: the page restarts",
    ]
    whole = Plan(page=("web.port",), whole=("instance",))
    assert whole.words() == ["instance: all parts of the service restart, open events end"]


async def test_a_flood_of_requests_is_merged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reload, "RELOAD_POLL_S", 0.0)
    clock = Clock()
    wanted = asyncio.Event()
    requests = reload.ReloadRequests(wanted, clock=clock)
    for _ in range(requests.BURST):
        wanted.set()
        wanted.set()
        await requests.next()
        assert not wanted.is_set()
    wanted.set()
    waiting = asyncio.ensure_future(requests.next())
    for _ in range(9):
        await asyncio.sleep(0)
    assert not waiting.done()
    clock.sleep(requests.EVERY_S)
    async with asyncio.timeout(30):
        await waiting
