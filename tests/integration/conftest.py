"""Fixtures for tests of cameras over RTSP."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import rtsp
from tests.support.video import make_clip


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording of 40 s at 15 fps, with a keyframe every second."""
    return make_clip(tmp_path_factory.mktemp("clips") / "clip.mp4", seconds=40, fps=15, gop=15)


@pytest.fixture(scope="module")
def units(clip: Path) -> list[rtsp.AccessUnit]:
    """The same recording as access units, as a camera sends it."""
    return rtsp.access_units(clip)
