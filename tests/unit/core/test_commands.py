"""Commands over MQTT: what is accepted, what is refused, and that parse and render agree."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_motion.core import commands, names


@pytest.mark.parametrize(
    ("setting", "payload", "value"),
    [
        ("detection", b"ON", True),
        ("detection", b"off", False),
        ("sensitivity", b"high", "high"),
        ("sensitivity", b" Low\n", "low"),
        ("threshold", b"25", 25.0),
        ("threshold", b"12.5", 12.5),
        ("threshold", b"0", None),
        ("threshold", b"auto", None),
        ("min_area", b"0.2", 0.002),
        ("min_area", b"0.2%", 0.002),
        ("min_area", b"100", 1.0),
        ("min_area", b"5e-1", 0.005),
        ("snapshot", b"PRESS", None),
        ("profile", b"day", "day"),
        ("profile", b" NIGHT", "night"),
        ("profile", b"auto\n", "auto"),
    ],
)
def test_what_is_asked_for_is_understood(setting: str, payload: bytes, value: commands.Value) -> None:
    assert commands.parse(setting, payload) == value


@pytest.mark.parametrize(
    ("setting", "payload", "expected"),
    [
        ("detection", b"", "expected ON or OFF"),
        ("detection", b"1", "expected ON or OFF"),
        ("sensitivity", b"extreme", "expected low or medium or high"),
        ("threshold", b"256", "out of range, expected a number from 0 to 255"),
        ("threshold", b"-1", "out of range"),
        ("threshold", b"nan", "not a number"),
        ("threshold", b"1_0", "not a number"),
        ("threshold", b"1e999", "out of range"),
        ("min_area", b"inf", "not a number"),
        ("min_area", b"100.1", "out of range, expected a number from 0 to 100 percent"),
        ("min_area", "٣".encode(), "not plain text"),
        ("snapshot", b"ON", "expected PRESS"),
        ("profile", b"ON", "expected day or night or auto"),
        ("colour", b"red", "expected one of detection, sensitivity, threshold, min_area, snapshot, profile"),
        ("detection", b"ON" + b" " * 1000, "1002 bytes, expected at most"),
    ],
)
def test_what_is_refused_says_what_was_expected(setting: str, payload: bytes, expected: str) -> None:
    with pytest.raises(ValueError, match=re.escape(expected)):
        commands.parse(setting, payload)


def test_a_refusal_repeats_little_and_no_control_characters() -> None:
    with pytest.raises(ValueError, match="is not known") as refusal:
        commands.parse("detection", b"\x1b[31m" + b"x" * 50)
    assert len(str(refusal.value)) < 100
    assert str(refusal.value).isprintable()


@given(
    setting=st.sampled_from([*names.SETTINGS, "snapshot", "profile", "other"]), payload=st.binary(max_size=80)
)
def test_no_payload_does_anything_but_parse_or_be_refused(setting: str, payload: bytes) -> None:
    try:
        value = commands.parse(setting, payload)
    except ValueError:
        return
    if isinstance(value, float):
        assert 0 <= value <= 255


@given(st.floats(min_value=0.001, max_value=255))
def test_a_threshold_that_is_written_reads_the_same(threshold: float) -> None:
    text = commands.render("threshold", threshold)
    assert commands.parse("threshold", text.encode()) == pytest.approx(threshold, rel=1e-5)


@given(st.floats(min_value=0, max_value=1))
def test_an_area_that_is_written_reads_the_same(share: float) -> None:
    text = commands.render("min_area", share)
    assert commands.parse("min_area", text.encode()) == pytest.approx(share, rel=1e-5, abs=1e-12)


def test_what_is_in_force_is_written_as_the_commands_are() -> None:
    assert commands.render("detection", True) == "ON"
    assert commands.render("detection", False) == "OFF"
    assert commands.render("sensitivity", "medium") == "medium"
    assert commands.render("threshold", None) == "0"
    assert commands.render("threshold", 25.0) == "25"
    assert commands.render("min_area", 0.002) == "0.2"


def test_the_table_of_settings_is_that_of_the_topics() -> None:
    assert tuple(commands.SETTINGS) == names.SETTINGS


@given(
    setting=st.sampled_from(list(commands.SETTINGS)),
    value=st.none() | st.booleans() | st.integers(-1, 256) | st.floats() | st.text(max_size=8),
)
def test_what_a_camera_can_be_set_to_is_what_a_command_can_say(setting: str, value: commands.Value) -> None:
    try:
        checked = commands.checked({setting: value})[setting]
    except ValueError:
        return
    said = commands.parse(setting, commands.render(setting, checked).encode())
    assert said == pytest.approx(checked, rel=1e-5, abs=1e-6) if isinstance(said, float) else said == checked
