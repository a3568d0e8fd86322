"""Reading the bucket: events, frames and their pictures, from the objects alone.

`EventReader` is the door. It reads the index where there is one and the objects themselves where there is
none; the answer is the same.
"""

from async_motion.retrieval.model import Event, Filter, Skipped
from async_motion.retrieval.protocols import Bucket
from async_motion.retrieval.reader import EventReader

__all__ = ["Bucket", "Event", "EventReader", "Filter", "Skipped"]
