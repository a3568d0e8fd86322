"""Writing variables.yaml back: comments and order stay, nothing else changes; complete or not at all."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from async_motion.errors import SettingsConflict, SettingsError
from async_motion.settings import load, load_text, shipped
from async_motion.settings.form import as_written, as_yaml, fields
from async_motion.settings.writing import Change, edited, version_of, write
from tests.support.need import need

PATH = Path("variables.yaml")
SHIPPED = shipped().read_bytes()
CAMERAS = b"""\
# The garden.
cameras:
  porch:  # beside the door
    source: rtsp://user:pass@192.0.2.10/x   # the sub-stream
    detect:
      fps: 5     # enough

# ---- The broker -----
mqtt:
  host: broker   # in the cellar
"""


def changed(content: bytes, place: str, value: Any) -> bytes:
    return edited(content, PATH, [Change(place=tuple(place.split(".")), value=value)])


def comments(content: bytes) -> list[str]:
    return [line.partition("#")[2] for line in content.decode().splitlines() if "#" in line]


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("web.port", 9000), ("mqtt.host", "broker.example"), ("cameras.porch", {"source": "demo:"}),
        ("log.level", "debug"), ("minio.timeout.put", "30s"), ("web.trusted_proxies", ["10.0.0.1"]),
        ("minio.endpoint", None),
    ],
)  # fmt: skip
def test_a_change_of_the_shipped_file_touches_its_line_alone(place: str, value: Any) -> None:
    new = changed(SHIPPED, place, value)
    assert comments(new) == comments(SHIPPED)
    old_lines, new_lines = SHIPPED.decode().splitlines(), new.decode().splitlines()
    assert len([line for line in old_lines if line not in new_lines]) <= 1
    load_text(new, PATH, {})


def test_what_is_added_stands_in_its_section_not_behind_the_next_heading() -> None:
    new = changed(CAMERAS, "cameras.porch.detect.min_area", "0.5%").decode()
    assert new.index("min_area") < new.index("# ---- The broker")
    assert comments(new.encode()) == comments(CAMERAS)
    settings = load_text(new.encode(), PATH, {})
    assert settings.cameras["porch"].detect.min_area == 0.005
    assert settings.cameras["porch"].detect.fps == 5


def test_zones_are_written_in_one_line_each() -> None:
    zones = {"drive": {"polygon": [[0, 0.5], [1, 0.5], [1, 1]], "sensitivity": None, "min_area": "0.1%"}}
    new = changed(CAMERAS, "cameras.porch.detect.zones", zones).decode()
    assert "polygon: [[0, 0.5], [1, 0.5], [1, 1]]" in new
    assert load_text(new.encode(), PATH, {}).cameras["porch"].detect.zones["drive"].min_area == 0.001


@pytest.mark.parametrize("name", ["1", "123", "true", "2026-11-29"])
def test_a_name_that_yaml_reads_as_no_text_is_changed_in_place(name: str) -> None:
    content = f"cameras:\n  {name}:\n    source: 'demo:'   # here\n".encode()
    new = changed(content, f"cameras.{name}.detect.zones.{name}", {"polygon": [[0, 0], [1, 0], [1, 1]]})
    new = changed(new, f"cameras.{name}.detect.zones.{name}.min_area", "1%")
    assert load_text(new, PATH, {}).cameras[name].detect.zones[name].min_area == 0.01
    assert comments(new) == [" here"]
    assert list(load_text(changed(new, f"cameras.{name}", None), PATH, {}).cameras) == ["demo"]


@pytest.mark.parametrize("value", [[], {}], ids=["list", "section"])
def test_a_value_that_is_nested_too_deeply_is_a_problem_of_the_settings(value: Any) -> None:
    for _ in range(5_000):
        value = [value] if isinstance(value, list) else {"a": value}
    with pytest.raises(SettingsError, match="cannot be written"):
        changed(CAMERAS, "cameras.porch.name", value)


def test_a_camera_is_taken_out_whole() -> None:
    two = changed(CAMERAS, "cameras.yard", {"source": "demo:", "name": "Yard"})
    assert list(load_text(two, PATH, {}).cameras) == ["yard", "porch"]
    one = changed(two, "cameras.porch", None)
    assert list(load_text(one, PATH, {}).cameras) == ["yard"]


@pytest.mark.parametrize(
    "text", ["on", "123", "1e3", "null", "~", "a: b", "# x", "2026-11-22", "'", '"', "é\u00a0x", "*a"]
)
def test_a_text_stays_a_text(text: str) -> None:
    assert load_text(changed(CAMERAS, "cameras.porch.name", text), PATH, {}).cameras["porch"].name == text


@settings(max_examples=60, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=1, max_size=40))
def test_any_text_stays_what_it_is(text: str) -> None:
    assert load_text(changed(CAMERAS, "cameras.porch.name", text), PATH, {}).cameras["porch"].name == text


@pytest.mark.parametrize(
    "content",
    [
        b"base: &base {fps: 3}\ncameras:\n  porch: {source: 'demo:', detect: *base}\n",
        b"cameras:\n  porch: &p\n    source: 'demo:'\n    detect: {fps: 3}\n  yard: *p\n",
        b"cameras:\n  a: &a {source: 'demo:'}\n  porch:\n    <<: *a\n    name: x\n",
    ],
)
def test_a_change_that_would_reach_further_is_refused(content: bytes) -> None:
    with pytest.raises(SettingsError, match="in the file itself"):
        changed(content, "cameras.porch.detect.fps", 5)


def test_broken_yaml_is_reported_with_its_line() -> None:
    with pytest.raises(SettingsError, match=r"variables\.yaml:3"):
        changed(b"a: 1\nb: [\n", "web.port", 1)


def test_an_empty_file_takes_changes() -> None:
    for content in (b"", b"# only a comment\n"):
        new = changed(content, "web.port", 9000)
        assert load_text(new, PATH, {}).web.port == 9000
        assert comments(new) == comments(content)


# ---- the file ----


def test_the_file_is_replaced_with_its_mode_and_a_backup(tmp_path: Path) -> None:
    path = tmp_path / "variables.yaml"
    path.write_bytes(CAMERAS)
    path.chmod(0o640)
    write(path, b"web: {port: 9000}\n", version=version_of(CAMERAS))
    assert load(path, {}).web.port == 9000
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert (tmp_path / "variables.yaml.bak").read_bytes() == CAMERAS
    assert sorted(one.name for one in tmp_path.iterdir()) == ["variables.yaml", "variables.yaml.bak"]


def test_a_symbolic_link_stays_one(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "settings.yaml").write_bytes(CAMERAS)
    path = tmp_path / "variables.yaml"
    path.symlink_to(Path("kept", "settings.yaml"))
    write(path, b"web: {port: 9000}\n", version=version_of(CAMERAS))
    assert path.is_symlink()
    assert (kept / "settings.yaml").read_bytes() == b"web: {port: 9000}\n"
    assert (kept / "settings.yaml.bak").read_bytes() == CAMERAS


def test_root_leaves_the_file_to_its_owner(tmp_path: Path) -> None:
    need(os.geteuid() == 0, "root")
    path = tmp_path / "variables.yaml"
    path.write_bytes(SHIPPED)
    path.chmod(0o640)
    os.chown(path, 0, 12346)
    write(path, b"instance: edge1\n", version=version_of(SHIPPED))
    for file in (path, path.with_name("variables.yaml.bak")):
        about = file.stat()
        assert (about.st_uid, about.st_gid, stat.S_IMODE(about.st_mode)) == (0, 12346, 0o640)


def test_a_file_that_has_changed_in_the_meantime_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "variables.yaml"
    path.write_bytes(CAMERAS + b"# another hand\n")
    with pytest.raises(SettingsConflict, match="changed in the meantime"):
        write(path, b"x", version=version_of(CAMERAS))
    assert path.read_bytes().endswith(b"# another hand\n")
    assert [one.name for one in tmp_path.iterdir()] == ["variables.yaml"]


def test_a_new_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "config" / "variables.yaml"
    write(path, CAMERAS, version=version_of(SHIPPED))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_what_cannot_be_written_is_reported(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a file")
    with pytest.raises(SettingsError, match="cannot be written"):
        write(tmp_path / "a" / "variables.yaml", CAMERAS, version="")


# ---- forms ----


def test_every_key_is_a_field_with_help_or_a_name_that_says_it() -> None:
    by_place = {".".join(field.place): field for field in fields()}
    assert by_place["web.port"].hint == "a whole number from 1 to 65535"
    assert by_place["web.port"].default == "8585"
    assert by_place["mqtt.protocol"].choices == ("5", "3.1.1")
    assert by_place["cameras.*.source"].kind == "secret"
    assert by_place["cameras.*.source"].required
    assert "folder of stills" in by_place["cameras.*.source"].help, "the help goes on over lines"
    assert by_place["cameras.*.name"].default == "", "what stands there is an example"
    assert by_place["cameras.*.detect.zones"].kind == "shape"
    assert not [place for place, field in by_place.items() if field.kind == "secret" and field.default]
    assert as_yaml(("web", "port"), "9000") == 9000
    assert as_yaml(("mqtt", "username"), "123") == "123", "any text"
    assert as_yaml(("mqtt", "protocol"), "5") == 5
    assert as_yaml(("web", "trusted_proxies"), "[10.0.0.1]") == ["10.0.0.1"]
    assert as_yaml(("cameras", "porch", "event", "frames"), "{every: 2s}") == {"every": "2s"}
    assert as_yaml(("cameras", "porch", "source"), "5") == "5"
    assert as_yaml(("cameras", "porch", "detect", "min_area"), "0.5%") == "0.5%"
    assert as_yaml(("web", "port"), "") is None
    assert as_written({"every": "2s"}) == "{every: 2s}"
    helped = [field for field in by_place.values() if field.help or field.hint or field.choices]
    assert len(helped) > 0.8 * len(by_place)
