"""Folders that are fetched or installed once and kept in the user's cache."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path


def cached(name: str, fill: Callable[[Path], None]) -> Path:
    """Return the folder `name` of the cache. If it is missing, `fill` makes its content in an empty folder.

    It appears whole or not at all, whichever tests ask for it at the same time.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "async_motion"
    target = cache / name
    if target.is_dir():
        return target
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        fill(Path(folder))
        try:
            Path(folder).rename(target)  # atomic
        except OSError:
            assert target.is_dir(), "another test has made it"
        else:
            Path(folder).mkdir()
    return target
