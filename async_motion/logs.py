"""Logging: readable lines on a terminal, one JSON object a line elsewhere; secrets never leave.

Modules log through the standard library; structlog renders. Whatever the settings hold as a secret is
also replaced in every rendered value, as a second fence behind the adapters that never put it there.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Collection
from typing import Any

import structlog

# What these say at info is our own business told twice, or a peer's noise.
QUIET = ("aiohttp", "asyncio", "libav", "miniopy_async", "mqtt", "paho", "PIL", "urllib3")


def setup_logging(level: str, format: str, secrets: Collection[str] = ()) -> None:  # noqa: A002
    """Send the log to standard error at `level` (debug, info, warning, error) as `format`.

    `format` is auto, text or json; auto is text on a terminal and json elsewhere. `secrets` are strings
    that must never be seen; those under four characters are left alone, they would blot out half the log.
    """
    as_text = format == "text" or (format == "auto" and sys.stderr.isatty())
    hidden = sorted((s for s in secrets if len(s) >= 4), key=len, reverse=True)

    def hide(_: Any, __: str, rendered: Any) -> Any:
        for secret in hidden:
            rendered = rendered.replace(secret, "***")
        return rendered

    shared: list[Any] = [structlog.stdlib.add_log_level, structlog.stdlib.ExtraAdder()]
    last: list[Any]
    if as_text:
        shared.append(structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False))
        plain = structlog.dev.plain_traceback
        renderer = structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=plain, pad_event_to=0
        )
        last = [renderer]
    else:
        shared += [structlog.stdlib.add_logger_name, structlog.processors.TimeStamper(fmt="iso", utc=True)]
        last = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last, hide],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    logging.captureWarnings(True)
