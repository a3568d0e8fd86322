"""Logging: readable lines on a terminal, JSON Lines elsewhere; secrets are masked.

    logger ──▶ rendered in the caller's thread ──▶ bounded queue ──▶ writer thread ──▶ standard error

- Modules log through the standard library; structlog renders. A reader that stalls (a frozen terminal, a log
  driver) blocks only the writer thread. Up to `MAX_QUEUED` lines wait; further ones are dropped and counted,
  and the count is logged once the reader continues.
- Secrets are masked in values before these are rendered, so that escaping cannot hide them. Keys and our own
  message texts are not masked: masking a word there that happens to be a password would reveal it. Values
  that are names from the settings (a camera, the bucket) are not masked either, for the same reason.
"""

from __future__ import annotations

import json
import logging
import os
import select
import sys
import threading
import time
from collections import deque
from collections.abc import Collection, Mapping, MutableMapping
from contextlib import suppress
from typing import Any, Final, TextIO
from urllib.parse import quote

import structlog

# At info level these only repeat our own lines, or add noise.
QUIET = ("aiohttp", "asyncio", "libav", "miniopy_async", "mqtt", "paho", "PIL", "urllib3")

MAX_QUEUED: Final = 10_000
"""Maximum lines that wait for the writer, about 2 MB."""
MAX_RECENT: Final = 200
"""Number of warnings kept for the page."""
SHORTEST_SECRET: Final = 4
"""Minimum length, in characters, of a masked secret: masking shorter ones would make the log unreadable."""
MASK: Final = "***"

log = logging.getLogger(__name__)


def setup_logging(
    level: str,
    format: str,  # noqa: A002
    secrets: Collection[str] = (),
    *,
    levels: Mapping[str, str] | None = None,
    names: Collection[str] = (),
    background: bool = False,
) -> None:
    """Send the log to standard error at `level` (debug, info, warning, error) as `format`.

    `format` is auto, text or json; auto is text on a terminal and json elsewhere. `levels` holds other levels
    for packages of async_motion. `secrets` are strings to mask, `names` values never to mask. `background`:
    write through the queue and the writer thread, for the service; otherwise write at once.
    """
    as_text = format == "text" or (format == "auto" and sys.stderr.isatty())
    mask = Mask(secrets, names)
    shared: list[Any] = [structlog.stdlib.add_log_level, structlog.stdlib.ExtraAdder()]
    renderer: Any
    if as_text:
        shared.append(structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False))
        plain = structlog.dev.plain_traceback
        renderer = structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=plain, pad_event_to=0
        )
    else:
        shared += [structlog.stdlib.add_logger_name, structlog.processors.TimeStamper(fmt="iso", utc=True)]
        renderer = structlog.processors.JSONRenderer()
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            mask.values,
            renderer,
        ],
    )
    handler: logging.Handler = logging.StreamHandler(sys.stderr)
    if background:
        with suppress(OSError):  # io.UnsupportedOperation: standard error has no file
            handler = BackgroundHandler(sys.stderr)
    handler.setFormatter(formatter)
    handler.addFilter(mask.arguments)
    recent = RecentWarnings()
    recent.addFilter(mask.arguments)
    root = logging.getLogger()
    for old in root.handlers:
        if isinstance(old, BackgroundHandler):
            old.close()
    # The page shows a service's last warnings; a command has its terminal.
    root.handlers[:] = [handler, recent] if background else [handler]
    root.setLevel(level.upper())
    for name in QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    for component, its_level in (levels or {}).items():
        logging.getLogger(f"async_motion.{component}").setLevel(its_level.upper())
    logging.captureWarnings(True)


def flush_logging(within_s: float = 2.0) -> None:
    """Wait until all lines have been written, for at most `within_s`: the reader may have stalled."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, BackgroundHandler):
            handler.drain(within_s)


def dropped_lines() -> int:
    """Return how many lines were dropped since the start because the reader was too slow."""
    handlers = logging.getLogger().handlers
    return sum(handler.dropped for handler in handlers if isinstance(handler, BackgroundHandler))


def recent_warnings() -> list[tuple[float, str, str, str]]:
    """Return the last lines at warning and above, oldest first: (Unix time, level, logger, text)."""
    handlers = logging.getLogger().handlers
    return [line for handler in handlers if isinstance(handler, RecentWarnings) for line in handler.lines]


class Mask:
    """Replaces secrets, in all their escaped forms, by `***`."""

    def __init__(self, secrets: Collection[str], names: Collection[str] = ()) -> None:
        spellings = {s for secret in secrets if len(secret) >= SHORTEST_SECRET for s in _spellings(secret)}
        # The longest first: a secret may hold another.
        self._spellings = sorted(spellings, key=len, reverse=True)
        self._names = frozenset(names)

    def hide(self, text: str) -> str:
        """Return `text` without any secret."""
        if text in self._names:
            return text
        for spelling in self._spellings:
            text = text.replace(spelling, MASK)
        return text

    def arguments(self, record: logging.LogRecord) -> bool:
        """Mask a record: the values of our own messages, and the whole text of others'. A logging filter."""
        if not self._spellings:
            return True
        ours = record.name.startswith("async_motion")
        if ours and record.args:
            args = record.args
            if isinstance(args, Mapping):
                record.args = {key: self._argument(value) for key, value in args.items()}
            else:
                record.args = tuple(self._argument(value) for value in args)
        elif not ours:
            record.msg, record.args = self.hide(record.getMessage()), ()
        return True

    def values(self, _: Any, __: str, event: MutableMapping[str, Any]) -> dict[str, Any]:
        """Mask what accompanies the message: extra values and tracebacks. A structlog processor."""
        kept = ("event", "level", "logger", "timestamp")
        return {key: value if key in kept else self._argument(value) for key, value in event.items()}

    def _argument(self, value: Any) -> Any:
        if not self._spellings or value is None or isinstance(value, bool | int | float):
            return value
        text = str(value)
        hidden = self.hide(text)
        # Return the original if nothing is masked: other number types must still fit `%.2f`.
        return value if hidden == text else hidden


def _spellings(secret: str) -> set[str]:
    """Return a secret as it is, and as escaped by repr, JSON and URLs."""
    return {
        secret,
        repr(secret)[1:-1],
        json.dumps(secret)[1:-1],
        json.dumps(secret, ensure_ascii=False)[1:-1],
        quote(secret, safe=""),
        quote(secret),
    }


class RecentWarnings(logging.Handler):
    """Keeps the last lines at warning and above, without tracebacks."""

    def __init__(self, max_kept: int = MAX_RECENT) -> None:
        super().__init__(logging.WARNING)
        self.lines: deque[tuple[float, str, str, str]] = deque(maxlen=max_kept)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one line."""
        try:
            text = record.getMessage()
        except Exception:  # noqa: BLE001  # as every handler does: a message that cannot be rendered ends nothing
            self.handleError(record)
            return
        self.lines.append((record.created, record.levelname.lower(), record.name, text))


class BackgroundHandler(logging.Handler):
    """Renders a line in the caller's thread, queues it, and writes it in its own: no caller blocks."""

    def __init__(self, stream: TextIO, max_queued: int = MAX_QUEUED) -> None:
        super().__init__()
        self.dropped = 0
        """Lines dropped because the queue was full."""
        self._fd = os.dup(stream.fileno())
        self._max_queued = max_queued
        self._lines: deque[str] = deque()
        self._changed = threading.Condition()
        self._untold = 0
        self._busy = False
        self._closed = False
        threading.Thread(target=self._write_all, name="log", daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        """Queue a record's line, or drop it when the queue is full."""
        try:
            line = f"{self.format(record)}\n"
        except Exception:  # noqa: BLE001  # as every handler does: a message that cannot be rendered ends nothing
            self.handleError(record)
            return
        with self._changed:
            if len(self._lines) >= self._max_queued:
                self.dropped += 1
                self._untold += 1
                return
            self._lines.append(line)
            self._changed.notify()

    def drain(self, within_s: float) -> bool:
        """Wait until everything is written; return whether it is."""
        deadline = time.monotonic() + within_s
        with self._changed:
            while self._lines or self._busy:
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                self._changed.wait(left)
        return True

    def close(self) -> None:
        """Write the queued lines, for at most 1 s, and end the thread."""
        self.drain(1.0)
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        super().close()

    def _write_all(self) -> None:
        while True:
            with self._changed:
                self._busy = False
                self._changed.notify_all()
                while not self._lines:
                    if self._closed:
                        with suppress(OSError):
                            os.close(self._fd)
                        return
                    self._changed.wait()
                self._busy = True
                batch = "".join(self._lines)
                untold, self._untold = self._untold, 0
                self._lines.clear()
            self._write(batch)
            if untold:
                # Through the logger, so that it is formatted like every other line.
                log.warning("the log's reader did not keep up: %d lines were dropped", untold)

    def _write(self, text: str) -> None:
        data = memoryview(text.encode("utf-8", "backslashreplace"))
        while data:
            try:
                data = data[os.write(self._fd, data) :]
            except BlockingIOError:
                select.select([], [self._fd], [])
            except OSError:
                return  # the reader is gone, or the disk is full
