"""One Home Assistant and one broker for all tests here, and a lab for each test."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.home_assistant.ha_harness import HomeAssistant
from tests.home_assistant.lab import Home, Lab
from tests.support.mqtt import Mosquitto

HERE = Path(__file__).parent

CONFIGURATION = """\
automation: !include automations.yaml
lovelace:
input_boolean:
  siren:
  moving:
input_datetime:
  siren_ends:
    has_date: true
    has_time: true
alarm_control_panel:
  - platform: manual
    name: Panel
    arming_time: 0
    code_arm_required: false
script:
  tell:
    sequence:
      - event: lab_told
        event_data:
          title: "{{ title }}"
          message: "{{ message }}"
          data: "{{ data | default({}) }}"
"""
"""Entities for the tests' automations: a siren, an alarm panel, and a script in place of a phone."""


MAX_SECONDS = 4 * 3600
"""The watchdog of one Home Assistant for all tests: longer than they take on the slowest machine."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.home_assistant)
            item.add_marker(pytest.mark.timeout(600))


@pytest.fixture(scope="session")
def ha_python() -> str:
    """The interpreter of Home Assistant's own virtual environment."""
    python = os.environ.get("HA_PYTHON")
    if python:
        return python
    message = "HA_PYTHON is not set: tests/home_assistant/make_venv.sh makes the environment"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)


@pytest.fixture(scope="session")
def home(ha_python: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """A running Home Assistant with its broker. A test that stops one of them starts it again."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "config").mkdir()
    (folder / "config" / "automations.yaml").write_text("[]\n")
    with (
        Mosquitto(folder / "broker") as broker,
        HomeAssistant(
            mqtt_port=broker.port,
            python=ha_python,
            workdir=folder,
            log_level="warning",
            extra_yaml=CONFIGURATION,
            max_seconds=MAX_SECONDS,
        ) as ha,
    ):
        yield Home(ha=ha, broker=broker)


@pytest.fixture
def lab(home: Home, tmp_path: Path) -> Iterator[Lab]:
    """A lab for one service with its camera. Afterwards, log records that were not accepted fail the test."""
    with Lab(home, tmp_path) as lab:
        yield lab
