"""What a test needs of the machine: skipped where it is missing, but never on CI."""

from __future__ import annotations

import os

import pytest


def need(there: bool, what: str) -> None:
    """Skip the test when `what` is missing here; fail it on CI, where everything must be there."""
    if there:
        return
    if os.environ.get("CI"):
        pytest.fail(f"missing on CI: {what}")
    pytest.skip(f"needs {what}")
