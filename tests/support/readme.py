"""The README's commands, read from the README: what it promises is what the tests run."""

from __future__ import annotations

import re
import sys
from pathlib import Path

README = Path(__file__).parents[2] / "README.md"


def commands() -> list[str]:
    """Return the shell commands of the README's code blocks, in their order, one string a block."""
    blocks = re.findall(
        r"^```(?:sh|bash|console)\n(.*?)^```", README.read_text(encoding="utf-8"), re.M | re.S
    )
    return [block.strip() for block in blocks]


if __name__ == "__main__":
    print(commands()[int(sys.argv[1]) - 1])
