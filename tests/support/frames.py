"""The frames of the tests."""

from __future__ import annotations

from datetime import timedelta

import numpy as np

from async_motion.core.model import Frame, Luma
from tests.support.clock import BEGIN


def make_frame(
    at: float = 0.0, *, camera: str = "porch", luma: Luma | None = None, nbytes: int | None = None
) -> Frame:
    """Return a frame captured at `at` seconds, on both clocks. Its BGR image is its luma in grey.

    `nbytes` is the memory that it claims; by default that of its luma and its BGR image.
    """
    plane = np.zeros((2, 2), np.uint8) if luma is None else luma
    return Frame(
        camera=camera,
        captured_at=BEGIN + timedelta(seconds=at),
        monotonic=at,
        luma=plane,
        bgr=lambda: np.repeat(plane[:, :, None], 3, axis=2),
        nbytes=plane.nbytes * 4 if nbytes is None else nbytes,
    )
