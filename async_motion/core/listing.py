"""The result of listing the bucket."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class Listed(NamedTuple):
    """An object in a listing. `size` is in bytes."""

    key: str
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One page of a listing, sorted by key: at most 1,000 objects and folders together.

    `folders` are prefixes that end in a slash, empty unless requested. `next` is the token of the next page,
    None on the last.
    """

    objects: tuple[Listed, ...]
    folders: tuple[str, ...]
    next: str | None
