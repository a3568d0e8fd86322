"""What the `spool` command does to a spool, whether or not the service runs: look, retry, export."""

from __future__ import annotations

from async_motion.spool import export, look, retry

__all__ = ["export", "look", "retry"]
