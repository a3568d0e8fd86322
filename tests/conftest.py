"""Fixtures shared by several test folders. Servers start on first use, once for the whole run."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
import structlog

from async_motion.logs import QUIET
from tests.support import s3, tls

# CI must be reproducible: the same commit draws the same examples. Elsewhere new ones are drawn.
# No deadline: a slow machine is not a fault of the code.
PATIENT = hypothesis.settings(deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.register_profile("patient", PATIENT)
hypothesis.settings.register_profile("ci", PATIENT, derandomize=True, print_blob=True)
hypothesis.settings.load_profile("patient")
if os.environ.get("CI"):
    hypothesis.settings.load_profile("ci")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the modules whose tests may take longest: at the end, the others would wait for them."""
    longest: dict[Path, float] = {}
    for item in items:
        mark = item.get_closest_marker("timeout")
        longest[item.path] = max(longest.get(item.path, 0), mark.args[0] if mark is not None else 0)
    items.sort(key=lambda item: -longest[item.path])


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    """Undo changes that a command run in this process makes to logging: the next test reads the log, too."""
    root = logging.getLogger()
    levels = {name: logging.getLogger(name).level for name in ("", *QUIET)}
    yield
    logging.captureWarnings(False)
    for handler in root.handlers[:]:
        if isinstance(handler.formatter, structlog.stdlib.ProcessorFormatter):
            root.removeHandler(handler)
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


@pytest.fixture(scope="session")
def seaweedfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[s3.S3Server]:
    """A running SeaweedFS. A test that pauses or kills it restores it."""
    with s3.seaweedfs(tmp_path_factory.mktemp("seaweedfs")) as server:
        yield server


@pytest.fixture(scope="session")
def juicefs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[s3.S3Server]:
    """A running gateway of JuiceFS. A test that pauses or kills it restores it."""
    with s3.juicefs(tmp_path_factory.mktemp("juicefs")) as server:
        yield server


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tls.Authority:
    """A self-made certificate authority, with a certificate for 127.0.0.1 and localhost."""
    return tls.make_authority(tmp_path_factory.mktemp("authority"))
