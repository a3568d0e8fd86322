"""`check` reports shapes that leave nothing to watch, and names that cannot be told apart."""

from __future__ import annotations

from pathlib import Path

import pytest

from async_motion.errors import SettingsError
from async_motion.settings import Settings, load

WHOLE = "[[0, 0], [1, 0], [1, 1], [0, 1]]"
LEFT = "[[0, 0], [0.5, 0], [0.5, 1], [0, 1]]"
RIGHT = "[[0.5, 0], [1, 0], [1, 1], [0.5, 1]]"


def read(folder: Path, cameras: str) -> Settings:
    path = folder / "v.yaml"
    path.write_text(f"instance: edge1\ncameras: {cameras}\n")
    return load(path, {})


def detect(folder: Path, text: str) -> Settings:
    return read(folder, f"{{porch: {{source: 'demo:', detect: {text}}}}}")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (f"{{masks: [{WHOLE}]}}", "detect.masks: cover the whole image"),
        (f"{{masks: [{LEFT}, {RIGHT}]}}", "detect.masks: cover the whole image"),
        (
            f"{{masks: [{LEFT}], zones: {{drive: {{polygon: [[0.1, 0.1], [0.4, 0.1], [0.4, 0.4]]}}}}}}",
            "detect.zones.drive.polygon: lies under the masks",
        ),
        (
            "{zones: {dot: {polygon: [[0.5, 0.5], [0.501, 0.5], [0.5, 0.502]]}}}",
            "detect.zones.dot.polygon: too small",
        ),
        (
            f"{{zones: {{a-b: {{polygon: {LEFT}}}, a_b: {{polygon: {LEFT}}}}}}}",
            "detect.zones.a_b: differs from `a-b` in - and _ alone",
        ),
    ],
)
def test_a_shape_that_cannot_be_meant(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(SettingsError, match=problem):
        detect(tmp_path, text)


@pytest.mark.parametrize(
    "text",
    [
        f"{{masks: [{LEFT}]}}",
        f"{{masks: [{LEFT}], zones: {{drive: {{polygon: {WHOLE}}}}}}}",
        "{zones: {bow: {polygon: [[0, 0], [1, 1], [1, 0], [0, 1]]}}}",
        "{zones: {corner: {polygon: [[0.98, 0.98], [1, 0.98], [1, 1], [0.98, 1]]}}}",
    ],
)
def test_a_shape_that_can_be_meant(tmp_path: Path, text: str) -> None:
    detect(tmp_path, text)


def test_cameras_that_home_assistant_cannot_tell_apart(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"cameras\.front_door: differs from `front-door` in - and _"):
        read(tmp_path, "{front-door: {source: 'demo:'}, front_door: {source: 'demo:'}}")
    read(tmp_path, "{front-door: {source: 'demo:'}, frontdoor: {source: 'demo:'}}")


@pytest.mark.parametrize("yaml", ["instance: Front Door", "cameras: {'Front Door': {source: 'demo:'}}"])
def test_a_display_name_is_suggested_where_there_is_one(tmp_path: Path, yaml: str) -> None:
    path = tmp_path / "v.yaml"
    path.write_text(yaml + "\n")
    with pytest.raises(SettingsError, match="not a name") as refused:
        load(path, {})
    assert ("`name:`" in str(refused.value.problems)) == yaml.startswith("cameras")
