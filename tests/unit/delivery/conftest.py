"""Fixtures for the tests of delivery."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.support.delivering import Bench


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    bench = Bench()
    async with bench.spool:
        yield bench
