"""Read the bucket: events, frames and images made of them, from the objects alone.

`EventReader` is the entry point. It reads the index if there is one, otherwise the objects themselves; the
result is the same.
"""

from async_motion.retrieval.model import Event, Filter, Skipped
from async_motion.retrieval.protocols import Bucket
from async_motion.retrieval.reader import EventReader

__all__ = ["Bucket", "Event", "EventReader", "Filter", "Skipped"]
