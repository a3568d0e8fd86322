"""The client library for subscribers: every event once, in order for each camera, after any absence.

`connect` creates a `MotionClient` from addresses and keys; see README.md for the promises and examples.
"""

from async_motion.client.client import MotionClient
from async_motion.client.connect import connect
from async_motion.core.model import FrameInfo
from async_motion.retrieval import Event

__all__ = ["Event", "FrameInfo", "MotionClient", "connect"]
