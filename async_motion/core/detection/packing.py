"""Named arrays as bytes and back: a line of JSON that says their names, dtypes and shapes, then their data.

All of it deflated. Nothing but arrays can come out of it, whatever the bytes hold.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Arrays = dict[str, NDArray[np.generic]]

MAX_BYTES = 256 << 20
"""More than this no state of ours has: bytes that would unfold to more are not ours."""


def pack(arrays: Mapping[str, NDArray[np.generic]]) -> bytes:
    """Return the arrays as bytes. Numbers only: no dtype that holds objects."""
    whole = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    head = [[name, array.dtype.str, list(array.shape)] for name, array in whole.items()]
    data = b"".join(array.tobytes() for array in whole.values())
    return zlib.compress(json.dumps(head).encode() + b"\n" + data)


def unpack(packed: bytes) -> Arrays:
    """Return the arrays, each a copy of its own. Raises ValueError for what `pack` has not made."""
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
                raise ValueError(f"{code} is no kind of number")
            count = int(np.prod(shape, dtype=np.int64))
            if count < 0 or at + count * dtype.itemsize > len(data):
                raise ValueError("cut short")
            arrays[str(name)] = np.frombuffer(data, dtype, count, at).reshape(shape).copy()
            at += count * dtype.itemsize
    except (zlib.error, TypeError, ValueError) as error:
        raise ValueError(f"not packed arrays: {error}") from error
    return arrays
