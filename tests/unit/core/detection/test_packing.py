"""Packed arrays come back unchanged; any other input raises ValueError."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from async_motion.core.detection.packing import pack, unpack


def test_arrays_come_back_as_they_were() -> None:
    arrays: dict[str, NDArray[np.generic]] = {
        "plane": np.arange(12, dtype=np.uint8).reshape(3, 4)[:, ::2],
        "means": np.linspace(0, 1, 5, dtype=np.float32),
        "flags": np.array([True, False]),
        "number": np.array(7),
        "empty": np.zeros((0, 3), np.int16),
    }
    back = unpack(pack(arrays))
    assert list(back) == list(arrays)
    for name, array in arrays.items():
        assert back[name].dtype == array.dtype
        assert back[name].shape == array.shape
        assert np.array_equal(back[name], array)
        assert back[name].flags.writeable


def test_nothing_but_numbers() -> None:
    with pytest.raises(ValueError, match="not a numeric type"):
        unpack(zlib.compress(b'[["x", "|O", [1]]]\n12345678'))


@pytest.mark.parametrize(
    "plain",
    [b"", b"[]x", b'[["x", "<f4", [9]]]\n12', b'[["x", "<f4", [-1]]]\n', b"[1]\n", b'[["x", 1, [1]]]\n'],
)
def test_what_was_not_packed_is_told(plain: bytes) -> None:
    with pytest.raises(ValueError, match="not packed arrays"):
        unpack(zlib.compress(plain))


@given(st.binary(max_size=200))
def test_any_bytes(noise: bytes) -> None:
    with pytest.raises(ValueError, match="not packed arrays"):
        unpack(noise)


def test_cut_anywhere() -> None:
    packed = pack({"a": np.arange(100)})
    for length in range(len(packed)):
        with pytest.raises(ValueError, match="not packed arrays"):
            unpack(packed[:length])
