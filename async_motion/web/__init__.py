"""Health, metrics and a status page over HTTP."""

from async_motion.web.server import Web

__all__ = ["Web"]
