"""JSON from outside, parsed in one place: bounded and strict, with ValueError as the only error.

Python's parser accepts values that its encoder fails on later: NaN, infinities, lone surrogates, and nesting
that exhausts the stack. `payloads.encode` can encode every value that `parse` returns.
"""

from __future__ import annotations

import json
import math
from typing import Any

MAX_BYTES = 1 << 20
MAX_DEPTH = 32
MAX_DIGITS = 19
"""The maximum length of an integer: a longer one does not fit into 64 bits."""


def parse(data: bytes | str, *, max_bytes: int = MAX_BYTES) -> Any:
    """Return the value of a JSON text. Raises ValueError, whose message does not repeat the data."""
    if len(data) > max_bytes:
        raise ValueError(f"{len(data)} bytes, expected at most {max_bytes}")
    try:
        text = data.decode() if isinstance(data, bytes) else data
        _check_text(text)
        value = _DECODER.decode(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except UnicodeDecodeError:
        raise ValueError("not UTF-8") from None
    except json.JSONDecodeError as exc:
        raise ValueError(f"not JSON: {exc.msg} at {exc.pos}") from None
    # Most texts need no look at each value: only an escape makes half of a surrogate pair, and the depth is
    # at most the number of brackets.
    if "\\u" in text or text.count("[") + text.count("{") >= MAX_DEPTH:
        _check(value)
    return value


def parse_object(data: bytes | str, *, max_bytes: int = MAX_BYTES) -> dict[str, Any]:
    """Return the object of a JSON text. Raises ValueError, also for any other value."""
    value = parse(data, max_bytes=max_bytes)
    if not isinstance(value, dict):
        raise ValueError("expected an object")
    return value


def _check(value: Any) -> None:
    """Raise ValueError for nesting beyond `MAX_DEPTH` and for lone surrogates. Does not recurse."""
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
    raise ValueError(f"{name} is not JSON")


def _whole(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise ValueError("a number that is too large")
    return int(digits)


def _number(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError("a number that is too large")
    return number


_DECODER = json.JSONDecoder(parse_constant=_constant, parse_int=_whole, parse_float=_number)
