"""What the `spool` command does, with or without a running service: look, retry, export."""

from __future__ import annotations

from async_motion.spool import export, look, retry

__all__ = ["export", "look", "retry"]
