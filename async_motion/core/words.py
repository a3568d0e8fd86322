"""Words for people."""

from __future__ import annotations


def counted(count: int, one: str, more: str = "") -> str:
    """Return a count with its noun: `1 event`, `2,000 events`. `more` is a plural that takes no s."""
    return f"{count:,} {one if count == 1 else more or one + 's'}"
