"""Skip a test if the machine lacks something that it needs; on CI, fail it."""

from __future__ import annotations

import os

import pytest


def need(there: bool, what: str) -> None:
    """Skip the test unless `there`; on CI, where nothing may be missing, fail it."""
    if there:
        return
    if os.environ.get("CI"):
        pytest.fail(f"missing on CI: {what}")
    pytest.skip(f"needs {what}")
