"""Commands over MQTT, both ways: what may be asked for on `…/{setting}/set`, how a value in force is written.

    setting       payload                                     value
    detection     ON, OFF                                     bool
    sensitivity   low, medium, high                           str
    threshold     0 to 255 grey levels; 0 or auto: automatic  float, None when automatic
    min_area      0 to 100, percent of the picture            float, a share 0..1
    snapshot      PRESS                                       None; nothing is in force
    profile       day, night; auto: by the sun or the picture str; day or night is in force

An automatic threshold is written as 0, so that the topic always holds a number that is in range.
Nothing here is trusted: a payload is bounded in size before it is read, and what cannot be read is never
repeated in full.
"""

from __future__ import annotations

import re

from async_motion.core import names

Value = bool | str | float | None

MAX_BYTES = 64
"""Longer payloads are refused unread: no command needs more than a few characters."""

SNAPSHOT = "snapshot"
"""Not a setting: a command that stores and announces a frame now."""
PRESS = "PRESS"
ON, OFF = "ON", "OFF"
SENSITIVITIES = ("low", "medium", "high")
AUTO = "auto"
PROFILES = ("day", "night", AUTO)
"""What may be asked for of a camera that has a profile for the night."""
THRESHOLD_RANGE = (0.0, 255.0)
"""Grey levels; 0 stands for the threshold that belongs to the sensitivity."""
MIN_AREA_RANGE = (0.0, 100.0)
"""Percent of the picture."""

_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?", re.ASCII)


def parse(setting: str, payload: bytes) -> Value:
    """Return the value that a command asks for. Raises ValueError, with what was expected, for all else."""
    if len(payload) > MAX_BYTES:
        raise ValueError(f"{len(payload)} bytes are too many, expected at most {MAX_BYTES}")
    try:
        text = payload.decode("ascii").strip()
    except UnicodeDecodeError:
        raise ValueError("not plain text") from None
    match setting:
        case "detection":
            return _choice(text, (ON, OFF)) == ON
        case "sensitivity":
            return _choice(text, SENSITIVITIES)
        case "threshold":
            if text.lower() == AUTO:
                return None
            return _number(text, THRESHOLD_RANGE, "grey levels, or auto") or None
        case "min_area":
            return _number(text.removesuffix("%").rstrip(), MIN_AREA_RANGE, "percent of the picture") / 100
        case "snapshot":
            _choice(text, (PRESS,))
            return None
        case names.PROFILE:
            return _choice(text, PROFILES)
        case _:
            known = ", ".join((*names.SETTINGS, SNAPSHOT, names.PROFILE))
            raise ValueError(f"there is no setting of this name, expected one of {known}")


def render(setting: str, value: Value) -> str:
    """Return what the topic of `setting` says while `value` is in force."""
    if isinstance(value, bool):
        return ON if value else OFF
    if isinstance(value, str):
        return value
    if setting == "min_area":
        return f"{(value or 0.0) * 100:.6g}"
    return f"{value or 0.0:.6g}"


def _choice(text: str, choices: tuple[str, ...]) -> str:
    # Case is forgiven: people type these by hand into MQTT tools.
    for choice in choices:
        if text.lower() == choice.lower():
            return choice
    raise ValueError(f"{_shown(text)} is not known, expected {' or '.join(choices)}")


def _number(text: str, bounds: tuple[float, float], unit: str) -> float:
    least, most = bounds
    expected = f"expected a number from {least:g} to {most:g} {unit}"
    if _NUMBER.fullmatch(text) is None:
        raise ValueError(f"{_shown(text)} is not a number, {expected}")
    number = float(text)
    if not least <= number <= most:
        raise ValueError(f"{_shown(text)} is out of range, {expected}")
    return number


def _shown(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:40]}…")
