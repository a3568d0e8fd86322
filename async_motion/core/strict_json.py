"""JSON from outside, read at one edge: bounded, strict, with one family of errors.

Python's own reader lets through what breaks its writer later: NaN, infinities, lone surrogates, and nesting
that exhausts the stack. What `parse` returns can be written again by `payloads.encode`.
"""

from __future__ import annotations

import json
import math
from typing import Any

MAX_BYTES = 1 << 20
MAX_DEPTH = 32
MAX_DIGITS = 19
"""An integer with more does not fit into 64 bits."""


def parse(data: bytes | str, *, max_bytes: int = MAX_BYTES) -> Any:
    """Return the value that `data` holds. Raises ValueError, without repeating the data, for all else."""
    if len(data) > max_bytes:
        raise ValueError(f"{len(data)} bytes, expected at most {max_bytes}")
    try:
        text = data.decode() if isinstance(data, bytes) else data
        value = json.loads(text, parse_constant=_constant, parse_int=_whole, parse_float=_number)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except UnicodeDecodeError:
        raise ValueError("not UTF-8") from None
    except json.JSONDecodeError as exc:
        raise ValueError(f"not JSON: {exc.msg} at {exc.pos}") from None
    _check(value)
    return value


def parse_object(data: bytes | str, *, max_bytes: int = MAX_BYTES) -> dict[str, Any]:
    """Return the object that `data` holds. Raises ValueError for all else."""
    value = parse(data, max_bytes=max_bytes)
    if not isinstance(value, dict):
        raise ValueError("expected an object")
    return value


def _check(value: Any) -> None:
    """Raise ValueError for nesting beyond `MAX_DEPTH` and for text that is no UTF-8. It does not recurse."""
    level = [value]
    for _ in range(MAX_DEPTH):
        inner: list[Any] = []
        for item in level:
            if isinstance(item, str):
                _check_text(item)
            elif isinstance(item, dict):
                for key in item:
                    _check_text(key)
                inner.extend(item.values())
            elif isinstance(item, list):
                inner.extend(item)
        if not inner:
            return
        level = inner
    raise ValueError("nested too deeply")


def _check_text(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("holds half of a surrogate pair") from None


def _constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _whole(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise ValueError("a number that is too large")
    return int(digits)


def _number(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError("a number that is too large")
    return number
