"""The address at which `async-motion health` finds the service."""

from __future__ import annotations

from pathlib import Path

import pytest

from async_motion.app.health_socket import socket_name


def test_the_name_depends_on_the_settings_file_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    here = socket_name(None, {})
    assert here == socket_name(Path("config/processor/variables.yaml"), {"ASYNC_MOTION_CONFIG": "/etc/other"})
    assert here == socket_name(None, {"ASYNC_MOTION__WEB__PORT": "9000", "ASYNC_MOTION_CONFIG": ""})
    monkeypatch.chdir("/")
    assert here != socket_name(None, {})
