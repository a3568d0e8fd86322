"""What the cameras' detectors have learned, kept over a restart: no camera is blind while it would learn.

    detector ──state (in an executor)──▶ LearnedKeeper ──now and then, and at the end──▶ the spool's memory
    detector ◀──restore─────────────────       ◀──at the start──────────────────────────────────╯

- A state is written after `FIRST_SAVE_S`, then every `SAVE_EVERY_S` seconds, and when the cameras have
  stopped: a crash or a power cut costs what was learned since. A camera that saw nothing new is left out.
- It is a note in the spool: it waits for no fsync, and counts in none of its bounds. A spool that is in
  trouble, or takes too long, costs the state and nothing else.
- It carries when its last frame was captured, and from which source. What is too old, of another source, or
  cannot be read is left alone with a line in the log; the detector itself judges the rest, since hours may
  have changed the scene.
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
from async_motion.errors import SpoolError

log = logging.getLogger(__name__)

KEYS = "learned/"
"""What the spool's keys begin with; the camera's name follows."""
FIRST_SAVE_S = 60.0
SAVE_EVERY_S = 600.0
UNKNOWN_AGE_S = 3600.0
"""What a state counts as whose time cannot be right."""
SHORT = 2
"""Characters of a value in an address up to which it hides nothing."""
LAST_SAVE_S = 5.0
"""Patience with all states together, at the end."""


class Unit(Protocol):
    """A camera that runs."""

    async def learned(self) -> tuple[bytes, datetime] | None:
        """Return the detector's state and when its last frame was captured; None where nothing is new."""


Remember = Callable[[str, bytes], Awaitable[None]]
"""Keeps a value under a key beyond the process. Raises SpoolError."""


def key_of(camera: str) -> str:
    """Return under which key a camera's state is kept."""
    return f"{KEYS}{camera}"


def fingerprint(source: str) -> str:
    """Return what tells sources apart, without a secret: another password is no other scene."""
    # What is so short is no secret, but may say which of a recorder's cameras it is: ?channel=2.
    short = [pair for pair in parse_qsl(source.rpartition("@")[2].partition("?")[2]) if len(pair[1]) <= SHORT]
    return hashlib.sha256(f"{place_of_url(source)} {short}".encode()).hexdigest()[:16]


def wrap(state: bytes, taken_at: datetime, source: str) -> bytes:
    """Return a state with what must be known of it."""
    return json.dumps({"taken_at": iso(taken_at), "source": source}).encode() + b"\n" + state


def recalled(
    camera: str, settings: DetectorSettings, kept: bytes, *, source: str, now: datetime
) -> Detector | None:
    """Return a detector that knows what was kept; None, with a line in the log, where that does not fit.

    Blocks for some ten milliseconds.
    """
    head, _, state = kept.partition(b"\n")
    try:
        said = json.loads(head)
        if not isinstance(said, dict) or "taken_at" not in said:
            raise ValueError("the kept state cannot be read")
        if said.get("source") != source:
            raise ValueError("it is of another source")
        # A clock that was set back says nothing: such a state is old.
        away_s = (now - parse_iso(str(said["taken_at"]))).total_seconds()
        detector = Detector.restore(settings, state, away_s=away_s if away_s >= 0 else UNKNOWN_AGE_S)
    except ValueError as exc:
        log.info("%s: what was learned before is not used (%s); learning again", camera, exc)
        return None
    log.info("%s: goes on with what was learned until %s", camera, said["taken_at"])
    return detector


class LearnedKeeper:
    """Writes what the cameras' detectors know."""

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
        """Keep what this camera learns, from now on. `source` is the `fingerprint` of where it looks."""
        self._units[camera] = (unit, source)

    async def detach(self, camera: str) -> None:
        """Write what a camera that has stopped has learned, within `LAST_SAVE_S`, and forget it."""
        kept = self._units.pop(camera, None)
        if kept is None:
            return
        try:
            async with asyncio.timeout(LAST_SAVE_S):
                await self._save(camera, *kept)
        except TimeoutError:
            log.warning("%s: the spool did not answer; what was learned last is not kept", camera)

    async def run(self) -> None:
        """Write now and then, until cancelled."""
        for seconds in itertools.chain([FIRST_SAVE_S], itertools.repeat(SAVE_EVERY_S)):
            await self._sleep(seconds)
            await self.save()

    async def save(self) -> None:
        """Write what is new of each camera. Never raises SpoolError."""
        for camera, (unit, source) in list(self._units.items()):
            await self._save(camera, unit, source)

    async def _save(self, camera: str, unit: Unit, source: str) -> None:
        learned = await unit.learned()
        if learned is None:
            return
        try:
            await self._remember(key_of(camera), wrap(*learned, source))
        except SpoolError as exc:
            # Logged once: it is tried again, and the state that is there stays until then.
            log.log(
                logging.DEBUG if camera in self._unkept else logging.WARNING,
                "%s: what was learned would not survive a restart now: %s",
                camera,
                exc,
            )
            self._unkept.add(camera)
        else:
            self._unkept.discard(camera)
