"""Set up the log of a command from the settings."""

from __future__ import annotations

from async_motion.logs import SHORTEST_SECRET, log, setup_logging
from async_motion.settings import Settings


def log_as_set(settings: Settings, level: str, *, service: bool = False) -> None:
    """Set up the log from the settings. Levels of single packages apply to the service only.

    Warns about each secret that is too short for the log to hide.
    """
    levels = {name: value for name, value in settings.log.levels.model_dump().items() if value}
    setup_logging(
        level,
        settings.log.format,
        settings.secrets(),
        levels=levels if service else {},
        names=settings.names(),
        background=service,
    )
    for place in sorted({place for place, text in settings.secret_places() if len(text) < SHORTEST_SECRET}):
        log.warning("%s is shorter than %d characters: the log cannot hide it", place, SHORTEST_SECRET)
