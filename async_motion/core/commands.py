"""Commands over MQTT, both ways: what `…/{setting}/set` may ask for, and how a value in force is written.

    setting       payload                                     value
    detection     ON, OFF                                     bool
    sensitivity   low, medium, high                           str
    threshold     0 to 255 grey levels; 0 or auto: automatic  float, None when automatic
    min_area      0 to 100, percent of the image              float, a share 0..1
    snapshot      PRESS                                       None; nothing is in force
    profile       day, night; auto: by the sun or the image   str; day or night is in force

A setting's name is looked up once, in `SETTINGS`. The entry parses the value, and the camera assigns it to
the detector's field of the same name.

An automatic threshold is written as 0, so that the topic always holds a number in range. Payloads are not
trusted: their size is checked before they are parsed, and an invalid one is never repeated in full.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol, get_args

from async_motion.core import names
from async_motion.core.events.day_night import Profile
from async_motion.core.options import Sensitivity

Value = bool | str | float | None

MAX_BYTES = 64
"""Longer payloads are refused without parsing: no command needs more than a few characters."""

SNAPSHOT = "snapshot"
"""Not a setting: a command that stores and announces a frame now."""
PRESS = "PRESS"
ON, OFF = "ON", "OFF"
SENSITIVITIES: Final[tuple[str, ...]] = get_args(Sensitivity)
AUTO = "auto"
PROFILES: Final[tuple[str, ...]] = (*(profile.value for profile in Profile), AUTO)
"""The values that a command to a camera with a night profile may have."""
THRESHOLD_RANGE = (0.0, 255.0)
"""Grey levels; 0 stands for the threshold of the sensitivity."""
MIN_AREA_RANGE = (0.0, 100.0)
"""Percent of the image."""

_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?", re.ASCII)


class Controls(Protocol):
    """What can be changed while a camera runs."""

    def values(self) -> Mapping[str, Value]:
        """Return the values in force, by the names in `SETTINGS`."""

    def adopt(self, values: Mapping[str, Value]) -> None:
        """Apply several settings at once. Raises ValueError if one is invalid, and then changes none."""

    async def snapshot(self) -> None:
        """Accept the newest frame, so that it is stored and announced. Raises AsyncMotionError."""


class Setting(Protocol):
    """One setting: how it is parsed, rendered and checked."""

    def parse(self, text: str) -> Value:
        """Return the value that a command asks for. Raises ValueError with what was expected."""

    def render(self, value: Value) -> str:
        """Return the payload of the setting's topic while `value` is in force."""

    def check(self, value: Value) -> Value:
        """Return `value`, normalized, if a camera can be set to it. Raises ValueError."""


@dataclass(frozen=True, slots=True)
class _OnOff:
    def parse(self, text: str) -> bool:
        return _choice(text, (ON, OFF)) == ON

    def render(self, value: Value) -> str:
        return ON if value else OFF

    def check(self, value: Value) -> bool:
        if not isinstance(value, bool):
            raise ValueError(f"{value!r}: expected true or false")
        return value


@dataclass(frozen=True, slots=True)
class _Choice:
    choices: tuple[str, ...]

    def parse(self, text: str) -> str:
        return _choice(text, self.choices)

    def render(self, value: Value) -> str:
        return str(value)

    def check(self, value: Value) -> str:
        if value not in self.choices:
            raise ValueError(f"expected one of {', '.join(self.choices)}")
        return str(value)


@dataclass(frozen=True, slots=True)
class _Number:
    """A number: payload = value * `scale`; `bounds` are of the payload. `automatic`: 0 and auto mean None."""

    bounds: tuple[float, float]
    unit: str
    scale: float = 1.0
    percent: bool = False
    automatic: bool = False

    def parse(self, text: str) -> float | None:
        if self.automatic and text.lower() == AUTO:
            return None
        if self.percent:
            text = text.removesuffix("%").rstrip()
        number = _number(text, self.bounds, self.unit)
        return None if self.automatic and not number else number / self.scale

    def render(self, value: Value) -> str:
        return f"{float(value or 0.0) * self.scale:.6g}"

    def check(self, value: Value) -> float | None:
        if value is None and self.automatic:
            return None
        low, high = (bound / self.scale for bound in self.bounds)
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise ValueError(f"expected {low:g} to {high:g}")
        return None if self.automatic and not value else float(value)


SETTINGS: Final[Mapping[str, Setting]] = {
    "detection": _OnOff(),
    "sensitivity": _Choice(SENSITIVITIES),
    "threshold": _Number(THRESHOLD_RANGE, "grey levels, or auto", automatic=True),
    "min_area": _Number(MIN_AREA_RANGE, "percent of the image", scale=100.0, percent=True),
}
"""The settings of `names.SETTINGS`, in that order."""

_OTHERS: Final[Mapping[str, Setting]] = {SNAPSHOT: _Choice((PRESS,)), names.PROFILE: _Choice(PROFILES)}


def parse(setting: str, payload: bytes) -> Value:
    """Return the value that a command asks for. Raises ValueError with what was expected."""
    if len(payload) > MAX_BYTES:
        raise ValueError(f"{len(payload)} bytes, expected at most {MAX_BYTES}")
    try:
        text = payload.decode("ascii").strip()
    except UnicodeDecodeError:
        raise ValueError("not plain text") from None
    known = SETTINGS.get(setting) or _OTHERS.get(setting)
    if known is None:
        raise ValueError(f"unknown setting, expected one of {', '.join((*SETTINGS, *_OTHERS))}")
    value = known.parse(text)
    return None if setting == SNAPSHOT else value


def render(setting: str, value: Value) -> str:
    """Return the payload of the topic of `setting` while `value` is in force."""
    return SETTINGS[setting].render(value)


def checked(values: Mapping[str, Value]) -> dict[str, Any]:
    """Return `values`, normalized, if all are valid. Raises ValueError that names the setting at fault."""
    result: dict[str, Any] = {}
    for setting, value in values.items():
        if setting not in SETTINGS:
            raise ValueError(f"{setting}: expected one of {', '.join(SETTINGS)}")
        try:
            result[setting] = SETTINGS[setting].check(value)
        except ValueError as exc:
            raise ValueError(f"{setting}: {exc}") from None
    return result


def _choice(text: str, choices: tuple[str, ...]) -> str:
    # Case is ignored: people type these by hand into MQTT tools.
    for choice in choices:
        if text.lower() == choice.lower():
            return choice
    raise ValueError(f"{_shown(text)} is not known, expected {' or '.join(choices)}")


def _number(text: str, bounds: tuple[float, float], unit: str) -> float:
    low, high = bounds
    expected = f"expected a number from {low:g} to {high:g} {unit}"
    if _NUMBER.fullmatch(text) is None:
        raise ValueError(f"{_shown(text)} is not a number, {expected}")
    number = float(text)
    if not low <= number <= high:
        raise ValueError(f"{_shown(text)} is out of range, {expected}")
    return number


def _shown(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:40]}…")
