"""Extract commands, links and code from the repository's documents, so that tests run what these promise."""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
SETTINGS = ROOT / "config" / "README.md"

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(path: Path, *languages: str) -> list[str]:
    """Return the contents of a document's code blocks in one of these languages, in order."""
    return [
        code.strip()
        for language, code in _FENCE.findall(path.read_text(encoding="utf-8"))
        if language in languages
    ]


def commands() -> list[str]:
    """Return the shell commands of the README's code blocks, in order, one string a block."""
    return blocks(README, "sh")


if __name__ == "__main__":
    print(commands()[int(sys.argv[1]) - 1])
