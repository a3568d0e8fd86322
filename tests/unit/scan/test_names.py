"""File names of common recorders."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from async_motion.scan.names import camera_in_path, start_in_path

NOON = datetime(2026, 3, 1, 12, 0, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    "path",
    [
        "20260301_120005.mp4",  # Axis, phones
        "20260301120005.mkv",  # Hikvision, Motion
        "porch_00_20260301120005.mp4",  # Reolink
        "porch.20260301_120005.mp4",  # Blue Iris
        "RecM01_20260301_120005_120205_0.mp4",
        "2026-03-01T12-00-05.mp4",  # Shinobi
        "2026-03-01_12-00-05-000000.mp4",  # MediaMTX
        "2026-03-01 12.00.05.mov",
        "2026-03-01 at 12.00.05.mp4",
        "2026-03-01T13-00-05+0100.mp4",
        "cam-2026-03-01T12:00:05Z.mkv",
        "1772366405.mp4",  # Viseron
        "1772366405_6-967003_porch_200-200.mp4",  # Kerberos
        "1772366405000.ts",
        "/srv/2026-03-01/12-00-05.mp4",  # motionEye
        "/ftp/2026-03-01/001/dav/12/12.00.05-12.05.05[M][0@0][0].mp4",  # Dahua
        "2026/03/01/porch/120005.mp4",
        "/media/recordings/2026-03-01/12/porch/00.05.mp4",  # Frigate
    ],
)
def test_the_time_is_found(path: str) -> None:
    assert start_in_path(path, UTC) == NOON


def test_a_milli_or_microsecond_is_kept() -> None:
    assert start_in_path("20260301120005123.mp4", UTC) == NOON.replace(microsecond=123000)
    assert start_in_path("2026-03-01_12-00-05-123456.mp4", UTC) == NOON.replace(microsecond=123456)
    assert start_in_path("20260301_120005-120505.mp4", UTC) == NOON, "the end's time is not a fraction"


@pytest.mark.parametrize("number", ["-1799", "-9930", "+2400", "-0001", "-1234"])
def test_a_number_after_the_time_is_no_offset(number: str) -> None:
    assert start_in_path(f"cam-2026-03-01T12-00-05{number}.mp4", UTC) == NOON


def test_an_hour_may_be_a_folder() -> None:
    assert start_in_path("/record/20260301/12/05.mp4", UTC) == datetime(2026, 3, 1, 12, 5, tzinfo=UTC)


def test_a_name_is_local_to_the_recorder_and_frigate_is_not() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    assert start_in_path("20260301_130005.mp4", berlin) == NOON
    assert start_in_path("20260701_140005.mp4", berlin) == datetime(2026, 7, 1, 12, 0, 5, tzinfo=UTC)
    assert start_in_path("2026-03-01/12/porch/00.05.mp4", berlin) == NOON


@pytest.mark.parametrize(
    "path",
    ["clip.mp4", "20261301_120005.mp4", "20260301_250005.mp4", "00012026.mp4", "/2026-03-01/porch.mp4", ""],
)
def test_an_invalid_time_is_none(path: str) -> None:
    assert start_in_path(path, UTC) is None


@pytest.mark.parametrize(
    ("path", "root", "camera"),
    [
        ("/rec/porch/20260301_120005.mp4", "", "porch"),
        ("/rec/Porch/2026/03/01/x.mp4", "", "porch"),
        ("/rec/other/porch_20260301.mp4", "", "porch"),
        ("/rec/other/porch-2_20260301.mp4", "", "porch-2"),
        ("/rec/other/porches.mp4", "", "other"),
        ("/rec/2026-03-01/12/yard/05.10.mp4", "/rec", "yard"),
        ("/home/me/clips/x.mp4", "/home/me/clips", "clips"),
        ("/rec/Back Yard/2026-03-01/001/dav/12/x.mp4", "/rec", "back-yard"),
        ("x.mp4", "", "recording"),
    ],
)
def test_the_camera_is_a_known_one_or_the_folder(path: str, root: str, camera: str) -> None:
    assert camera_in_path(path, {"porch", "porch-2"}, root) == camera
