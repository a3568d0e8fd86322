"""A setting is what the file says, or an error: never another value in silence."""

from __future__ import annotations

from pathlib import Path

import pytest

from async_motion.errors import SettingsError
from async_motion.settings import load, load_text
from async_motion.settings.form import as_yaml
from async_motion.settings.strict_yaml import AmbiguousNumber, read_yaml


@pytest.mark.parametrize("text", ["1:30", "1:30:00", "-1:30", "1:30.5", "0777", "+010", "0_7", "[1, 0777]"])
def test_a_number_that_people_read_otherwise_is_refused(text: str) -> None:
    with pytest.raises(AmbiguousNumber, match="expected a decimal number, or text in quotes") as error:
        read_yaml(text)
    assert text.strip("[]1, ") not in str(error.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0), ("00.5", 0.5), ("0.5", 0.5), ("-12", -12), ("0x1F", 31), ("1_000", 1000),
        ("'1:30'", "1:30"), ("10s", "10s"), ("rtsp://10.0.0.1:554/s", "rtsp://10.0.0.1:554/s"),
        ("{on: true, 007: x, 1_0: y}", {"on": True, "007": "x", "1_0": "y"}),
        ("{a: &a {on: 1}, b: {<<: *a, no: 2}}", {"a": {"on": 1}, "b": {"on": 1, "no": 2}}),
    ],
)  # fmt: skip
def test_what_is_clear_is_read(text: str, value: object) -> None:
    assert read_yaml(text) == value


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("mqtt:\n  host: h\n  port: 1:30:00\n", "v.yaml:3: mqtt.port: a number with a colon"),
        ("web: {port: 017620}", "v.yaml:1: web.port: a number with a leading zero"),
        ("minio: {secret_key: 0777123}", "v.yaml:1: minio.secret_key: a number with a leading zero"),
        ("shutdown_grace: 1:30", "v.yaml:1: shutdown_grace: a number with a colon"),
        ("instance: no", "v.yaml:1: instance: not text"),
        ("instance: 2026-11-22", "v.yaml:1: instance: not text"),
        ("cameras: {a: {source: 'usb:0', name: 1.10}}", "v.yaml:1: cameras.a.name: not text"),
    ],
)
def test_the_file_names_its_line(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "v.yaml"
    path.write_text(content)
    with pytest.raises(SettingsError) as error:
        load(path, {})
    assert said in str(error.value)
    assert "0777123" not in str(error.value)


def test_the_environment_has_the_same_rules(tmp_path: Path) -> None:
    path = tmp_path / "v.yaml"
    path.write_text("instance: a\n")
    cameras = "{on: {source: 'usb:0', detect: {fps: 0010}}}"
    with pytest.raises(SettingsError, match=r"cameras.*a number with a leading zero"):
        load(path, {"ASYNC_MOTION__CAMERAS": cameras})
    loaded = load(path, {"ASYNC_MOTION__CAMERAS": cameras.replace("0010", "10")})
    assert list(loaded.cameras) == ["on"]


def test_a_form_keeps_as_text_what_it_cannot_read() -> None:
    assert as_yaml(("mqtt", "port"), "1:30:00") == "1:30:00"
    assert as_yaml(("mqtt", "port"), "[" * 3000) == "[" * 3000
    assert as_yaml(("mqtt", "port"), "1883") == 1883


MERGES = "\n".join(["a0: &a0 {b: 1}", *(f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}]}}" for n in range(1, 60))])
MANY = f"{{<<: [{', '.join(['*m'] * 1000)}]}}"
SKIPPED = "m: &m\n" + "".join(f" k{n}:\n" for n in range(1000)) + f"x: {MANY}\n"
"""Keys that each merge after the first skips."""
EMPTY = f"e: &e {{}}\nm: &m {MANY.replace('*m', '*e')}\nx: {MANY}\n"
ALIASES = "\n".join(["- &a0 [x]", *(f"- &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 60))])


@pytest.mark.parametrize(
    "text", [MERGES, SKIPPED, EMPTY, ALIASES], ids=["merges", "skipped", "empty", "aliases"]
)
def test_aliases_that_stand_for_billions_of_values_are_refused_at_once(text: str) -> None:
    with pytest.raises(ValueError, match="more than 200000 values"):
        read_yaml(text)
    with pytest.raises(SettingsError, match="more than 200000 values"):
        load_text(text.encode(), Path("v.yaml"), {})


@pytest.mark.parametrize("text", ["&a [*a]", "a: &a {b: *a}"])
def test_an_alias_that_contains_itself_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="contains itself"):
        read_yaml(text)


def test_no_text_is_no_value() -> None:
    assert read_yaml("") is None
