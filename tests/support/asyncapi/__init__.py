"""The official AsyncAPI parser, installed from npm with a lock file into the user's cache.

said = judge(text)   {"valid": …, "diagnostics": [{"severity": 0, …}]}
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

from tests.support.cache import cached
from tests.support.need import need

_HERE = Path(__file__).parent
_FILES = ("package.json", "package-lock.json", "check.mjs")


def judge(document: str) -> dict[str, Any]:
    """Return the parser's verdict on a document. Severity 0 is an error, 1 a warning."""
    done = subprocess.run(
        [_program("node"), str(_installed() / "check.mjs")],
        input=document,
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
    )
    said: dict[str, Any] = json.loads(done.stdout)
    return said


def _installed() -> Path:
    """Return the folder with the parser; install it if it is missing."""
    content = b"".join((_HERE / name).read_bytes() for name in _FILES)

    def install(folder: Path) -> None:
        for name in _FILES:
            shutil.copy(_HERE / name, folder)
        command = [_program("npm"), "ci", "--silent", "--no-audit", "--no-fund", "--ignore-scripts"]
        subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=100)

    return cached(f"asyncapi-{hashlib.sha256(content).hexdigest()[:12]}", install)


def _program(name: str) -> str:
    path = shutil.which(name)
    need(path is not None, name)
    assert path is not None
    return path
