"""The API below the pages: `/api/v1/…`, JSON, described by its own OpenAPI 3.1 document.

All routes are in one table, from which they are served and documented. The pages use the API alone.
"""

from async_motion.web.api.api import Api

__all__ = ["Api"]
