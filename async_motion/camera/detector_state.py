"""The detectors' learned state, kept over a restart, so that no camera is blind while it learns again.

    detector ──state (in an executor)──▶ LearnedKeeper ──periodically and at the end──▶ a note in the spool
    detector ◀──restore─────────────────       ◀──at the start──────────────────────────────────╯

- A state is written after `FIRST_SAVE_S`, then every `SAVE_EVERY_S` seconds, and when the cameras have
  stopped: a crash or a power cut costs what was learned since. A camera without new frames is skipped.
- It is a note in the spool: it waits for no fsync, and counts towards none of the bounds. A spool that fails,
  or is too slow, costs the state and nothing else.
- It carries the capture time of its last frame, and its source. A state that is too old, of another source,
  or unreadable is ignored with a line in the log. The detector itself judges the rest: the scene may have
  changed in the hours between.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import logging
from collections.abc import Awaitable, Callable, Coroutine
from datetime import datetime
from typing import Any, Protocol
from urllib.parse import parse_qsl

from async_motion.core.detection.detector import Detector, DetectorSettings
from async_motion.core.names import place_of_url
from async_motion.core.payloads import iso, parse_iso
from async_motion.core.strict_json import parse_object
from async_motion.errors import SpoolError

log = logging.getLogger(__name__)

KEYS = "learned/"
"""The prefix of the spool's keys; the camera's name follows."""
FIRST_SAVE_S = 60.0
SAVE_EVERY_S = 600.0
UNKNOWN_AGE_S = 3600.0
"""The age of a state whose time cannot be right."""
SHORT = 2
"""Values in a URL up to this length, in characters, are no secrets."""
LAST_SAVE_S = 5.0
"""Time limit for writing all states at the end."""


class Unit(Protocol):
    """A running camera."""

    async def learned(self) -> tuple[bytes, datetime] | None:
        """Return the detector's state and the capture time of its last frame; None without a new frame."""


Remember = Callable[[str, bytes], Awaitable[None]]
"""Keeps a value under a key beyond the process. Raises SpoolError."""


def key_of(camera: str) -> str:
    """Return the key of a camera's state."""
    return f"{KEYS}{camera}"


def fingerprint(source: str) -> str:
    """Return what identifies a source, without secrets: a new password does not make a new scene."""
    # A value this short is no secret, but may select one of a recorder's cameras: ?channel=2.
    short = [pair for pair in parse_qsl(source.rpartition("@")[2].partition("?")[2]) if len(pair[1]) <= SHORT]
    return hashlib.sha256(f"{place_of_url(source)} {short}".encode()).hexdigest()[:16]


def wrap(state: bytes, taken_at: datetime, source: str) -> bytes:
    """Return a state with its capture time and source."""
    return json.dumps({"taken_at": iso(taken_at), "source": source}).encode() + b"\n" + state


def recalled(
    camera: str, settings: DetectorSettings, kept: bytes, *, source: str, now: datetime
) -> Detector | None:
    """Return a detector with the kept state; None, with a line in the log, where it does not fit.

    Blocks for some ten milliseconds.
    """
    head, _, state = kept.partition(b"\n")
    try:
        fields = _head(head)
        if fields.get("source") != source:
            raise ValueError("it belongs to another source")
        # A clock that was set back tells no age: such a state counts as old.
        away_s = (now - parse_iso(str(fields["taken_at"]))).total_seconds()
        detector = Detector.restore(settings, state, away_s=away_s if away_s >= 0 else UNKNOWN_AGE_S)
    except ValueError as exc:
        log.info("%s: saved background not used (%s); learning again", camera, exc)
        return None
    log.info("%s: continuing with the background learned until %s", camera, fields["taken_at"])
    return detector


def _head(head: bytes) -> dict[str, Any]:
    """Return what `wrap` wrote before a state. Raises ValueError."""
    try:
        fields = parse_object(head)
    except ValueError as exc:
        raise ValueError(f"the saved state cannot be read: {exc}") from exc
    if "taken_at" not in fields:
        raise ValueError("the saved state cannot be read")
    return fields


class LearnedKeeper:
    """Writes the learned states of the cameras' detectors."""

    def __init__(
        self,
        remember: Remember,
        *,
        sleep: Callable[[float], Coroutine[Any, Any, None]] = asyncio.sleep,
    ) -> None:
        self._remember = remember
        self._sleep = sleep
        self._units: dict[str, tuple[Unit, str]] = {}
        self._unkept: set[str] = set()
        """The cameras whose last state could not be written."""

    def attach(self, camera: str, unit: Unit, source: str) -> None:
        """Keep the state of this camera from now on. `source` is the `fingerprint` of its address."""
        self._units[camera] = (unit, source)

    def forget(self, camera: str) -> None:
        """Forget a camera without writing its state."""
        self._units.pop(camera, None)

    async def detach(self, camera: str) -> None:
        """Write the state of a camera that has stopped, within `LAST_SAVE_S`, and forget the camera."""
        kept = self._units.pop(camera, None)
        if kept is None:
            return
        try:
            async with asyncio.timeout(LAST_SAVE_S):
                await self._save(camera, *kept)
        except TimeoutError:
            log.warning("%s: the spool did not answer; the last learned background is not saved", camera)

    async def run(self) -> None:
        """Write periodically, until cancelled."""
        for seconds in itertools.chain([FIRST_SAVE_S], itertools.repeat(SAVE_EVERY_S)):
            await self._sleep(seconds)
            await self.save()

    async def save(self) -> None:
        """Write what is new of each camera. Never raises SpoolError."""
        for camera, (unit, source) in list(self._units.items()):
            try:
                async with asyncio.timeout(LAST_SAVE_S):
                    await self._save(camera, unit, source)
            except TimeoutError:  # its detector hangs, or the disk: the next save includes it
                log.debug("%s: the learned background is not saved in time", camera)

    async def _save(self, camera: str, unit: Unit, source: str) -> None:
        learned = await unit.learned()
        if learned is None:
            return
        try:
            await self._remember(key_of(camera), wrap(*learned, source))
        except SpoolError as exc:
            # Logged once: the write is retried, and the state written before stays until then.
            log.log(
                logging.DEBUG if camera in self._unkept else logging.WARNING,
                "%s: cannot save the learned background, retrying: %s",
                camera,
                exc,
            )
            self._unkept.add(camera)
        else:
            self._unkept.discard(camera)
