"""Spool fixtures: on disk and in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from async_motion.spool import Spool
from tests.support.clock import Clock
from tests.support.spooling import new_spool


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "spool.db"


@pytest.fixture(params=["disk", ":memory:"])
async def spool(request: pytest.FixtureRequest, path: Path, clock: Clock) -> AsyncIterator[Spool]:
    async with new_spool(path if request.param == "disk" else request.param, clock) as spool:
        yield spool
