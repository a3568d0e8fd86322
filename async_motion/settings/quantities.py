"""Parse numbers, durations, sizes and shares with their units."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping

from pydantic import PlainValidator

from async_motion.settings.values import EnvText, shown


def number_of(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | EnvText):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None


def whole_between(minimum: int, maximum: int, unit: str = "") -> PlainValidator:
    expected = f"expected a whole number from {minimum} to {maximum}{f' {unit}' if unit else ''}"

    def check(value: object) -> int:
        number = number_of(value)
        if number is None or not math.isfinite(number) or number != int(number):
            raise ValueError(f"{shown(value)} is not a whole number, {expected}")
        if not minimum <= number <= maximum:
            raise ValueError(f"{shown(value)} is out of range, {expected}")
        return int(number)

    return PlainValidator(check)


def number_between(minimum: float, maximum: float, unit: str) -> PlainValidator:
    expected = f"expected a number from {minimum:g} to {maximum:g} {unit}"

    def check(value: object) -> float:
        number = number_of(value)
        if number is None or math.isnan(number):
            raise ValueError(f"{shown(value)} is not a number, {expected}")
        if not minimum <= number <= maximum:
            raise ValueError(f"{shown(value)} is out of range, {expected}")
        return number

    return PlainValidator(check)


_SECONDS = {
    "ms": 0.001,
    "s": 1.0,
    "sec": 1.0,
    "min": 60.0,
    "m": 60.0,
    "h": 3600.0,
    "d": 86400.0,
    "w": 604800.0,
}
_BYTES = {"b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12} | {
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
    "tib": 2**40,
}
_QUANTITY = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]+)\s*")


def _quantity(text: str, units: Mapping[str, float]) -> float | None:
    """Return `text` such as ``1h30min`` or ``2 GiB`` in base units; None if it is invalid."""
    total, at = 0.0, 0
    text = text.strip()
    while match := _QUANTITY.match(text, at):
        if match[2].lower() not in units:
            return None
        total += float(match[1]) * units[match[2].lower()]
        at = match.end()
    return total if text and at == len(text) else None


def _measure(
    minimum: str, maximum: str, units: Mapping[str, float], expected: str
) -> Callable[[object], float]:
    low, high = _quantity(minimum, units), _quantity(maximum, units)
    assert low is not None
    assert high is not None

    def check(value: object) -> float:
        amount = _quantity(value, units) if isinstance(value, str) else None
        if amount is None:
            bare = number_of(value)
            if bare is not None and (bare == 0 or units is _BYTES):
                amount = bare
        if amount is None or not math.isfinite(amount):
            why = "has no unit" if number_of(value) is not None else "cannot be read"
            raise ValueError(f"{shown(value)} {why}, {expected}")
        if not low <= amount <= high:
            raise ValueError(f"{shown(value)} is out of range, {expected}")
        return amount

    return check


def duration_of(text: str) -> float | None:
    """Parse a duration such as ``10s``; return seconds, or None if it is invalid or has no unit."""
    return _quantity(text, _SECONDS)


def seconds_between(minimum: str, maximum: str) -> Callable[[object], float]:
    """Return a function that parses a duration into seconds. It raises ValueError outside the range."""
    expected = (
        f"expected a duration from {minimum} to {maximum} with its unit (ms, s, min, h, d), such as 10s"
    )
    return _measure(minimum, maximum, _SECONDS, expected)


def duration_between(minimum: str, maximum: str) -> PlainValidator:
    return PlainValidator(seconds_between(minimum, maximum))


def size_between(minimum: str, maximum: str) -> PlainValidator:
    expected = f"expected a size from {minimum} to {maximum}, such as 500MB or 2GiB"
    measure = _measure(minimum, maximum, _BYTES, expected)
    return PlainValidator(lambda value: int(measure(value)))


def share_of(value: object) -> float | None:
    if isinstance(value, str) and value.strip().endswith("%"):
        try:
            return float(value.strip()[:-1]) / 100
        except ValueError:
            return None
    return number_of(value)


def share_between(minimum: str, maximum: str) -> PlainValidator:
    low, high = share_of(minimum), share_of(maximum)
    assert low is not None
    assert high is not None
    expected = f"expected a share from {minimum} to {maximum}, such as 0.2% or 0.002"

    def check(value: object) -> float:
        share = share_of(value)
        if share is None or math.isnan(share):
            raise ValueError(f"{shown(value)} cannot be read, {expected}")
        if not low <= share <= high:
            raise ValueError(f"{shown(value)} is out of range, {expected}")
        return share

    return PlainValidator(check)


def check_capacity(value: object) -> float | None:
    """Return a number of cores (0.1..1024); None for `auto`, which is measured. Raises ValueError."""
    if value is None or value == "auto":
        return None
    number, expected = number_of(value), "expected auto or a number of cores from 0.1 to 1024"
    if number is None:
        raise ValueError(f"{shown(value)}, {expected}")
    if not 0.1 <= number <= 1024:
        raise ValueError(f"{shown(value)} is out of range, {expected}")
    return number
