"""JSON from outside is parsed or refused with ValueError; no other exception escapes."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from async_motion.core import payloads
from async_motion.core.strict_json import parse, parse_object

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
NUMBERS = st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=20,
)


@given(VALUES)
def test_what_we_write_is_read(value: object) -> None:
    assert parse(json.dumps(value)) == value


@given(st.binary(max_size=200) | st.text(max_size=200))
@example(b"[" * 5000)
@example(b'{"a":' * 5000)
@example(b"NaN")
@example(b'["\\ud800"]')
@example(b'{"\\udfff": 1}')
@example(b"1e999")
@example(b"9" * 5000)
@example(b"\xff")
@example("\ud800")
def test_nothing_but_a_value_error_comes_out_and_what_is_read_can_be_written(data: bytes | str) -> None:
    try:
        value = parse(data)
    except ValueError as exc:
        refusal = str(exc)
    else:
        payloads.encode({"value": value})
        return
    assert len(refusal) < 200


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"[" * 40 + b"]" * 40, "nested too deeply"),
        (b"[" * 32 + b"1" + b"]" * 32, "nested too deeply"),
        (b"[" * 100_000, "nested too deeply"),
        (b"NaN", "NaN is not JSON"),
        (b"-Infinity", "-Infinity is not JSON"),
        (b'"\\ud800"', "surrogate"),
        (b'{"\\udfff": 1}', "surrogate"),
        ('["\ud800"]', "surrogate"),
        (b"1e400", "too large"),
        (b"1" * 40, "too large"),
        (b"{", "not JSON"),
        (b"\xff", "not UTF-8"),
        (b" " * (1 << 21), "expected at most"),
    ],
)
def test_what_is_refused_is_named(data: bytes | str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parse(data)


def test_the_deepest_nesting_is_read() -> None:
    text = "[" * 31 + "1" + "]" * 31
    assert parse(text) == json.loads(text)


def test_an_object_is_an_object() -> None:
    assert parse_object(b'{"a": 1}') == {"a": 1}
    with pytest.raises(ValueError, match="expected an object"):
        parse_object(b"[]")
