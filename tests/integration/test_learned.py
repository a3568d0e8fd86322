"""Detectors keep their state over a restart: the real service is stopped, killed and started again."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

from tests.support.ports import free_port
from tests.support.service import Service
from tests.support.video import scene, write_clip

SIZE = (320, 240)
BLIND_S = 60


def settings(source: Path, *, learning: str = f"{BLIND_S}s") -> dict[str, Any]:
    """Return settings with which a camera that must learn reports nothing for a minute."""
    return {
        "instance": "edge1",
        "mqtt": {"port": free_port()},
        "spool": {"path": "spool.db"},
        "web": {"port": free_port()},
        "cameras": {
            "porch": {
                "source": str(source),
                "detect": {"fps": 10, "learning": learning},
                "event": {"confirm": "1/1", "off_delay": "500ms"},
            }
        },
    }


def quiet_clip(path: Path) -> Path:
    return write_clip(path, scene(seconds=5, fps=10, size=SIZE), fps=10)


def busy_clip(path: Path) -> Path:
    """Write the same scene with constant motion from the second frame on."""

    def box(at: float) -> tuple[int, int, int, int] | None:
        along = (at * 0.4) % 2.0
        return (int((along if along < 1 else 2 - along) * 260), 90, 50, 60) if at > 0.05 else None

    return write_clip(path, scene(seconds=10, fps=10, size=SIZE, box=box), fps=10)


def kept(folder: Path) -> list[str]:
    with sqlite3.connect(f"file:{folder / 'spool.db'}?mode=ro", uri=True) as db:
        return [row[0] for row in db.execute("SELECT key FROM memory WHERE key LIKE 'learned/%'")]


def test_motion_right_after_a_restart_is_reported(tmp_path: Path) -> None:
    source = quiet_clip(tmp_path / "porch.mp4")
    folder = tmp_path / "service"
    with Service(settings(source, learning="0s"), folder) as service:
        service.wait_for_log("porch: watching")
        service.wait_for_log("store:")
    assert kept(folder) == ["learned/porch"]

    busy_clip(source)
    with Service(settings(source), folder) as service:
        service.wait_for_log("porch: continuing with the background learned until")
        service.wait_for_log("porch: motion started", within_s=BLIND_S / 2)


def test_what_another_source_has_taught_is_left_alone_with_one_line(tmp_path: Path) -> None:
    source = quiet_clip(tmp_path / "porch.mp4")
    folder = tmp_path / "service"
    with Service(settings(source), folder) as service:
        service.wait_for_log("porch: watching")
    with sqlite3.connect(folder / "spool.db") as db:
        db.execute("INSERT INTO memory VALUES ('learned/gone', x'00')")
    db.close()
    with Service(settings(quiet_clip(tmp_path / "yard.mp4")), folder) as service:
        service.wait_for_log("porch: saved background not used (it belongs to another source)")
        service.wait_for_log("porch: watching", times=2)
    lines = [line for line in service.messages() if "background" in line]
    assert len(lines) == 1
    assert kept(folder) == ["learned/porch"], "what a camera that is gone has learned is forgotten"
