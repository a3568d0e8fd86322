"""Recordings, specs and outcomes for the tests of scan."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from async_motion.scan import Recording, ScanSpec, specs_for
from async_motion.settings import Settings
from tests.support.video import make_clip

START = datetime(2026, 3, 1, 12, tzinfo=UTC)


def settings_in(folder: Path, **camera: Any) -> Settings:
    """Return settings with one camera, `porch`, and a directory for a store."""
    return Settings.model_validate(
        {
            "instance": "edge1",
            "directory": {"path": str(folder / "objects")},
            "cameras": {"porch": {"source": "rtsp://u:very-secret@cam/1", **camera}},
        }
    )


def clip_in(folder: Path, name: str = "20260301_120000.mp4", *, start_s: float = 2.0) -> Path:
    """Write a clip of 8 s in which a box crosses."""
    folder.mkdir(parents=True, exist_ok=True)
    return make_clip(folder / name, seconds=8, start_s=start_s, length_s=2.0, size=(160, 120))


def recording_of(path: Path, **changes: Any) -> Recording:
    values: dict[str, Any] = {
        "place": str(path),
        "name": path.name,
        "size": path.stat().st_size,
        "camera": "porch",
        "started_at": START,
        "start_source": "name",
    }
    return Recording(**(values | changes))


def spec_of(settings: Settings, recording: Recording, **wishes: Any) -> ScanSpec:
    wanted: dict[str, Any] = {"decode": "all", "threads": 1}
    return specs_for(settings, [recording], **(wanted | wishes))[recording.camera]
