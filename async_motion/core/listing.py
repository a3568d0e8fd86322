"""What a listing of the bucket says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class Listed(NamedTuple):
    """An object in a listing. `size` is in bytes."""

    key: str
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One answer to a listing, sorted: at most 1,000 objects and folders together.

    `folders` are prefixes that end in a slash; there are some only where they were asked for. `next`
    continues the listing, None at its end.
    """

    objects: tuple[Listed, ...]
    folders: tuple[str, ...]
    next: str | None
