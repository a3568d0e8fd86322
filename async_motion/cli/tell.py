"""Lines for people on standard error. What they quote, such as an object key, cannot move the cursor."""

from __future__ import annotations

import sys


def printable(text: str) -> str:
    """Return `text` with every unprintable character escaped, such as a change of writing direction."""
    return "".join(char if char.isprintable() else f"\\u{ord(char):04x}" for char in text)


def tell(line: str) -> None:
    """Print a line for a person."""
    print(printable(line), file=sys.stderr, flush=True)
