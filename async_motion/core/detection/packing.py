"""Named arrays as bytes and back: a line of JSON with their names, dtypes and shapes, then their data.

The whole is compressed with zlib. Only arrays of numbers can come out, from any input.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Arrays = dict[str, NDArray[np.generic]]

MAX_BYTES = 256 << 20
"""No saved state is larger: input that decompresses to more is refused."""


def pack(arrays: Mapping[str, NDArray[np.generic]]) -> bytes:
    """Return the arrays as bytes. Their dtypes must be numeric or boolean, never objects."""
    whole = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    head = [[name, array.dtype.str, list(array.shape)] for name, array in whole.items()]
    data = b"".join(array.tobytes() for array in whole.values())
    return zlib.compress(json.dumps(head).encode() + b"\n" + data)


def unpack(packed: bytes) -> Arrays:
    """Return the arrays, each with its own memory. Raises ValueError for bytes that `pack` did not write."""
    try:
        unfolding = zlib.decompressobj()
        plain = unfolding.decompress(packed, MAX_BYTES)
        if not unfolding.eof:
            raise ValueError("cut short, or too large")
        head, _, data = plain.partition(b"\n")
        arrays: Arrays = {}
        at = 0
        for name, code, shape in json.loads(head):
            dtype = np.dtype(code)
            if dtype.kind not in "biuf":
                raise ValueError(f"{code} is not a numeric type")
            count = int(np.prod(shape, dtype=np.int64))
            if count < 0 or at + count * dtype.itemsize > len(data):
                raise ValueError("cut short")
            arrays[str(name)] = np.frombuffer(data, dtype, count, at).reshape(shape).copy()
            at += count * dtype.itemsize
    except (zlib.error, TypeError, ValueError) as error:
        raise ValueError(f"not packed arrays: {error}") from error
    return arrays
