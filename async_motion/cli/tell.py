"""Lines for people on standard error, and a standard output that is closed or takes no more.

What the lines quote, such as an object key, cannot move the cursor.
"""

from __future__ import annotations

import os
import sys


def printable(text: str) -> str:
    """Return `text` with every unprintable character escaped, such as a change of writing direction."""
    return "".join(char if char.isprintable() else f"\\u{ord(char):04x}" for char in text)


def tell(line: str) -> None:
    """Print a line for a person."""
    print(printable(line), file=sys.stderr, flush=True)


def open_output() -> None:
    """Open /dev/null as standard output if that is closed (`>&-`): Python then has None in its place."""
    if sys.stdout is None:
        sys.stdout = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w", encoding="utf-8", closefd=False)


def flush_output() -> None:
    """Write what standard output still holds; discard it if that fails."""
    try:
        sys.stdout.flush()
    except OSError:
        discard_output()


def discard_output() -> None:
    """Send standard output to /dev/null: else Python's flush at the exit would fail, with a traceback."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)
